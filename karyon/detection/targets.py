"""What torchvision's detectors learn of a label image."""

import torch
from torch import Tensor

from karyon.instances import Instances


def detection_targets(labels: Tensor, masks: bool) -> dict[str, Tensor]:
    """What torchvision's detectors learn of a label image.

    Args:
        labels: integers (H, W), 1..N without gaps.
        masks: whether they learn masks too.

    Returns:
        ``boxes``, float32 (N, 4), x0, y0, x1, y1 in px, half-open, so that one pixel has an area; ``labels``, int64
        (N,), all 1; with masks ``masks``, uint8 (N, H, W).

    >>> detection_targets(torch.tensor([[0, 1, 1], [0, 0, 1]]), masks=False)["boxes"]
    tensor([[1., 0., 3., 2.]])
    """
    boxes = true_boxes(labels).to(labels.device)
    ids = torch.arange(1, len(boxes) + 1, device=labels.device)
    targets = {"boxes": boxes, "labels": torch.ones_like(ids)}
    if masks:
        targets["masks"] = (labels == ids[:, None, None]).byte()
    return targets


def true_boxes(labels: Tensor) -> Tensor:
    """The boxes of the objects of a label image (H, W), float32 (N, 4), x0, y0, x1, y1 in px, half-open, on the CPU."""
    return torch.from_numpy(Instances.from_labels(labels.cpu().numpy()).boxes).float()

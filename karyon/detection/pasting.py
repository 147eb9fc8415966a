"""From a mask in each object's box to one label image."""

import torch
from torch import Tensor

from karyon.instances import Instances


# Half precision, in which a trainer may run its steps, is too coarse for positions.
@torch.autocast("cpu", enabled=False)  # type: ignore[untyped-decorator]
def paste_masks(
    boxes: Tensor, scores: Tensor, masks: Tensor, size: tuple[int, int], mask_threshold: float, min_area: int
) -> Instances:
    """Resizes masks to their boxes and lays them over each other; where two overlap, the surer one owns the pixel.

    A mask's cells divide its box evenly, and a pixel takes the bilinear mean of the cells around its centre; beyond the
    box they count as 0. So a mask of as many cells as its box has pixels is pasted as it is. Torchvision's
    `paste_masks_in_image` samples in the same way, but only after it has moved the box's edges, grown by one cell, to
    whole pixels, by up to one pixel each; here they stay where they are.

    Of several objects that reach the threshold in a pixel, the one with the greatest product of score and mask
    probability there takes it, of equals the first. Then small objects are dropped, and their pixels are background.

    Each object is worked on within its own box, so that memory is a few images whatever the number of objects.

    Args:
        boxes: float (N, 4), x0, y0, x1, y1 in px, where pixel k reaches from k to k + 1; may lie beyond the image.
        scores: (N,) in [0, 1].
        masks: float (N, m, m), probability, rows from top to bottom.
        size: height and width of the image, px.
        mask_threshold: pixels of at least this probability, which must be positive, belong to an object.
        min_area: smaller objects are dropped, px.

    >>> boxes = torch.tensor([[0.0, 0.0, 2.0, 1.0], [1.0, 0.0, 4.0, 1.0]])
    >>> paste_masks(boxes, torch.tensor([0.9, 0.8]), torch.ones(2, 1, 1), (1, 4), 0.5, min_area=1).labels
    array([[1, 1, 2, 2]], dtype=int32)
    """
    boxes, scores, masks = boxes.detach().cpu().float(), scores.detach().cpu().float(), masks.detach().cpu().float()
    labels = torch.zeros(size, dtype=torch.int32)
    surest = torch.zeros(size)
    for number, (box, score, mask) in enumerate(zip(boxes.tolist(), scores.tolist(), masks, strict=True), start=1):
        rows, from_rows = _sampling(box[1], box[3], mask.shape[0], size[0])
        columns, from_columns = _sampling(box[0], box[2], mask.shape[1], size[1])
        probability = from_rows @ mask @ from_columns.T
        taken = (probability >= mask_threshold) & (score * probability > surest[rows, columns])
        labels[rows, columns][taken] = number
        surest[rows, columns][taken] = score * probability[taken]
    area = torch.bincount(labels.ravel(), minlength=len(boxes) + 1)
    kept = area >= max(min_area, 1)
    kept[0] = False
    return Instances.from_labels((kept.cumsum(0) * kept)[labels].numpy(), scores[kept[1:]].numpy())


def _sampling(start: float, stop: float, cells: int, length: int) -> tuple[slice, Tensor]:
    """The pixels of an axis that a box's cells reach, and each cell's weight in each of them, (pixels, cells)."""
    if stop <= start:
        return slice(0, 0), torch.zeros(0, cells)
    cell = (stop - start) / cells
    # Half a cell beyond the box, to where the outermost cells have faded to 0.
    first, last = (min(max(round(edge), 0), length) for edge in (start - cell / 2, stop + cell / 2))
    centres = (torch.arange(first, last) + 0.5 - start) / cell - 0.5
    return slice(first, last), (1 - (centres[:, None] - torch.arange(cells)).abs()).clamp_min(0)

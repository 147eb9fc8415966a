"""The knob that every dense decoder has: objects grow by so many px, and stop where another one begins."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from lightning_modules.representations import border, distance, flow, star
from lightning_modules.representations.foreground import ForegroundDecoder, WatershedDecoder


def foreground_maps(labels: Tensor) -> Tensor:
    return (labels > 0)[None].float()


def border_maps(labels: Tensor) -> Tensor:
    target = border.encode(labels[None])[0]
    return torch.stack([target == k for k in range(3)]).float()


def distance_maps(labels: Tensor) -> Tensor:
    return torch.cat([foreground_maps(labels), distance.encode(labels[None])])


DECODERS = [
    (ForegroundDecoder, foreground_maps),
    (WatershedDecoder, foreground_maps),
    (border.BorderDecoder, border_maps),
    (distance.DistanceDecoder, distance_maps),
    (star.StarDecoder, lambda labels: star.encode(labels[None])[0]),
    (flow.FlowDecoder, lambda labels: flow.encode(labels[None])[0]),
]


@pytest.mark.parametrize(("decoder", "maps"), DECODERS, ids=lambda part: getattr(part, "__name__", ""))
def test_objects_grow_until_they_meet(decoder: Callable[..., Any], maps: Callable[[Tensor], Tensor]) -> None:
    # Two squares, 3 px apart, and a third one far away.
    labels = torch.zeros(30, 60, dtype=torch.int64)
    for number, (top, left) in enumerate([(8, 5), (8, 20), (8, 42)], start=1):
        labels[top : top + 12, left : left + 12] = number
    plain, grown = (decoder(dilation=pixels)(maps(labels)) for pixels in (0, 2))
    assert len(plain) == len(grown) == 3
    away = ndimage.distance_transform_edt(plain.labels == 0)
    near, before = grown.labels.numpy() > 0, plain.labels.numpy()
    assert np.array_equal(near, away <= 2)
    # Each pixel went to the object that it is nearest to.
    for number in range(1, 4):
        others = ndimage.distance_transform_edt((before == 0) | (before == number))
        assert (others[grown.labels == number] >= away[grown.labels == number]).all()
    assert torch.equal(grown.labels[plain.labels > 0], plain.labels[plain.labels > 0])
    # The scores still go with the objects.
    assert torch.isfinite(grown.scores).all() and len(grown.scores) == 3

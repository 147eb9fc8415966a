import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from karyon.losses import BinaryCrossEntropy, SoftDice, SoftIoU, Sum

LOSSES = [BinaryCrossEntropy(), SoftDice(), SoftIoU(), Sum([BinaryCrossEntropy(), SoftDice()])]


def logits_and_target(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 1, 5, 7, generator=generator)
    return logits, (torch.rand(2, 1, 5, 7, generator=generator) > 0.6).float()


@given(st.integers(0, 10_000))
def test_formulas(seed: int) -> None:
    logits, target = logits_and_target(seed)
    x = logits.sigmoid()
    dice = 1 - (2 * (x * target).sum() + 1) / (x.sum() + target.sum() + 1)
    iou = 1 - (x * target).sum() / (x + target - x * target).sum()
    entropy = functional.binary_cross_entropy(x, target)
    torch.testing.assert_close(SoftDice(1.0)(logits, target), dice)
    torch.testing.assert_close(SoftIoU()(logits, target), iou)
    torch.testing.assert_close(BinaryCrossEntropy()(logits, target), entropy)
    both = Sum([SoftDice(1.0), SoftIoU()], [0.25, 2.0])
    torch.testing.assert_close(both(logits, target), 0.25 * dice + 2 * iou)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_falls_from_wrong_to_right(loss: torch.nn.Module) -> None:
    _, target = logits_and_target(0)
    right = (target * 2 - 1) * 20
    assert loss(right, target).item() == pytest.approx(0, abs=1e-4)
    assert loss(-right, target).item() > 0.9


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_an_empty_target_still_teaches(loss: torch.nn.Module) -> None:
    _, target = logits_and_target(0)
    target[0] = 0  # one of two images is empty
    logits = torch.zeros_like(target, requires_grad=True)
    loss(logits, target).backward()
    assert logits.grad is not None
    assert (logits.grad[0] > 0).all()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_half_precision_does_not_overflow(loss: torch.nn.Module) -> None:
    logits = torch.full((1, 1, 600, 600), 10.0, dtype=torch.float16)
    assert loss(logits, torch.ones_like(logits)).item() == pytest.approx(0, abs=1e-3)


def test_sum_refuses_a_missing_weight() -> None:
    with pytest.raises(ValueError, match="2 losses and 1 weights"):
        Sum([SoftDice(), SoftIoU()], [1.0])

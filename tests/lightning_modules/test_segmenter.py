from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from echo_model import loader, make_trainer
from hostile_bundles import Call
from lightning import seed_everything
from torch import nn

from karyon.batch import Batch, Sample, collate
from karyon.errors import DataError
from karyon.inference.blocks import Blocks
from karyon.inference.rotations import VIEWS, turn, turn_back
from karyon.losses import BinaryCrossEntropy, SoftDice
from karyon.metrics.membrane import MembraneScores
from karyon.metrics.segmentation import segmentation_metrics
from karyon.networks.unet import UNet
from karyon.representations.foreground.loss import Foreground
from karyon.representations.foreground.postprocessing import ForegroundPostprocessing
from lightning_modules.segmenter import DenseSegmenter


def discs(name: str, size: tuple[int, int], original: tuple[int, int] | None = None, image_type: str = "") -> Sample:
    """Two bright discs; the original is the same scene at another size."""

    def scene(height: int, width: int) -> np.ndarray:
        rows, columns = np.mgrid[:height, :width]
        labels = np.zeros((height, width), np.int64)
        for k, (y, x) in enumerate([(0.3, 0.3), (0.7, 0.6)], start=1):
            labels[(rows / height - y) ** 2 + (columns / width - x) ** 2 < 0.15**2] = k
        return labels

    labels, truth = scene(*size), scene(*(original or size))
    return Sample(
        name=name,
        image=torch.from_numpy(labels > 0).float()[None].repeat(3, 1, 1),
        size=original or size,
        labels=torch.from_numpy(labels),
        image_type=image_type,
        source=(truth > 0).astype(np.uint8) * 255,
        truth=torch.from_numpy(truth),
    )


class Brightness(nn.Module):
    """Already knows: bright is foreground."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(20.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.gain * (image[:, :1] - 0.5)


def segmenter(network: nn.Module, loss: nn.Module | None = None, **kwargs: object) -> DenseSegmenter:
    return DenseSegmenter(network, Foreground(loss or BinaryCrossEntropy()), ForegroundPostprocessing(), **kwargs)  # type: ignore[arg-type]


def evaluated(model: DenseSegmenter, *samples: Sample, batch_size: int = 2, stage: str = "validate") -> dict:
    return getattr(make_trainer(), stage)(model, loader(samples, batch_size), verbose=False)[0]


def test_predictions_have_the_original_size_and_the_scores_of_a_direct_computation() -> None:
    samples = [discs("a", (64, 64), (100, 80), "round"), discs("b", (64, 64), image_type="other")]
    model = segmenter(Brightness())
    predictions = model.predict_step(collate(samples))
    assert [prediction.instances.labels.shape for prediction in predictions] == [(100, 80), (64, 64)]
    assert [len(prediction.instances) for prediction in predictions] == [2, 2]
    logged = evaluated(model, *samples, stage="test")
    metrics = segmentation_metrics("test/")
    for prediction, sample in zip(predictions, samples, strict=True):
        metrics.update(prediction.instances.labels, sample.truth, name=sample.name, image_type=sample.image_type)
    for key, value in metrics.compute().items():
        assert logged[key] == pytest.approx(float(value)), key
    assert logged["test/dsb_score/other"] == 1


def test_one_option_averages_over_the_eight_views() -> None:
    network = UNet(widths=(4, 8), dropout=(0.0, 0.0)).eval()
    sample = discs("a", (24, 32), (48, 64))
    once, averaged = segmenter(network), segmenter(network, rotations=True)

    def answer(image: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(image.copy())).sigmoid().numpy()

    maps = np.mean([turn_back(answer(turn(sample.image[None].numpy(), *view)), *view) for view in VIEWS], axis=0)
    expected = once.postprocessing.resize(maps[0], (48, 64))
    probabilities = [model.predict_step(collate([sample]))[0].probability for model in (once, averaged)]
    np.testing.assert_allclose(probabilities[1], expected[0], atol=1e-6)
    assert not np.allclose(probabilities[0], expected[0])
    # Validation and test take the same way.
    found = averaged.postprocessing(expected)
    assert evaluated(averaged, sample, stage="test")["test/objects_found"] == len(found)


def test_small_objects_are_looked_at_twice() -> None:
    labels = np.kron(np.arange(1, 9).reshape(2, 4), np.pad(np.ones((6, 6), int), 7))
    truth = torch.from_numpy(labels)
    sample = Sample("a", (truth > 0).float().expand(3, -1, -1), (40, 80), truth, "", labels, truth)
    network, seen = Brightness(), []
    network.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[-2:])))
    # Discs of an area of 6 x 6 px, to be seen at three times their diameter.
    model = segmenter(network, rescale_to=6 * (36 / np.pi) ** 0.5)
    (prediction,) = model.predict_step(collate([sample]))
    assert seen == [(40, 80), (120, 240)]
    assert prediction.instances.labels.shape == (40, 80) and len(prediction.instances) == 8
    assert evaluated(model, sample)["val/ap50"] == 1


def test_further_metrics_see_probabilities() -> None:
    logged = evaluated(segmenter(Brightness(), metrics=[MembraneScores(threshold=0.3)]), discs("a", (64, 64)))
    assert logged["val/v_rand"] == logged["val/v_rand_fixed"] == logged["val/dsb_score"] == 1


def test_metrics_start_anew_each_epoch() -> None:
    model = segmenter(Brightness())
    first, second = (evaluated(model, discs("a", (64, 64))) for _ in "ab")
    assert first == second and first["val/objects_true"] == 2


@pytest.mark.parametrize(
    ("channels_last", "precision"), [(False, "32-true"), pytest.param(True, "bf16-mixed", marks=pytest.mark.slow)]
)
def test_training_learns_four_discs_by_heart(channels_last: bool, precision: str) -> None:
    seed_everything(0)
    samples = [discs(str(k), (32, 32)) for k in range(2)]
    network = UNet(widths=(8, 16), dropout=(0.0, 0.0))
    model = segmenter(network, channels_last=channels_last, optimizer=lambda p: torch.optim.Adam(p, lr=0.02))
    fitting = make_trainer(max_epochs=25, precision=precision, check_val_every_n_epoch=25)
    fitting.fit(model, loader(samples, 2), loader(samples, 2))
    assert fitting.callback_metrics["val/iou"] > 0.9
    assert model.network.output.weight.is_contiguous(memory_format=model.memory_format)


def test_the_scheduler_is_stepped_and_parameters_of_inference_stay_out_of_checkpoints(tmp_path) -> None:
    model = segmenter(
        Brightness(),
        optimizer=lambda p: torch.optim.SGD(p, lr=1.0),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
    )
    fitting = make_trainer(max_epochs=3)
    fitting.fit(model, loader([discs("a", (8, 8))]))
    assert fitting.optimizers[0].param_groups[0]["lr"] == 0.125
    fitting.save_checkpoint(tmp_path / "x.ckpt")
    checkpoint = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert list(checkpoint["state_dict"]) == ["network.gain"]
    assert not checkpoint.get("hyper_parameters")


def test_images_without_annotation_are_predicted_but_not_trained_on() -> None:
    sample = discs("bare", (8, 8))
    batch = collate([Sample(sample.name, sample.image, sample.size)])
    model = segmenter(Brightness())
    assert len(model.predict_step(batch)) == 1
    with pytest.raises(DataError, match="bare: nothing is annotated"):
        model.training_step(batch)


def test_moving_a_batch_leaves_the_originals_behind() -> None:
    batch = collate([discs("a", (8, 8), (16, 16))]).to(torch.device("meta"))
    assert isinstance(batch, Batch)
    assert batch.image.device.type == "meta"
    assert batch.labels is not None and batch.labels.device.type == "meta"
    assert batch.truths[0] is not None and batch.truths[0].device.type == "cpu"


def test_blocks_find_and_score_what_one_pass_does_and_refuse_resized_images() -> None:
    samples = [discs("a", (96, 128), image_type="image_type"), discs("b", (96, 128))]
    whole, blocks = segmenter(Brightness()), segmenter(Brightness(), blocks=Blocks(32, 32))
    for one, other in zip(*(model.predict_step(collate(samples)) for model in (whole, blocks)), strict=True):
        assert one.name == other.name and one.size == other.size
        assert (one.probability == other.probability).all()
        assert ((one.instances.labels > 0) == (other.instances.labels > 0)).all()
        assert len(one.instances) == len(other.instances) == 2
    expected = evaluated(whole, *samples)
    # No block has a loss.
    assert expected.pop("val/loss") == expected.pop("val/loss/image_type") >= 0
    assert evaluated(blocks, *samples) == expected and expected["val/dsb_score"] == 1
    with pytest.raises(DataError, match="a was resized, and blocks and a diameter keep the original size: leave out"):
        blocks.predict_step(collate([discs("a", (64, 64), (96, 128))]))


def test_the_loss_of_an_evaluation_is_the_mean_over_images_whatever_their_batches() -> None:
    samples = [discs("a", (64, 64)), discs("b", (64, 64))]
    samples[1].image.mul_(0.4)
    model = segmenter(Brightness(), SoftDice())
    both, apart = (evaluated(model, *samples, batch_size=size)["val/loss"] for size in (2, 1))
    alone = [evaluated(model, sample)["val/loss"] for sample in samples]
    assert both == pytest.approx(apart, abs=1e-7) == pytest.approx(sum(alone) / 2, abs=1e-7)
    # Of the two together Dice's loss would be another.
    batch = collate(samples)
    assert abs(model.representation.loss(model(batch.image), batch.labels).item() - both) > 1e-3


def test_a_checkpoint_of_a_stranger_runs_nothing_and_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable
) -> None:
    model, path = segmenter(Brightness()), tmp_path / "best.ckpt"
    parts = {"representation": model.representation, "postprocessing": model.postprocessing}
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "theirs.py").write_text("from pathlib import Path\nPath('executed').touch()\ndef build(*args): ...\n")
    monkeypatch.chdir(tmp_path)
    # Lightning imports what stands there, and calls it.
    torch.save({"state_dict": {}, "hyper_parameters": {"_instantiator": "theirs.build"}}, path)
    with refused(path, "is of another architecture"):
        DenseSegmenter.load_from_checkpoint(path, network=Brightness(), **parts)
    with refused(path, "does not hold the arguments of DenseSegmenter", "'network'", "karyon.load_model"):
        DenseSegmenter.load_from_checkpoint(path)
    torch.save({"state_dict": {}, "callbacks": Call(exec, "import theirs")}, path)
    with refused(path, "is not a readable checkpoint of tensors alone"):
        DenseSegmenter.load_from_checkpoint(path, network=Brightness(), **parts)
    assert not (tmp_path / "executed").exists()

    torch.save({"state_dict": {"network.gain": torch.tensor(7.0)}}, path)
    loaded = DenseSegmenter.load_from_checkpoint(path, network=Brightness(), **parts)
    assert loaded.network.gain == 7

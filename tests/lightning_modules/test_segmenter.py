import numpy as np
import pytest
import torch
from lightning import Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

from datamodules.sample import Batch, DataError, Sample, collate
from lightning_modules.blocks import Blockwise
from lightning_modules.inference import DihedralAverage
from lightning_modules.losses import BinaryCrossEntropy, SoftDice
from lightning_modules.metrics import MembraneScores, segmentation_metrics
from lightning_modules.networks.unet import UNet
from lightning_modules.representations.foreground import Foreground, ForegroundDecoder
from lightning_modules.segmenter import DenseSegmenter
from lightning_modules.symmetry import VIEWS, turn, turn_back


def discs(name: str, size: tuple[int, int], original: tuple[int, int], kind: str = "") -> Sample:
    """Two bright discs; the original is the same scene at another size."""

    def scene(height: int, width: int) -> np.ndarray:
        rows, columns = np.mgrid[:height, :width]
        labels = np.zeros((height, width), np.int64)
        for k, (y, x) in enumerate([(0.3, 0.3), (0.7, 0.6)], start=1):
            labels[(rows / height - y) ** 2 + (columns / width - x) ** 2 < 0.15**2] = k
        return labels

    labels, truth = scene(*size), scene(*original)
    return Sample(
        name=name,
        image=torch.from_numpy(labels > 0).float()[None].repeat(3, 1, 1),
        size=original,
        labels=torch.from_numpy(labels),
        kind=kind,
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


def segmenter(network: nn.Module, **kwargs: object) -> DenseSegmenter:
    return DenseSegmenter(network, Foreground(BinaryCrossEntropy()), ForegroundDecoder(), **kwargs)  # type: ignore[arg-type]


def trainer(**kwargs: object) -> Trainer:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return Trainer(accelerator="cpu", **quiet, **kwargs)  # type: ignore[arg-type]


def loader(samples: list[Sample], batch_size: int = 2) -> DataLoader[Sample]:
    return DataLoader(samples, batch_size=batch_size, collate_fn=collate)  # type: ignore[arg-type]


def test_predictions_have_the_original_size_and_the_scores_of_a_direct_computation() -> None:
    samples = [discs("a", (64, 64), (100, 80), "round"), discs("b", (64, 64), (64, 64), "other")]
    model = segmenter(Brightness())
    predictions = model.predict_step(collate(samples))
    assert [tuple(prediction.instances.labels.shape) for prediction in predictions] == [(100, 80), (64, 64)]
    assert [len(prediction.instances) for prediction in predictions] == [2, 2]
    logged = trainer().test(model, loader(samples), verbose=False)[0]
    metrics = segmentation_metrics("test/")
    for prediction, sample in zip(predictions, samples, strict=True):
        metrics.update(prediction.instances.labels, sample.truth, name=sample.name, kind=sample.kind)
    for key, value in metrics.compute().items():
        assert logged[key] == pytest.approx(float(value)), key
    assert logged["test/dsb_score/other"] == 1


def test_one_option_averages_over_the_eight_views() -> None:
    network = UNet(widths=(4, 8), dropout=(0.0, 0.0)).eval()
    batch = collate([discs("a", (24, 32), (48, 64))])
    once, averaged = segmenter(network), segmenter(network, inference=DihedralAverage())
    with torch.no_grad():
        maps = [turn_back(network(turn(batch.image, *view)).sigmoid(), *view) for view in VIEWS]
        expected = once.representation.resize(torch.stack(maps).mean(0)[0], (48, 64))[0]
        probabilities = [model.predict_step(batch)[0].probability for model in (once, averaged)]
    torch.testing.assert_close(probabilities[1], expected)
    assert not torch.allclose(probabilities[0], expected)
    # Validation and test take the same way.
    logged = trainer().test(averaged, loader([discs("a", (24, 32), (48, 64))]), verbose=False)[0]
    found = averaged.decoder(expected[None])
    assert logged["test/objects_found"] == len(found)


def test_further_metrics_see_probabilities() -> None:
    model = segmenter(Brightness(), metrics=[MembraneScores(threshold=0.3)])
    logged = trainer().validate(model, loader([discs("a", (64, 64), (64, 64))]), verbose=False)[0]
    assert logged["val/v_rand"] == logged["val/v_rand_fixed"] == 1
    assert logged["val/dsb_score"] == 1


def test_metrics_start_anew_each_epoch() -> None:
    model = segmenter(Brightness())
    first, second = (
        trainer().validate(model, loader([discs("a", (64, 64), (64, 64))]), verbose=False)[0] for _ in "ab"
    )
    assert first == second
    assert first["val/objects_true"] == 2


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_learns_four_discs_by_heart(channels_last: bool, precision: str) -> None:
    seed_everything(0)
    samples = [discs(str(k), (32, 32), (32, 32)) for k in range(2)]
    network = UNet(widths=(8, 16), dropout=(0.0, 0.0))
    model = segmenter(network, channels_last=channels_last, optimizer=lambda p: torch.optim.Adam(p, lr=0.02))
    fitting = trainer(max_epochs=25, precision=precision)
    fitting.fit(model, loader(samples), loader(samples))
    assert fitting.callback_metrics["val/iou"] > 0.9
    assert model.network.output.weight.is_contiguous(memory_format=model.memory_format)


def test_the_scheduler_is_stepped_each_epoch() -> None:
    model = segmenter(
        Brightness(),
        optimizer=lambda p: torch.optim.SGD(p, lr=1.0),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
    )
    fitting = trainer(max_epochs=3)
    fitting.fit(model, loader([discs("a", (8, 8), (8, 8))]))
    assert fitting.optimizers[0].param_groups[0]["lr"] == 0.125


def test_inference_knobs_stay_out_of_checkpoints(tmp_path) -> None:
    model = segmenter(Brightness())
    fitting = trainer(max_epochs=1)
    fitting.fit(model, loader([discs("a", (8, 8), (8, 8))]))
    fitting.save_checkpoint(tmp_path / "x.ckpt")
    checkpoint = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert list(checkpoint["state_dict"]) == ["network.gain"]
    assert not checkpoint.get("hyper_parameters")


def test_images_without_annotation_are_predicted_but_not_trained_on() -> None:
    sample = discs("bare", (8, 8), (8, 8))
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


def test_blocks_find_what_one_pass_finds_and_refuse_resized_images() -> None:
    batch = collate([discs("a", (96, 128), (96, 128)), discs("b", (96, 128), (96, 128))])
    at_once = segmenter(Brightness()).predict_step(batch)
    in_blocks = segmenter(Brightness(), blocks=Blockwise(32, 32)).predict_step(batch)
    for one, other in zip(at_once, in_blocks, strict=True):
        assert one.name == other.name and one.size == other.size
        assert torch.equal(one.probability, other.probability)
        assert torch.equal(one.instances.labels > 0, other.instances.labels > 0)
        assert len(one.instances) == len(other.instances) == 2
    with pytest.raises(DataError, match="a was resized, and blocks keep the original size: leave out image_size"):
        segmenter(Brightness(), blocks=Blockwise()).predict_step(collate([discs("a", (64, 64), (96, 128))]))


def test_the_loss_of_an_evaluation_is_the_mean_over_images_whatever_their_batches() -> None:
    samples = [discs("a", (64, 64), (64, 64)), discs("b", (64, 64), (64, 64))]
    samples[1].image.mul_(0.4)
    model = DenseSegmenter(Brightness(), Foreground(SoftDice()), ForegroundDecoder())
    both, apart = (
        trainer().validate(model, loader(samples, batch_size), verbose=False)[0]["val/loss"] for batch_size in (2, 1)
    )
    alone = [trainer().validate(model, loader([sample]), verbose=False)[0]["val/loss"] for sample in samples]
    assert both == pytest.approx(apart, abs=1e-7) == pytest.approx(sum(alone) / 2, abs=1e-7)
    # Of the two together Dice's loss would be another.
    batch = collate(samples)
    assert abs(float(model.representation.loss(model(batch.image), batch.labels)) - both) > 1e-3


def test_blocks_are_scored_like_one_pass() -> None:
    loader = DataLoader([discs("a", (96, 128), (96, 128), "kind")], collate_fn=collate)
    whole, blocks = (
        trainer().validate(segmenter(Brightness(), blocks=blocks), loader, verbose=False)[0]
        for blocks in (None, Blockwise(32, 32))
    )
    assert whole.pop("val/loss") == whole.pop("val/loss/kind") >= 0
    assert blocks == whole and blocks["val/dsb_score"] == 1

"""Knob tuning: which thresholds and sizes of a decoder score best on the validation images."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor
from torchmetrics import MetricCollection

from datamodules.sample import Batch, DataError
from lightning_modules.instances import Instances
from lightning_modules.metrics import segmentation_metrics

Knobs = dict[str, float]


class TunableDecoder(Protocol):
    """A decoder, a dataclass, that says which values of its knobs are worth a try."""

    knobs: ClassVar[dict[str, tuple[float, ...]]]

    def __call__(self, *given: Any) -> Instances: ...


@dataclass(frozen=True)
class Tuned:
    """What a search has found.

    Attributes:
        metric: what was optimised.
        images: number of validation images.
        before, after: the metric with the knobs as they were, and as they are best.
        knobs: the best values.
    """

    metric: str
    images: int
    before: float
    after: float
    knobs: Knobs


class TuningTrainer(Trainer):
    """Lightning's Trainer with one more thing to do with a model: to tune its decoder."""

    tuned: Tuned

    def tune(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        metric: str = "dsb_score",
        weights_only: bool | None = None,
    ) -> None:
        """Finds the decoder's knobs that score best on the validation images.

        The network is applied once; what it gives is kept in a temporary folder ($TMPDIR) and decoded again and again.

        Args:
            model: has a `TunableDecoder` as its ``decoder``.
            datamodule: gives the validation images.
            ckpt_path: the weights; the newest run's best by default.
            metric: what to optimise, a key of `lightning_modules.metrics.segmentation_metrics`.
            weights_only: as in `validate`, so that a run's own config goes with both.

        Raises:
            DataError: the decoder has no knobs, there is no such metric, the model was trained on the validation
                images, or there are several processes.
        """
        decoder: Any = model.decoder
        if not getattr(decoder, "knobs", None):
            raise DataError(f"{type(decoder).__name__} has no knobs to tune: validate and test can do without.")
        if getattr(model, "blocks", None) is not None:
            raise DataError("tune decodes whole images: leave model.init_args.blocks out.")
        if getattr(datamodule, "train_on_validation", False):
            raise DataError(
                "This model was trained on the validation images, which tell nothing of its knobs: tune the run by "
                "which its recipe was chosen, and test this one with those knobs."
            )
        if self.world_size > 1:
            raise DataError("tune works in one process: add --trainer.devices 1.")
        with tempfile.TemporaryDirectory(prefix="karyon-maps-") as folder:
            keeper = _Keeper(decoder, Path(folder))
            self.callbacks.append(keeper)  # type: ignore[attr-defined]
            model.decoder = keeper  # type: ignore[assignment]
            try:
                self.validate(model, datamodule, ckpt_path=ckpt_path, verbose=False, weights_only=weights_only)
            finally:
                model.decoder = decoder
                self.callbacks.remove(keeper)  # type: ignore[attr-defined]
            start = {name: getattr(decoder, name) for name in decoder.knobs}
            scorer = _Scorer(decoder, keeper, metric)
            knobs = search(scorer.loss, start, decoder.knobs)
            self.tuned = Tuned(metric, len(keeper.truths), scorer.score(start), scorer.score(knobs), knobs)


def search(loss: Callable[[Knobs], float], start: Knobs, choices: Mapping[str, Sequence[float]]) -> Knobs:
    """Minimises a function of several knobs one knob at a time, until none of them can be improved alone.

    Of values that are equally good the first found is kept, which is the start's where it is among the best.

    Args:
        loss: small is good.
        start: a value of each knob.
        choices: the values to try of each knob.

    >>> search(lambda knobs: (knobs["a"] - 3) ** 2 + knobs["b"], {"a": 1, "b": 2}, {"a": (1, 2, 3), "b": (1, 2)})
    {'a': 3, 'b': 1}
    """
    best, least, improved = dict(start), loss(start), True
    while improved:
        improved = False
        for knob, values in choices.items():
            for value in values:
                candidate = {**best, knob: value}
                if (now := loss(candidate)) < least:
                    best, least, improved = candidate, now, True
    return best


class _Keeper(Callback):
    """In the decoder's place during validation: keeps on disk what it is given, and the truths that go with it."""

    def __init__(self, decoder: Any, folder: Path) -> None:
        self.decoder = decoder
        self.folder = folder
        self.truths: list[tuple[str, str, Tensor]] = []
        self.decoded = 0

    def __call__(self, *given: Any) -> Instances:
        # In full precision, so that validation reaches to the last pixel what tuning promises. A tensor that is part of
        # a larger one would be stored with all of it.
        parts = [part.cpu().clone() if isinstance(part, Tensor) else part for part in given]
        torch.save(parts, self.folder / f"{self.decoded}.pt")
        self.decoded += 1
        instances: Instances = self.decoder(*given)
        return instances

    def probability(self, maps: Tensor) -> Tensor:
        probability: Tensor = self.decoder.probability(maps)
        return probability

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for name, kind, truth in zip(batch.names, batch.kinds, batch.truths, strict=True):
            assert truth is not None, "outside training a batch carries the truths"
            self.truths.append((name, kind, truth))

    def __iter__(self) -> Iterator[tuple[list[Any], str, str, Tensor]]:
        for number, (name, kind, truth) in enumerate(self.truths):
            yield torch.load(self.folder / f"{number}.pt", weights_only=False), name, kind, truth


class _Scorer:
    """The metric over all kept images as a function of the knobs; decodes once for each choice of them."""

    def __init__(self, decoder: TunableDecoder, keeper: _Keeper, metric: str) -> None:
        self.decoder = decoder
        self.keeper = keeper
        self.metric = metric
        self.trials: dict[tuple[float, ...], float] = {}

    def loss(self, knobs: Knobs) -> float:
        """The metric, its sign turned where more is better."""
        score = self.score(knobs)
        return -score if self.higher_is_better else score

    def score(self, knobs: Knobs) -> float:
        """The metric."""
        key = tuple(knobs.values())
        if key not in self.trials:
            start = time.monotonic()
            self.trials[key] = self._decode(knobs)
            shown = "  ".join(f"{name} {value:g}" for name, value in knobs.items())
            spent = time.monotonic() - start
            print(f"{shown}  {self.metric} {self.trials[key]:.4f}  ({spent:.1f} s)", flush=True)
        return self.trials[key]

    def _decode(self, knobs: Knobs) -> float:
        decoder: Any = replace(self.decoder, **knobs)  # type: ignore[type-var]
        metrics = segmentation_metrics("")
        for given, name, kind, truth in self.keeper:
            metrics.update(pred=decoder(*given).labels, target=truth, name=name, kind=kind)
        results = metrics.compute()
        if self.metric not in results:
            known = ", ".join(key for key in results if "/" not in key)
            raise DataError(f"There is no metric {self.metric} to tune by: choose one of {known}.")
        self.higher_is_better = _higher_is_better(metrics, self.metric)
        return float(results[self.metric])


def _higher_is_better(metrics: MetricCollection, key: str) -> bool:
    owner = next(metric for metric in metrics.values() if key in metric.compute())
    return bool(owner.higher_is_better)

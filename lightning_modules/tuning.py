"""Tuning: which parameters of a post-processing score best on the validation images."""

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

from karyon.batch import Batch
from karyon.errors import DataError
from karyon.instances import Instances
from karyon.metrics.segmentation import segmentation_metrics
from karyon.representations.protocol import Maps

Parameters = dict[str, float]
FEW = 3  # images


class TunablePostprocessing(Protocol):
    """A post-processing, a dataclass, that says which values of its parameters are worth a try."""

    choices: ClassVar[dict[str, tuple[float, ...]]]

    def __call__(self, *given: Any) -> Instances: ...

    def whole(self, instances: Instances) -> Instances: ...


@dataclass(frozen=True)
class Tuned:
    """What a search has found.

    Attributes:
        metric: what was optimised.
        images: number of validation images.
        before, after: the metric with the parameters as they were, and as they are best.
        parameters: the best values.
    """

    metric: str
    images: int
    before: float
    after: float
    parameters: Parameters


class TuningTrainer(Trainer):
    """Lightning's Trainer with one more thing to do with a model: to tune its post-processing."""

    tuned: Tuned

    def tune(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        metric: str = "dsb_score",
        weights_only: bool | None = None,
    ) -> None:
        """Finds the parameters of its post-processing that score best on the validation images.

        The network is applied once; what it gives is kept in a temporary folder ($TMPDIR) and decoded again and again.

        Args:
            model: has a `TunablePostprocessing` as its ``postprocessing``.
            datamodule: gives the validation images.
            ckpt_path: the weights; the newest run's best by default.
            metric: what to optimise, a key of `karyon.metrics.segmentation.segmentation_metrics`.
            weights_only: as in `validate`, so that a run's own config goes with both.

        Raises:
            DataError: the post-processing has no parameters, there is no such metric, the model was trained on the
                validation images, or there are several processes.
        """
        postprocessing: Any = model.postprocessing
        if not getattr(postprocessing, "choices", None):
            raise DataError(
                f"{type(postprocessing).__name__} has no parameters to tune: validate and test can do without."
            )
        if getattr(model, "blocks", None) is not None or getattr(model, "rescale_to", None):
            raise DataError("tune looks at whole images once: leave model.init_args.blocks and rescale_to out.")
        if getattr(datamodule, "train_on_validation", False):
            raise DataError(
                "This model was trained on the validation images, which tell nothing of its parameters: tune the run "
                "by which its recipe was chosen, and test this one with those parameters."
            )
        if self.world_size > 1:
            raise DataError("tune works in one process: add --trainer.devices 1.")
        with tempfile.TemporaryDirectory(prefix="karyon-maps-") as folder:
            keeper = _Keeper(postprocessing, Path(folder))
            self.callbacks.append(keeper)  # type: ignore[attr-defined]
            model.postprocessing = keeper  # type: ignore[assignment]
            try:
                self.validate(model, datamodule, ckpt_path=ckpt_path, verbose=False, weights_only=weights_only)
            finally:
                model.postprocessing = postprocessing
                self.callbacks.remove(keeper)  # type: ignore[attr-defined]
            if len(keeper.truths) <= FEW:
                print(
                    f"Only {len(keeper.truths)} validation images to choose by: too few to tell merit from chance. "
                    "Hold more out, or keep the parameters as they are.",
                    flush=True,
                )
            start = {name: getattr(postprocessing, name) for name in postprocessing.choices}
            scorer = _Scorer(postprocessing, keeper, metric)
            parameters = search(scorer.loss, start, postprocessing.choices)
            self.tuned = Tuned(metric, len(keeper.truths), scorer.score(start), scorer.score(parameters), parameters)


def search(
    loss: Callable[[Parameters], float], start: Parameters, choices: Mapping[str, Sequence[float]]
) -> Parameters:
    """Minimises a function of several parameters one parameter at a time, until none of them can be improved alone.

    Of values that are equally good the first found is kept, which is the start's where it is among the best.

    Args:
        loss: small is good.
        start: a value of each parameter.
        choices: the values to try of each parameter.

    >>> search(lambda given: (given["a"] - 3) ** 2 + given["b"], {"a": 1, "b": 2}, {"a": (1, 2, 3), "b": (1, 2)})
    {'a': 3, 'b': 1}
    """
    best, least, improved = dict(start), loss(start), True
    while improved:
        improved = False
        for parameter, values in choices.items():
            for value in values:
                candidate = {**best, parameter: value}
                if (now := loss(candidate)) < least:
                    best, least, improved = candidate, now, True
    return best


class _Keeper(Callback):
    """In the place of post-processing during validation: keeps on disk what it is given, and the truths."""

    def __init__(self, postprocessing: Any, folder: Path) -> None:
        self.postprocessing = postprocessing
        self.folder = folder
        self.truths: list[tuple[str, str, Tensor]] = []
        self.kept = 0

    def __call__(self, *given: Any) -> Instances:
        # In full precision, so that validation reaches to the last pixel what tuning promises.
        torch.save(given, self.folder / f"{self.kept}.pt")
        self.kept += 1
        instances: Instances = self.postprocessing(*given)
        return instances

    def whole(self, instances: Instances) -> Instances:
        return self.postprocessing.whole(instances)

    def probability(self, maps: Maps) -> Maps:
        return self.postprocessing.probability(maps)

    def resize(self, maps: Maps, size: tuple[int, int]) -> Maps:
        return self.postprocessing.resize(maps, size)

    def turn_back(self, maps: Maps, turns: int, flipped: bool) -> Maps:
        return self.postprocessing.turn_back(maps, turns, flipped)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for name, image_type, truth in zip(batch.names, batch.image_types, batch.truths, strict=True):
            assert truth is not None, "outside training a batch carries the truths"
            self.truths.append((name, image_type, truth))

    def __iter__(self) -> Iterator[tuple[Sequence[Any], str, str, Tensor]]:
        for number, (name, image_type, truth) in enumerate(self.truths):
            yield torch.load(self.folder / f"{number}.pt", weights_only=False), name, image_type, truth


class _Scorer:
    """The metric over all kept images as a function of the parameters; decodes once for each choice of them."""

    def __init__(self, postprocessing: TunablePostprocessing, keeper: _Keeper, metric: str) -> None:
        self.postprocessing = postprocessing
        self.keeper = keeper
        self.metric = metric
        self.trials: dict[tuple[float, ...], float] = {}

    def loss(self, parameters: Parameters) -> float:
        """The metric, its sign turned where more is better."""
        score = self.score(parameters)
        return -score if self.higher_is_better else score

    def score(self, parameters: Parameters) -> float:
        """The metric."""
        key = tuple(parameters.values())
        if key not in self.trials:
            start = time.monotonic()
            self.trials[key] = self._decode(parameters)
            shown = "  ".join(f"{name} {value:g}" for name, value in parameters.items())
            spent = time.monotonic() - start
            print(f"{shown}  {self.metric} {self.trials[key]:.4f}  ({spent:.1f} s)", flush=True)
        return self.trials[key]

    def _decode(self, parameters: Parameters) -> float:
        postprocessing: Any = replace(self.postprocessing, **parameters)  # type: ignore[type-var]
        metrics = segmentation_metrics("")
        for given, name, image_type, truth in self.keeper:
            found = postprocessing.whole(postprocessing(*given))
            metrics.update(pred=found.labels, target=truth, name=name, image_type=image_type)
        results = metrics.compute()
        if self.metric not in results:
            known = ", ".join(key for key in results if "/" not in key)
            raise DataError(f"There is no metric {self.metric} to tune by: choose one of {known}.")
        self.higher_is_better = _higher_is_better(metrics, self.metric)
        return float(results[self.metric])


def _higher_is_better(metrics: MetricCollection, key: str) -> bool:
    owner = next(metric for metric in metrics.values() if key in metric.compute())
    return bool(owner.higher_is_better)

"""Fine-tunes a model on kept pairs, by `fit` and `export` in processes of their own."""

import csv
import json
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from karyon.bundle import read_card
from karyon.errors import DataError
from karyon.model import find_bundle
from karyon.napari.pairs import Pairs, at_size_of_model, find_pairs

# An epoch, of ten steps, and the share that an average of weights keeps at each step.
SAMPLES, DECAY = 80, 0.95
SHOWN = 10  # images that the curve's score is of
CURVES = ("train/loss_epoch", "val/dsb_score")
NEEDED = ("cli", "datamodules", "lightning_modules", "lightning", "jsonargparse", "albumentations", "onnx")


@dataclass
class FineTuning:
    """A model that is taken further.

    Attributes:
        pairs: to train on.
        model: to start from: a name, the folder of a bundle.
        epochs: of training.
        folder: of the run, below that of the pairs.
    """

    pairs: Pairs
    model: str
    epochs: int
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        runs = self.pairs.folder / "runs"
        number = next(k for k in range(1, 10_000) if not (runs / f"model-{k}").exists())
        self.folder = runs / f"model-{number}"
        self.commands = self._commands()
        self.process: subprocess.Popen[str] | None = None

    @property
    def bundle(self) -> Path:
        """The new model, when it is done."""
        return self.folder / "bundle"

    def poll(self) -> bool:
        """Starts what comes next, and tells whether there is more to do.

        Raises:
            DataError: a process has failed.
        """
        if self.process is not None:
            if (code := self.process.poll()) is None:
                return True
            if code:
                raise DataError(f"Fine-tuning failed: {self._last_line()} ({self._log} has more).")
        if not self.commands:
            return False
        with self._log.open("a", encoding="utf-8") as log:
            self.process = self._start(self.commands.pop(0), log)
        return True

    def stop(self) -> None:
        """Ends it; the model that it started from remains."""
        self.commands = []
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()

    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """Of each of `CURVES` the values so far, by epoch."""
        path = self.folder / "version_0" / "metrics.csv"
        curves: dict[str, list[tuple[float, float]]] = {name: [] for name in CURVES}
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    for name in CURVES:
                        if row.get(name):
                            curves[name].append((float(row["epoch"] or 0), float(row[name])))
        return curves

    @property
    def _log(self) -> Path:
        return self.folder / "log.txt"

    def _last_line(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")

    def _start(self, command: list[str], log: IO[str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "cli", *command], cwd=project(), stdout=log, stderr=subprocess.STDOUT, text=True
        )

    def _commands(self) -> list[list[str]]:
        """Of ``python -m cli``: train, and make a bundle of it."""
        import yaml

        start = find_bundle(self.model)
        card = read_card(start)
        if "representation" not in card.model:
            raise DataError(f"The model {card.name} finds boxes: it is fine-tuned by its own config, not here.")
        self.folder.mkdir(parents=True)
        root = at_size_of_model(self.pairs, card.object_diameter, self.folder / "rescaled").resolve()
        config = yaml.safe_load((project() / "configs" / "finetune.yaml").read_text(encoding="utf-8"))
        config |= {"name": self.folder.name, "runs_dir": str(self.folder.parent.resolve())}
        config["start_from"] = str(start.resolve())
        model, data = config["model"]["init_args"], config["data"]["init_args"]
        model |= {part: card.model[part] for part in ("network", "representation", "postprocessing")}
        model["scheduler"]["init_args"]["T_max"] = self.epochs
        averaging = {"class_path": "EMAWeightAveraging", "init_args": {"decay": DECAY}}
        config["trainer"] |= {"max_epochs": self.epochs, "limit_val_batches": SHOWN, "callbacks": [averaging]}
        # The last state: by labels most of which are still the old model's, the first would be the best.
        config["checkpoint"] = {"monitor": "step", "mode": "max"}
        data |= {"root": str(root), "val_root": str(root), "test_fraction": 0.0, "samples_per_epoch": SAMPLES}
        data |= {part: card.preprocessing[part] for part in ("normalization", "channels")}
        path = self.folder / "config.yaml"
        # JSON is YAML.
        path.write_text(json.dumps(config, indent=1), encoding="utf-8")
        best = self.folder / "version_0" / "checkpoints" / "best.ckpt"
        return [
            ["fit", "--config", str(path.resolve())],
            ["export", str(best.resolve()), "--out", str(self.bundle.resolve()), "--name", self.folder.name],
        ]


def fine_tune(folder: Path, model: str, epochs: int) -> FineTuning:
    """Prepares a fine-tuning, which `FineTuning.poll` starts.

    Raises:
        DataError: there are no pairs, or what trains is not installed.
    """
    project()
    return FineTuning(find_pairs(folder), model, epochs)


def project() -> Path:
    """The folder of the project, which has what trains; the library alone does not.

    Raises:
        DataError: it, or the extra, is not installed.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise DataError(
            f"Fine-tuning needs Karyon's project with its extra training ({', '.join(missing)} missing): clone it, and "
            "start napari there by `uv run --extra napari --extra training napari`."
        )
    return Path(str(find_spec("cli").origin)).parents[1]  # type: ignore[union-attr]

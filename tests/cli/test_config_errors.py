"""Whatever is wrong with a config is one sentence: the key, where it stands, what is allowed, the nearest name."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_files import ROOT
from small_runs import Small

from cli.config_errors import ConfigParser
from cli.train import KaryonCLI
from karyon.errors import DataError

FOLDER = ROOT / "configs" / "folder.yaml"
ADAM = {"class_path": "torch.optim.Adam"}


class Built(Exception):
    """The parsers are there."""


class ParserBuilder(KaryonCLI):
    """Builds the parsers of the command line, once for many configs."""

    def parse_arguments(self, parser: Any, args: Any) -> None:
        raise Built


@pytest.fixture(scope="module")
def parser() -> ConfigParser:
    built = ParserBuilder.__new__(ParserBuilder)
    with pytest.raises(Built):
        built.__init__()  # type: ignore[misc]
    return built.parsers[0]


def refused(parser: ConfigParser, monkeypatch: pytest.MonkeyPatch, *args: str) -> str:
    monkeypatch.setattr(sys, "argv", ["cli", "fit", *args])
    with pytest.raises(DataError) as error:
        parser.parse_args(sys.argv[1:])
    (line,) = str(error.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ("--trainr.max_epochs 3", "trainr is not an option of a config: the nearest is trainer."),
        (
            "--checkpoint.monitr x",
            "monitr is not an option of checkpoint: the nearest is monitor; expected auto_insert",
        ),
        ("--data.init_args.rooot x", "rooot is not an option of data (FolderDataModule): the nearest is root."),
        ("--trainer.max_epoch 3", "max_epoch is not an option of trainer: the nearest is max_epochs."),
        ("--vers 3", "vers is not an option of a config: the nearest is version"),
        (
            "--data.init_args.batch_siz 3",
            "batch_siz is not an option of data (FolderDataModule): the nearest is",
        ),
        ("--trainer.max_epochs many", "trainer.max_epochs is many: expected int or null."),
        ("--trainer.max_epochs", "--trainer.max_epochs has no value: write one after it."),
        ("--trainer.precision 15", "trainer.precision is 15: expected 64, 32, 16 or transformer-engine, "),
        ("--trainer.logger WandBLogger", "trainer.logger: there is no class WandBLogger: the nearest are WandbLogger"),
        ("--test_after_fit perhaps", "test_after_fit is perhaps: expected true or false."),
        ("--seed_everything x", "seed_everything is x: expected true or false or int."),
        ("stray", "stray is not an option: write options as --KEY VALUE, or in a file for --config."),
        ("--model DenseSegmentr", "model: there is no class DenseSegmentr: the nearest are DenseSegmenter, "),
        ("--data FoldrDataModule", "data: there is no class FoldrDataModule: the nearest are FolderDataModule, "),
        ("--data.init_args.batch_size big", "data.batch_size is big: expected int."),
        ("--data.init_args.normalization Percentile", "data.normalization: there is no class Percentile: the nearest"),
        ("--model.init_args.network UNett", "model.network: there is no class UNett: the nearest is UNet."),
        ("--model.init_args.scheduler StepLR", "model.scheduler lacks step_size: give it there, or on the command"),
        (
            "--model.init_args.postprocessing.init_args.treshold 0.5",
            "treshold is not an option of model.postprocessing (BorderPostprocessing): the nearest is threshold; "
            "expected dilation, min_area, min_seed_area, seed_threshold, threshold.",
        ),
        (
            "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStoping",
            "trainer.callbacks: there is no class lightning.pytorch.callbacks.EarlyStoping: the nearest is EarlyStop",
        ),
        (
            "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping --trainer.callbacks.monitr x",
            "monitr is not an option of trainer.callbacks (EarlyStopping): the nearest is monitor; expected ",
        ),
        ("--config nowhere.yaml", "nowhere.yaml cannot be read (No such file or directory): check the path of the"),
    ],
)
def test_options(parser: ConfigParser, monkeypatch: pytest.MonkeyPatch, args: str, sentence: str) -> None:
    assert refused(parser, monkeypatch, "--config", str(FOLDER), *args.split()).startswith(sentence)


@pytest.mark.parametrize(
    ("key", "value", "line", "sentence"),
    [
        ("trainr.max_epochs", 3, "max_epochs: 3", "trainr is not an option of a config: the nearest is trainer."),
        ("trainer.max_epoch", 3, "max_epoch: 3", "max_epoch is not an option of trainer: the nearest is max_epochs."),
        ("trainer", "x", "trainer: x", "trainer is x: expected options below it."),
        ("data.init_args.rot", "x", "rot: x", "rot is not an option of data (FolderDataModule): the nearest is root."),
        (
            "model.init_args.network.init_args.width",
            3,
            "width: 3",
            "width is not an option of model.network (Padded): ",
        ),
        (
            "model.init_args.network.class_path",
            "karyon.networks.unet.UNett",
            "UNett",
            "model.network: there is no class karyon.networks.unet.UNett: the nearest is UNet.",
        ),
        ("model.init_args.network.class_path", "nowhere.UNet", "nowhere", "model.network: there is no module nowhere"),
        (
            "model.init_args.optimizer",
            {**ADAM, "init_args": {"learning_rate": 1}},
            "learning_rate",
            "learning_rate is not an option of model.optimizer (Adam): there is none like it; expected amsgrad, ",
        ),
        (
            "model.init_args.optimizer",
            {**ADAM, "init_args": {"lr": "fast"}},
            "fast",
            "model.optimizer.lr is fast: expected float",
        ),
        (
            "model.init_args.optimizer.class_path",
            "torch.optim.Adamm",
            "Adamm",
            "model.optimizer: there is no class torch.optim.Adamm: the nearest are Adam, ",
        ),
        (
            "data.init_args.augmentations",
            [{"class_path": "albumentations.RandomCrop", "init_args": {"heigth": 1}}],
            "heigth",
            "heigth is not an option of data.augmentations (RandomCrop): the nearest is height; expected ",
        ),
        ("model.class_path", None, "class_path: null", "model cannot be used: expected a class_path, and init_args as"),
        ("model", "x", "model: x", "model: there is no class x: give its whole path."),
    ],
)
def test_files(
    parser: ConfigParser,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    key: str,
    value: Any,
    line: str,
    sentence: str,
) -> None:
    config = yaml.safe_load(FOLDER.read_text())
    *parents, last = key.split(".")
    inner = config
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[last] = value
    path = tmp_path / "a.yaml"
    path.write_text(text := yaml.safe_dump(config))
    number, _, said = refused(parser, monkeypatch, "--config", str(path)).removeprefix(f"{path}, line ").partition(": ")
    assert said.startswith(sentence)
    assert line in text.splitlines()[int(number) - 1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [1, 2\nb: 3", ", line 2: not valid YAML (expected ',' or ']', but got ':'): mend it there."),
        ("a:\n\tb: 1", ", line 2: not valid YAML (found character '\\t' that cannot start any token): mend it there."),
        ("\0", ": not valid YAML (unacceptable character #x0000"),
        ("- a\n- b", " holds no options: expected keys such as model, data, trainer."),
        ("seed_everything: 1", "The config lacks data, model: give it there, or on the command line."),
    ],
)
def test_files_that_hold_no_config(
    parser: ConfigParser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert refused(parser, monkeypatch, "--config", str(path)).removeprefix(str(path)).startswith(sentence)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--trainer.max_time", "00:00:1:31"], "trainer.max_time: `Timer(duration='00:00:1:31')` is not a valid"),
        (["--checkpoint.mode", ""], "checkpoint.mode is '': expected min or max."),
        (["--trainer.devices", "0"], "trainer.devices: `Trainer(devices='0')` value is not a valid input using"),
        (["--data.init_args.channels", "1"], "The network takes images of 3 channels, the data module gives 1: change"),
        (
            ["--trainer.callbacks+=lightning.pytorch.callbacks.LearningRateFinder"],
            "trainer.callbacks: LearningRateF",
        ),
    ],
)
def test_what_shows_when_parts_are_made_or_meet(
    refusal: Callable[..., str], small: Small, args: list[str], sentence: str
) -> None:
    assert refusal("fit", *small(FOLDER), "--trainer.accelerator", "cpu", *args).startswith(f"error: {sentence}")

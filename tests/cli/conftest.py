import io
import json
import logging
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from bundles import write_bundle
from config_files import QUICKSTART, ROOT, class_names
from small_runs import Run, Small

from cli.__main__ import main
from datamodules.drawing import draw_nuclei, write_dsb_layout

# A script for processes of their own: it parses its arguments as soon as it is imported.
collect_ignore = ["stand_in_training.py"]

FEW = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 2]
FEW += ["--trainer.check_val_every_n_epoch", 1]
SMALL_CROP = "[{class_path: albumentations.RandomCrop, init_args: {height: 64, width: 64}}]"
SMALL_PYRAMID = (
    "{class_path: karyon.networks.feature_pyramid.ResNetFPN, init_args: {depth: 18, channels: 8, pretrained: none}}"
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in DSB2018's layout, small enough to train on in a second."""
    root = tmp_path_factory.mktemp("tiny")
    write_dsb_layout(root, train=10, test=4, size=(64, 64), seed=0)
    return root


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pairs of an image and a label image."""
    root = tmp_path_factory.mktemp("pairs")
    for k in range(10):
        pixels, labels = draw_nuclei(np.random.default_rng(k), (64, 64), "fluorescence")
        for folder, array in (("images", pixels), ("labels", labels.astype(np.uint16))):
            (root / folder).mkdir(exist_ok=True)
            tifffile.imwrite(root / folder / f"{k}.tif", array)
    return root


@pytest.fixture(scope="session")
def tiny_stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stacks in ISBI 2012's layout: six sections of 320 x 320 px to train on and two to predict."""
    root = tmp_path_factory.mktemp("stacks")
    for stack, count in (("train", 6), ("test", 2)):
        annotation = np.stack([draw_membranes(np.random.default_rng(k), 320) for k in range(count)])
        noise = np.random.default_rng(0).integers(0, 60, annotation.shape)
        tifffile.imwrite(root / f"{stack}-volume.tif", (annotation // 2 + noise).astype(np.uint8))
        tifffile.imwrite(root / f"{stack}-labels.tif", annotation)
    (root / "test-labels.tif").unlink()
    return root


def draw_membranes(rng: np.random.Generator, size: int) -> np.ndarray:
    """255 in the cells of random centres, 0 where two of them are about equally near."""
    rows, columns = np.mgrid[:size, :size]
    centres = rng.uniform(0, size, (12, 2))
    distances = np.sort([np.hypot(rows - y, columns - x) for y, x in centres], axis=0)
    return np.where(distances[1] - distances[0] > 6, 255, 0).astype(np.uint8)


def type_in(*args: object) -> int:
    """Types ``python -m cli ...``; returns the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cli", *map(str, args)])
        # Lightning's handlers hold the stream that pytest had captured when they were made, and closed since.
        patch.setattr(logging, "raiseExceptions", False)
        # Of W&B's run, set by the command before, which would have been a process of its own.
        for name in ("DATA_DIR", "JOB_TYPE", "NAME", "RUN_GROUP", "RUN_ID"):
            patch.delenv(f"WANDB_{name}", raising=False)
        return main()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """Types ``python -m cli ...`` in an empty folder; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    yield type_in
    # W&B's service ends with a process; here it would go on, in this test's folder.
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()
        sys.modules["wandb"].teardown()


@pytest.fixture
def refusal(run: Run, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Types a command that must be refused in one sentence, and returns that."""

    def error(*args: object) -> str:
        capsys.readouterr()
        assert run(*args) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        return line

    return error


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C is heard in this test."""
    # What runs in the background of a shell ignores Ctrl-C.
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


@pytest.fixture(scope="session")
def small(tiny: Path, tiny_folder: Path, tiny_stacks: Path) -> Small:
    """Arguments that make any config of ours run in seconds, without leaving its code path."""

    def arguments(config: Path, addition: Path | None = None) -> list[object]:
        names = class_names([yaml.safe_load(path.read_text()) for path in (config, addition) if path])
        args: list[object] = ["--config", config, *(["--config", addition] if addition else [])]
        args += ["--data.init_args.num_workers", 0]
        if "CombinedDataModule" in names:
            own = {"root": str(tiny), "manifest": None, "annotation": "original", "image_types": None}
            pairs = {"root": str(tiny_folder), "group_pattern": "(.)"}
            datasets = [{"class_path": "DSB2018DataModule", "init_args": own}]
            datasets.append({"class_path": "MoNuSegDataModule", "init_args": pairs})
            return [*args, "--config", json.dumps({"data": {"init_args": {"datasets": datasets}}}), *FEW]
        if "CropDataModule" in names:
            # A null inside a nested class must stand in a file: on the command line jsonargparse takes it for a name.
            nested = {"data": {"init_args": {"images": {"init_args": {"root": str(tiny), "manifest": None}}}}}
            args += ["--config", json.dumps(nested), "--data.init_args.crop_size", 16]
            args += ["--model.init_args.network.init_args.widths", "[8,8]"]
            args += ["--model.init_args.network.init_args.dropout", "[0,0]"] if "UNet" in names else []
        elif "DSB2018DataModule" in names:
            args += ["--data.init_args.root", tiny, "--data.init_args.manifest", "null"]
            args += ["--data.init_args.annotation", "original", "--data.init_args.split_manifest", "null"]
        if "FolderDataModule" in names:
            args += ["--data.init_args.root", tiny_folder]
        if "ISBI2012DataModule" in names:
            args += ["--data.init_args.root", tiny_stacks, "--data.init_args.manifest", "null"]
            args += ["--data.init_args.blocks", 3, "--data.init_args.fold", 2]
            args += ["--model.init_args.network.init_args.widths", "[8,8,8,8]"]
        if "TorchvisionFCN" in names:
            args += ["--model.init_args.network.init_args.pretrained", "none", "--data.init_args.image_size", 64]
        if "Detector" in names:
            args += ["--model.init_args.network.init_args.backbone", SMALL_PYRAMID, "--data.init_args.batch_size", 2]
            args += ["--model.init_args.network.init_args.proposals", 20, "--data.init_args.augmentations", SMALL_CROP]
            args += ["--model.init_args.network.init_args.pretrained", "none"]
        if "SyntheticDataModule" in names:
            args += ["--data.init_args.train", 8, "--data.init_args.test", 3, "--data.init_args.size", "[64,64]"]
            args += ["--data.init_args.augmentations", SMALL_CROP]
        return [*args, *FEW]

    return arguments


@pytest.fixture(scope="session")
def typed() -> Callable[..., str]:
    """Types commands in a folder that several tests look at; returns what they have said."""

    def type_all(folder: Path, *commands: list[object]) -> str:
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
            patch.chdir(folder)
            for command in commands:
                assert type_in(*command) == 0
        return said.getvalue()

    return type_all


@pytest.fixture(scope="session")
def quickstart(small: Small, typed: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the quickstart was trained for an epoch, and tested; its log is ``said``. Not to be changed."""
    folder = tmp_path_factory.mktemp("quickstart")
    (folder / "said").write_text(typed(folder, ["fit", *small(QUICKSTART), "--ckpt_path", "last"]))
    return folder


@pytest.fixture
def trained(run: Run, small: Small, quickstart: Path) -> list[object]:
    """Arguments of a quickstart whose run lies in the current folder."""
    shutil.copytree(quickstart / "runs", "runs")
    return [*small(QUICKSTART), "--test_after_fit", "false"]


@pytest.fixture(scope="session")
def exported(small: Small, typed: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a model of the ten pairs was trained, tuned, validated, applied to them, and exported."""
    folder = tmp_path_factory.mktemp("exported")
    unet = "{class_path: karyon.networks.unet.UNet, init_args: {out_channels: 3, widths: [8, 16], dropout: [0.0, 0.0]}}"
    args = [*small(ROOT / "configs" / "folder.yaml"), "--model.init_args.network", unet, "--trainer.callbacks", "[]"]
    fast = ["--model.init_args.scheduler.init_args.max_lr", 0.02, "--data.init_args.augmentations", SMALL_CROP]
    fast += ["--data.init_args.batch_size", 2, "--trainer.limit_train_batches", 3, "--trainer.max_epochs", 6]
    checkpoint = "runs/folder/version_0/checkpoints/best.ckpt"
    commands = [["tune", *args, "--metric", "iou"], ["validate", *args], ["predict", *args, "--out", "predictions"]]
    commands = [["fit", *args, *fast], *commands, ["export", checkpoint, "--licence", "CC0-1.0"]]
    (folder / "said").write_text(typed(folder, *commands))
    return folder


@pytest.fixture
def segment(run: Run, tmp_path: Path) -> Run:
    write_bundle(tmp_path / "bundle")
    return lambda *args: run("segment", *args, "--model", tmp_path / "bundle", "--device", "cpu")

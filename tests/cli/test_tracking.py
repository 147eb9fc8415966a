"""What a run leaves in its own folder is in TensorBoard's files too, and in what ``wandb sync`` uploads."""

import csv
import json
import os
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
import yaml
from config_files import QUICKSTART, ROOT
from small_runs import Run, Small
from tensorboardX.proto.event_pb2 import Event
from wandb_server import Server, wandb_server

from lightning_modules.wandb_logger import RunLogger

Figures = dict[str, dict[int, float]]

WANDB = {
    "class_path": "lightning_modules.wandb_logger.RunLogger",
    "init_args": {"project": "karyon", "save_dir": "runs", "log_model": True},
}
TENSORBOARD = {
    "class_path": "lightning_modules.tensorboard_logger.BoardLogger",
    "init_args": {"save_dir": "runs", "name": "tensorboard"},
}


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def sync(folder: Path, server: Server) -> None:
    """Uploads all runs of a folder by W&B's own client."""
    wandb.finish()
    account = {"WANDB_BASE_URL": server.address, "WANDB_API_KEY": 40 * "a", "WANDB_MODE": "online"}
    command = [sys.executable, "-m", "wandb", "sync", "--yes", *map(str, folder.glob("wandb/offline-run-*"))]
    subprocess.run(command, env={**os.environ, **account}, check=True, timeout=300)


def figures(folder: Path) -> Figures:
    """What metrics.csv says, by key and step."""
    found: Figures = defaultdict(dict)
    with (folder / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            for key, value in row.items():
                if value:
                    found[key][step] = float(value)
    return found


def events(folder: Path) -> Iterator[Event]:
    """The records of TensorBoard's files: length, checksum, content, checksum."""
    for path in folder.rglob("events.out.tfevents.*"):
        data, position = path.read_bytes(), 0
        while position < len(data):
            (length,) = struct.unpack("<Q", data[position : position + 8])
            yield Event.FromString(data[position + 12 : position + 12 + length])
            position += length + 16


@pytest.mark.slow
def test_nothing_is_missing_in_any_logger(
    run: Run, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All event files begin in one second, as those of a training and its test can do.
    monkeypatch.setattr("tensorboardX.event_file_writer.time", SimpleNamespace(time=lambda: 1e9))
    loggers = ["--trainer.logger", json.dumps([WANDB, TENSORBOARD]), "--samples.every_n_epochs", 1]
    assert run("fit", *small(QUICKSTART), *loggers, "--trainer.max_epochs", 2, "--trainer.log_every_n_steps", 1) == 0
    folder = tmp_path / "runs" / "quickstart" / "version_0"
    written = figures(folder)
    assert {"train/loss_step", "train/loss_epoch", "val/loss", "val/dsb_score", "test/dsb_score"} <= written.keys()
    assert {
        "train/learning_rate",
        "train/images_per_second",
        "system/memory_gib",
        "system/cores_busy",
    } <= written.keys()
    names = {path.name for path in (folder / "samples").iterdir() if path.is_dir()}
    assert len(list((folder / "samples").glob("*/*.png"))) == 2 * len(names) > 0
    assert (folder / "samples" / "progress.png").exists()
    check_tensorboard(tmp_path / "runs" / "tensorboard", written, names)
    with wandb_server() as server:
        sync(tmp_path / "runs", server)
        check_wandb(server, folder, written, names)


def check_tensorboard(folder: Path, written: Figures, names: set[str]) -> None:
    scalars: Figures = defaultdict(dict)
    tags = set()
    for event in events(folder):
        for value in event.summary.value:
            tags.add(value.tag)
            if value.HasField("simple_value"):
                scalars[value.tag][event.step] = value.simple_value
    for key, steps in written.items():
        assert {step: scalars[key][step] for step in steps} == pytest.approx(steps, rel=1e-6, nan_ok=True), key
    assert {f"samples/{name}" for name in names} <= tags
    assert any(tag.startswith("results-test") for tag in tags)
    assert any("hparams" in tag for tag in tags)


def check_wandb(server: Server, folder: Path, written: Figures, names: set[str]) -> None:
    assert not server.unknown
    ((run_id, said),) = server.runs.items()
    assert (said["project"], said["displayName"]) == ("karyon", "quickstart")
    for key, steps in written.items():
        uploaded = server.logged(run_id, key)
        assert {step: uploaded[step] for step in steps} == pytest.approx(steps, rel=1e-9, nan_ok=True), key
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert {key: server.config(run_id)[key] for key in saved} == saved
    # What the machine did, as W&B saw it.
    assert json.loads(server.lines[run_id, "wandb-events.jsonl"][0])["system.proc.memory.rssMB"] > 0

    for name in names:
        shown = server.logged(run_id, f"samples/{name}")
        assert len(shown) == 2
        for pictures in shown.values():
            (masks,) = pictures["all_masks"]
            assert masks.keys() == {"result", "truth"}
            for path in (*pictures["filenames"], *(mask["path"] for mask in masks.values())):
                assert server.files[f"{run_id}/{path}"].startswith(b"\x89PNG")

    (entry,) = (row["results-test"] for row in server.history(run_id) if "results-test" in row)
    table = json.loads(server.files[f"{run_id}/{entry['path']}"])
    with (folder / "results-test.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert table["columns"] == header
    assert [["" if cell is None else str(cell) for cell in row] for row in table["data"]] == rows

    # Of the two checkpoints the best, and only that.
    (model,) = (artifact for artifact in server.artifacts.values() if artifact["artifactTypeName"] == "model")
    assert {alias["alias"] for alias in model["aliases"]} == {"latest", "best"}
    best = (folder / "checkpoints" / "best.ckpt").read_bytes()
    assert server.files[f"{model['artifactCollectionName']}/model.ckpt"] == best


@pytest.mark.slow
def test_one_training_is_one_run_of_wandb(run: Run, small: Small, tmp_path: Path) -> None:
    config, path, *rest = small(QUICKSTART)
    args = [config, path, "--config", ROOT / "configs" / "logging" / "wandb.yaml", *rest, "--test_after_fit", "false"]
    for command in (
        ["fit", *args],
        ["fit", *args, "--ckpt_path", "last", "--trainer.max_epochs", 2],
        ["test", *args],
        ["fit", *args, "--name", "other"],
    ):
        assert run(*command) == 0
        wandb.finish()
        wandb.teardown()
    with wandb_server() as server:
        sync(tmp_path / "runs", server)
    jobs = {(said["displayName"], said["jobType"]): run_id for run_id, said in server.runs.items()}
    assert jobs.keys() == {("quickstart", "fit"), ("quickstart", "test"), ("other", "fit")}
    assert {said["groupName"] for said in server.runs.values()} == {"quickstart", "other"}
    training = jobs["quickstart", "fit"]
    assert len(server.logged(training, "train/loss_epoch")) == 2
    assert server.config(training)["trainer"]["max_epochs"] == 2
    assert len(server.logged(jobs["quickstart", "test"], "test/dsb_score")) == 1
    assert server.config(jobs["quickstart", "test"])["ckpt_path"] == "runs/quickstart/version_0/checkpoints/best.ckpt"
    # No checkpoint is uploaded unless it is asked for.
    assert {artifact["artifactTypeName"] for artifact in server.artifacts.values()} == {"run_table"}


def test_last_ckpt_is_not_taken_for_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr("lightning.pytorch.loggers.WandbLogger.after_save_checkpoint", lambda self, it: told.append(it))
    best, last = SimpleNamespace(monitor="val/dsb_score"), SimpleNamespace(monitor=None)
    logger = RunLogger(log_model=True)
    for callback in (best, last):
        logger.after_save_checkpoint(callback)  # type: ignore[arg-type]
    assert told == [best]

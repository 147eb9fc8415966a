"""A checkpoint is the old one or the new one, whatever happens while it is written."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from echo_model import EchoModel, loader, make_trainer, sample
from hostile_bundles import Call, bomb

from karyon.checkpoint import checkpoint_weights
from karyon.errors import DataError
from lightning_modules.whole_checkpoints import WholeCheckpoints

OLD, NEW = {"epoch": torch.tensor(1)}, {"epoch": torch.tensor(2)}


@pytest.fixture
def last(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeCheckpoints().save_checkpoint(OLD, path)
    return path


def read(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["epoch"])


def test_the_new_replaces_the_old(last: Path) -> None:
    WholeCheckpoints().save_checkpoint(NEW, last)
    assert read(last) == 2
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.slow
def test_killed_in_the_middle_of_writing_the_old_one_stays(last: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(checkpoint: Any, file: Any) -> NoReturn:
        file.write(last.read_bytes()[:500])
        file.flush()
        while True:
            time.sleep(1)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(torch, "save", write_half)
        WholeCheckpoints().save_checkpoint(NEW, last)
        os._exit(0)
    half = last.with_name("last.ckpt.writing")
    while not (half.exists() and half.stat().st_size):
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert read(last) == 1
    # What it has left is in nobody's way.
    WholeCheckpoints().save_checkpoint(NEW, last)
    assert read(last) == 2 and not half.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, the disk that is always full")
@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_full_disk_is_said_and_leaves_the_old_one(size: int, last: Path) -> None:
    last.with_name("last.ckpt.writing").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"last\.ckpt cannot be written \(No space left on device\): free space, then"):
        WholeCheckpoints().save_checkpoint({"weights": torch.zeros(size)}, last)
    assert read(last) == 1
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]


def test_another_error_is_none_of_the_disk(last: Path) -> None:
    with pytest.raises(Exception, match="local object") as raised:
        WholeCheckpoints().save_checkpoint({"model": lambda: None}, last)
    assert not isinstance(raised.value, DataError)
    assert read(last) == 1


def test_the_trainer_writes_and_reads_them(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, plugins=[WholeCheckpoints()], max_epochs=1)
    trainer.fit(EchoModel(), loader([sample("a", torch.eye(8, dtype=torch.int64).numpy())]))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=False)["global_step"] == 1


def code(path: Path) -> None:
    torch.save({"state_dict": {"a": Call(os.system, f"touch {path.with_name('executed')}")}}, path)


def code_in_the_old_format(path: Path) -> None:
    code = Call(os.system, f"touch {path.with_name('executed')}")
    torch.save({"state_dict": code}, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [code, code_in_the_old_format, bomb, lambda path: path.mkdir()])
def test_a_checkpoint_is_read_as_tensors_alone_whatever_is_asked_for(
    write: Callable[[Path], None], tmp_path: Path, refused: Callable
) -> None:
    path = tmp_path / "best.ckpt"
    write(path)
    for read in (checkpoint_weights, partial(WholeCheckpoints().load_checkpoint, weights_only=False)):
        with refused(path, "is not a readable checkpoint of tensors alone"):
            read(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [[1], {"state_dict": 3}, {"state_dict": {"a": 3}}, {}])
def test_a_checkpoint_without_weights_is_refused(content: object, tmp_path: Path, refused: Callable) -> None:
    torch.save(content, tmp_path / "best.ckpt")
    with refused("best.ckpt is not a checkpoint", "no weights under state_dict"):
        checkpoint_weights(tmp_path / "best.ckpt")

"""Two trainings never write into one folder, and what was stopped is found again."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from jsonargparse import Namespace

from cli import run_folder
from cli.run_folder import RunFolder, Start, make_next_version, settle_start
from cli.runs import in_versions, resolve_stage, resolve_trained
from karyon.errors import DataError


def settle(tmp_path: Path, version: str | None = None, ckpt_path: str | None = None) -> tuple[Start, str | None, str]:
    config = Namespace(runs_dir=tmp_path, name="a", version=version, ckpt_path=ckpt_path)
    start, said = settle_start(config)
    assert config.version is None
    return start, config.ckpt_path, said


def write(tmp_path: Path, version: str, *checkpoints: str) -> Path:
    folder = tmp_path / "a" / version / "checkpoints"
    folder.mkdir(parents=True)
    for name in checkpoints:
        (folder / f"{name}.ckpt").touch()
    return folder.parent


def test_a_new_run_gets_a_folder_and_a_name_to_be_found_by(tmp_path: Path) -> None:
    start, checkpoint, said = settle(tmp_path, version="job_7")
    assert (start, checkpoint, said) == (Start(tmp_path / "a", None, "job_7"), None, "")
    taken = RunFolder(start)
    assert (taken.path, (tmp_path / "a" / "job_7").readlink()) == (tmp_path / "a" / "version_0", Path("version_0"))
    (taken.path / "config.yaml").touch()
    taken.release()
    # Before its first checkpoint.
    again, checkpoint, said = settle(tmp_path, version="job_7")
    assert again == Start(tmp_path / "a", tmp_path / "a" / "version_0", "job_7") and checkpoint is None
    assert "was stopped before its first checkpoint: starting from the beginning in the same folder" in said
    write(tmp_path, "version_1", "last")
    (tmp_path / "a" / "version_0" / "checkpoints").mkdir()
    (tmp_path / "a" / "version_0" / "checkpoints" / "last.ckpt").touch()
    last = tmp_path / "a" / "version_0" / "checkpoints" / "last.ckpt"
    # Though another run is newer, and though it began with another's weights.
    for given in (None, "last", "other.ckpt"):
        assert settle(tmp_path, version="job_7", ckpt_path=given) == (again, str(last), f"Resuming {last}.")
    resumed = RunFolder(again)
    assert (resumed.path, resumed.config_name) == (tmp_path / "a" / "version_0", "config-2.yaml")
    resumed.release()


def test_a_new_job_goes_on_with_the_newest_run_and_finds_it_again(tmp_path: Path) -> None:
    write(tmp_path, "version_0", "last")
    newest = write(tmp_path, "version_10", "last")
    write(tmp_path, "version_11")
    write(tmp_path, "version_12-copy", "last")
    start, checkpoint, _ = settle(tmp_path, version="job_8", ckpt_path="last")
    assert (start.folder, checkpoint) == (newest, str(newest / "checkpoints" / "last.ckpt"))
    RunFolder(start).release()
    assert settle(tmp_path, version="job_8")[0].folder == newest
    assert settle(tmp_path, version="version_0")[0].folder == tmp_path / "a" / "version_0"


def test_names_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no version_3 in .*leave --version out"):
        settle(tmp_path, version="version_3")
    # Its folder was deleted.
    write(tmp_path, "version_0")
    (tmp_path / "a" / "job_7").symlink_to("version_9")
    start, *_ = settle(tmp_path, version="job_7")
    assert start.folder is None
    assert RunFolder(start).path == tmp_path / "a" / "version_1"
    assert (tmp_path / "a" / "job_7").readlink() == Path("version_1")


def test_what_was_logged_before_is_kept(tmp_path: Path) -> None:
    folder = write(tmp_path, "version_0", "last")
    for text in ("first", "second"):
        (folder / "metrics.csv").write_text(text)
        RunFolder(Start(tmp_path / "a", folder, None)).release()
    kept = {path.name: path.read_text() for path in folder.glob("metrics*")}
    assert kept == {"metrics-before-resume.csv": "first", "metrics-before-resume-2.csv": "second"}


def test_jobs_that_begin_together_get_a_folder_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: make_next_version(tmp_path / "a"), range(24)))
    assert {path.name for path in folders} == {f"version_{k}" for k in range(24)}


@pytest.mark.slow
def test_a_second_training_in_a_folder_is_refused_until_the_first_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "PATIENCE", 0.1)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    start = Start(tmp_path / "a", write(tmp_path, "version_0", "last"), None)
    child = os.fork()
    if child == 0:
        _held = RunFolder(start)
        (tmp_path / "ready").touch()
        while True:
            time.sleep(1)
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    with pytest.raises(DataError, match=rf"version_0 is locked by process {child} on .*, job 4711: wait"):
        RunFolder(start)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    RunFolder(start).release()


def test_a_disk_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    def missing(file: int, how: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    taken = RunFolder(Start(tmp_path / "a", None, None))
    assert "No locks on the disk" in capsys.readouterr().out
    (taken.path / "config.yaml").touch()
    taken.release()


def test_a_run_that_wrote_nothing_leaves_nothing(tmp_path: Path) -> None:
    RunFolder(Start(tmp_path / "a", None, "job_7")).release()
    assert list((tmp_path / "a").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file.* cannot be written .*choose another folder with --runs_dir"):
        RunFolder(Start(tmp_path / "file" / "a", None, None))


def test_versions_by_name(tmp_path: Path) -> None:
    first, second = write(tmp_path, "version_0", "best"), write(tmp_path, "version_1", "best")
    (tmp_path / "a" / "job_7").symlink_to("version_0")
    best = Path("checkpoints") / "best.ckpt"
    assert in_versions(tmp_path, "a", str(best)) == [second / best, first / best]
    assert resolve_trained(tmp_path, "a", None) == second / best
    assert resolve_trained(tmp_path, "a", None, "job_7") == first / best
    assert resolve_trained(tmp_path, "a", "best", "version_0") == first / best
    for version, which in (("job_8", "best"), ("job_7", "last")):
        with pytest.raises(DataError, match=rf"no {which} checkpoint in .*{version}"):
            resolve_trained(tmp_path, "a", which, version)
    assert resolve_stage(tmp_path / "a" / "job_7", "x") == first / best
    assert resolve_stage(tmp_path / "a" / "version_0", "x") == first / best
    assert resolve_stage(tmp_path / "a", "x") == second / best

"""A sweep with no account: on this machine or by SLURM, resumed, stopped early, tabulated."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_files import ROOT
from PIL import Image

from cli import sweep_trials
from cli.sweep_study import read_sweep
from cli.sweep_trials import Trials, locked

Run = Callable[..., int]

STAND_IN = Path(__file__).with_name("stand_in_training.py")


@pytest.fixture
def write_sweep(tmp_path: Path) -> Callable[..., Path]:
    """Writes a sweep file whose trials take no time."""

    def write(parameters: dict[str, Any], **further: Any) -> Path:
        content = {
            "name": "try",
            "method": "grid",
            "metric": {"name": "val/score", "goal": "maximize"},
            "command": ["${env}", "${interpreter}", str(STAND_IN), "fit", "${args}"],
            "parameters": parameters,
            **further,
        }
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
        return path

    return write


def rows(by: str = "then", folder: str = "runs/try") -> dict[str, dict[str, str]]:
    """The table of trials, each by the value of a parameter."""
    with Path(folder, "sweep.csv").open(newline="") as file:
        return {row[by]: row for row in csv.DictReader(file)}


def states(by: str = "then", folder: str = "runs/try") -> dict[str, str]:
    return {value: row["state"] for value, row in rows(by, folder).items()}


def starts(value: str, by: str = "then") -> int:
    return len(Path("runs/try", rows(by)[value]["trial"], "version_0", "starts.txt").read_text().split())


def logged(text: str) -> Counter[str]:
    return Counter({path.parent.name: path.read_text().count(text) for path in Path("runs/try").glob("*/log.txt")})


def table() -> list[list[str]]:
    lines = [line for line in Path("runs/try/sweep.md").read_text().splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines]


def test_a_grid_ends_with_a_table_and_a_figure_and_is_not_run_twice(
    run: Run, write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"lr": {"values": [0.1, 0.01]}, "score": {"values": [0.4, 0.8]}, "then": {"value": "end"}}
    path = write_sweep(values)
    assert run("sweep", path) == 0
    header, _, *lines = table()
    assert header == ["trial", "lr", "score", "val/score", "test/score", "state", "time"]
    # The best first; the metric is the best of all validations, which is the last here.
    assert [line[2:-1] for line in lines] == [
        [score, f"{float(score):.4f}", f"{float(score) / 2:.4f}", "finished"] for score in ("0.8", "0.8", "0.4", "0.4")
    ]
    assert {line[1] for line in lines[:2]} == {line[1] for line in lines[2:]} == {"0.1", "0.01"}
    with Path("runs/try/sweep.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["val/score"], first["test/score"], first["score"], first["then"]) == ("0.8", "0.4", "0.8", "end")
    assert f"{STAND_IN} fit --lr={first['lr']} --score=0.8 --then=end --runs_dir runs/try" in first["command"]
    with Image.open("runs/try/sweep.png") as picture:
        assert picture.width > picture.height > 100
    said = capsys.readouterr().out
    assert "trial-0004: finished, val/score 0." in said and "; 4 of 4 done" in said and "about" in said
    assert run("sweep", path) == 0
    assert {path.read_text() for path in Path("runs/try").glob("*/*/starts.txt")} == {"start\n"}
    assert "4 of 4 trials done" in capsys.readouterr().out


def test_a_sweep_goes_on_past_a_failure_and_tries_it_again_when_asked_to(
    run: Run, write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep({"then": {"values": ["fail", "end"]}})
    for options, tries in ([], 1), ([], 1), (["--retry_failed"], 2), (["--retry_failed"], 3):
        assert run("sweep", path, *options) == 1
        assert states() == {"fail": "failed", "end": "finished"}
        name = rows()["fail"]["trial"]
        assert logged("nucleus") == {name: tries, rows()["end"]["trial"]: 0}
    assert f"- {name}: exit code 2: error: no such nucleus" in Path("runs/try/sweep.md").read_text()
    assert "failed (exit code 2: error: no such nucleus)" in capsys.readouterr().out
    assert starts("end") == 1


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_goes_on_where_it_was(
    number: int, run: Run, write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep({"then": {"values": ["wait", "end"]}, "score": {"value": 0.8}})
    if number == signal.SIGTERM:
        # As in the background of a shell.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def interrupt() -> None:
        while not any(Path("runs/try").glob("*/version_0/waiting")):
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert run("sweep", path) == 130
    thread.join()
    assert "Interrupted; the same command goes on." in capsys.readouterr().out
    assert states()["wait"] == "interrupted"
    assert run("sweep", path) == 0
    assert states() == {"end": "finished", "wait": "finished"}
    assert (starts("end"), starts("wait")) == (1, 2)


def test_a_trial_that_was_ended_with_code_0_is_not_finished(run: Run, write_sweep: Callable[..., Path]) -> None:
    path = write_sweep({"then": {"values": ["terminated"]}})
    for state, number in ("interrupted", 1), ("finished", 2):
        assert run("sweep", path) == 0
        assert (states(), starts("terminated")) == ({"terminated": state}, number)


def test_a_trial_whose_process_lives_is_nobody_elses(tmp_path: Path) -> None:
    lock = locked(tmp_path / "lock", wait=False)
    with pytest.raises(BlockingIOError):
        locked(tmp_path / "lock", wait=False)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock.fileno()])
    # Whoever began it is gone.
    lock.close()
    with pytest.raises(BlockingIOError):
        locked(tmp_path / "lock", wait=False)
    process.communicate(b"\n")
    locked(tmp_path / "lock", wait=False).close()


def test_jobs_run_at_the_same_time(run: Run, write_sweep: Callable[..., Path]) -> None:
    # Each of the two waits for the other.
    assert run("sweep", write_sweep({"then": {"value": "meet"}, "lr": {"values": [1, 2]}}), "--jobs", 2) == 0
    assert states("lr") == {"1": "finished", "2": "finished"}


def test_those_who_share_a_folder_run_each_trial_once(
    tmp_path: Path, write_sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_trials, "SECOND", 0.01)
    sweep = read_sweep(write_sweep({"lr": {"values": [1, 2, 3, 4]}, "score": {"values": [0.4, 0.6, 0.8]}}))
    # As on four machines: they know of each other by the folder alone.
    machines = [Trials(tmp_path / "try", sweep, 12) for _ in range(4)]
    for machine in machines:
        machine.begin(False)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda machine: machine._work(once=False), machines))
    assert sorted(name for machine in machines for name in machine.ran) == [f"trial-{k:04}" for k in range(1, 13)]
    assert len({tuple(trial.params.values()) for trial in machines[0].all()}) == 12


def test_bayes_and_random_have_as_many_trials_as_are_asked_for(
    run: Run, write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    score = {"score": {"min": 0.1, "max": 0.9}}
    path = write_sweep(score, method="bayes")
    assert run("sweep", path) == 2
    assert "has no end: say how many trials there are to be with --count" in capsys.readouterr().err
    assert run("sweep", path, "--count", 3) == 0
    assert run("sweep", path, "--count", 4, "--name", "try") == 0
    found = [float(row[1]) for row in table()[2:]]
    assert len(set(found)) == 4 and found == sorted(found, reverse=True) and 0.1 <= min(found) <= max(found) <= 0.9
    for cap in (2, 3):
        assert run("sweep", write_sweep(score, method="random", run_cap=cap, name="drawn", metric=None)) == 0
        assert list(states("score", "runs/drawn").values()) == ["finished"] * cap


def test_hyperband_stops_what_lags_behind(
    run: Run, write_sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_trials, "SECOND", 0.1)
    monkeypatch.setattr(sweep_trials, "JUDGED_EVERY_S", 0.2)
    # The last to be drawn would wait for two minutes; after two validations its score is below that of the others.
    values = {"then": {"value": "lag"}, "score": {"values": [0.1, 0.7, 0.8]}}
    path = write_sweep(values, early_terminate={"type": "hyperband", "min_iter": 2, "eta": 2})
    for _ in range(2):
        assert run("sweep", path) == 0
        assert states("score") == {"0.8": "finished", "0.7": "finished", "0.1": "stopped"}
        assert rows("score")["0.1"]["trial"] == "trial-0003" and starts("0.1", "score") == 1


def test_trials_read_the_configs_that_the_first_has_read(run: Run, write_sweep: Callable[..., Path]) -> None:
    command = ["${interpreter}", str(STAND_IN), "fit", "--config=mine.yaml", "${args_no_equals}"]
    for cap, name in enumerate(("before", "after"), start=1):
        Path("mine.yaml").write_text(f"name: {name}\n")
        assert run("sweep", write_sweep({"lr": {"values": [1, 2]}}, command=command, run_cap=cap)) == 0
    for value, row in rows("lr").items():
        words = row["command"].split()
        assert Path(words[3].removeprefix("--config=")).read_text() == "name: before\n"
        assert words[4:6] == ["--lr", value]


def test_another_sweep_does_not_mix_with_the_first(
    run: Run, write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sweep", write_sweep({"lr": {"values": [1]}})) == 0
    assert run("sweep", write_sweep({"lr": {"values": [1, 2]}})) == 2
    assert "runs/try holds the trials of another sweep file" in capsys.readouterr().err
    assert run("sweep", write_sweep({"lr": {"values": [1, 2]}}), "--name", "other") == 0


def test_a_sweep_that_cannot_be_run_is_refused_in_a_sentence(
    run: Run, write_sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep({"lr": {"values": [1, 2]}}, command=["no-such-program", "fit", "${args}"])
    assert run("sweep", path) == 2
    assert "no-such-program cannot be run (No such file" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run("sweep", path) == 2
    assert "pip install 'karyon[sweep]'" in capsys.readouterr().err


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster that takes jobs and writes down what it was told."""
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    told = tmp_path / "told.json"
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open({str(told)!r}, 'w'))\nprint('77;one')\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return told


def test_slurm_runs_one_trial_a_task(
    run: Run, write_sweep: Callable[..., Path], sbatch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep({"score": {"values": [0.8, 0.4]}, "then": {"values": ["end", "fail"]}})
    assert run("sweep", path, "--jobs", 2, "--slurm=--partition=gpu --time=8:00:00") == 0
    assert "array 77" in capsys.readouterr().out
    told = json.loads(sbatch.read_text())
    script = told.index("slurm/sweep-trial.sbatch")
    assert {"--parsable", "--array=1-4%2", "--job-name=try", "--partition=gpu", "--time=8:00:00"} <= set(told[:script])
    assert "--gpus-per-node=1" in told[:script]
    # What the script does, in each task; one of them comes too late.
    codes = [run("sweep", *told[script + 1 :], "--one") for _ in range(5)]
    assert sorted(codes[:4]) == [0, 0, 1, 1] and codes[4] == 0
    assert [row[-2] for row in table()[2:]] == ["finished", "finished", "failed", "failed"]
    assert run("sweep", path, "--slurm", "--retry_failed") == 0
    told = json.loads(sbatch.read_text())
    assert "--array=1-2" in told
    assert [run("sweep", *told[told.index("slurm/sweep-trial.sbatch") + 1 :], "--one") for _ in range(2)] == [1, 1]
    assert sorted(logged("nucleus").values()) == [0, 0, 2, 2]
    assert run("sweep", path, "--slurm") == 2
    assert "All trials of runs/try have ended" in capsys.readouterr().err


def test_a_cluster_that_refuses_or_is_not_there_is_told_in_a_sentence(
    run: Run,
    write_sweep: Callable[..., Path],
    sbatch: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_sweep({"lr": {"values": [1, 2]}})
    (sbatch.parent / "bin" / "sbatch").write_text("#!/bin/sh\necho 'invalid partition' >&2\nexit 1\n")
    assert run("sweep", path, "--slurm") == 2
    assert "sbatch refuses (invalid partition)" in capsys.readouterr().err
    (sbatch.parent / "slurm").unlink()
    assert run("sweep", path, "--slurm") == 2
    assert "There is no slurm/sweep-trial.sbatch" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(sbatch.parent))
    assert run("sweep", path, "--slurm") == 2
    assert "There is no sbatch here" in capsys.readouterr().err


def test_the_script_of_a_task_ends_as_its_trial_does_and_is_queued_again_near_the_limit(tmp_path: Path) -> None:
    for name, text in {
        # Waits as long as it is told to, and ends with a code.
        "python": '#!/bin/sh\necho "$@" $WANDB_MODE > told; touch ready; sleep $LASTS; exit 3\n',
        "scontrol": "#!/bin/sh\necho $@ > requeued\n",
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "5", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"}
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LASTS": "0", **job}
    command = ["bash", str(ROOT / "slurm" / "sweep-trial.sbatch"), "mine.yaml", "--count", "3"]
    assert subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode == 3
    assert (tmp_path / "told").read_text() == "-m cli sweep mine.yaml --count 3 --one offline\n"
    assert not (tmp_path / "requeued").exists()
    (tmp_path / "ready").unlink()
    process = subprocess.Popen(command, cwd=tmp_path, env=environment | {"LASTS": "2"})
    while not (tmp_path / "ready").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    assert process.wait() == 3
    assert (tmp_path / "requeued").read_text() == "requeue 5_3\n"

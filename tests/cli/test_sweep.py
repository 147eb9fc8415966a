"""A sweep of W&B's runs with no account: on this machine or by SLURM, resumed, stopped early, tabulated."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_files import ROOT
from PIL import Image

from cli import sweep_trials
from cli.sweep_file import Sweep, Tried
from cli.sweep_trials import lock_of

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


def states(folder: Path = Path("runs/try")) -> dict[int, str]:
    trials = [json.loads(path.read_text()) for path in sorted(folder.glob("trial-*/trial.json"))]
    return {trial["number"]: trial["state"] for trial in trials}


def starts(number: int) -> int:
    return len(Path(f"runs/try/trial-{number:04}/version_0/starts.txt").read_text().split())


def table() -> list[list[str]]:
    lines = [line for line in Path("runs/try/sweep.md").read_text().splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines]


def test_a_grid_ends_with_a_table_and_a_figure_and_is_not_run_twice(
    run: Run, write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"lr": {"values": [0.1, 0.01]}, "score": {"values": [0.4, 0.8]}, "then": {"value": "end"}}
    path = write_sweep(values)
    assert run("sweep", path) == 0
    header, _, *rows = table()
    assert header == ["trial", "lr", "score", "val/score", "test/score", "state", "time"]
    # The best first; the metric is the best of all validations, which is the last here.
    assert [row[1:-1] for row in rows] == [
        [lr, score, f"{float(score):.4f}", f"{float(score) / 2:.4f}", "finished"]
        for score in ("0.8", "0.4")
        for lr in ("0.1", "0.01")
    ]
    with Path("runs/try/sweep.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["val/score"], first["test/score"], first["score"], first["then"]) == ("0.8", "0.4", "0.8", "end")
    with Image.open("runs/try/sweep.png") as picture:
        assert picture.width > picture.height > 100
    assert "trial-0004: finished, val/score 0.8000; 4 of 4 done" in capsys.readouterr().out

    assert run("sweep", path) == 0
    assert [starts(number) for number in range(1, 5)] == [1] * 4
    assert "4 of 4 trials done" in capsys.readouterr().out


def test_a_sweep_goes_on_past_a_failure_and_lists_it(
    run: Run, write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep({"then": {"values": ["fail", "end"]}})
    assert run("sweep", path) == 1
    assert states() == {1: "failed", 2: "finished"}
    said = "exit code 2: error: no such nucleus"
    assert f"- trial-0001: {said}" in Path("runs/try/sweep.md").read_text()
    assert said in capsys.readouterr().out
    # Left alone, then tried again.
    assert run("sweep", path) == 1
    assert not Path("runs/try/trial-0001/log.txt").read_text().count("nucleus") > 1
    assert run("sweep", path, "--retry_failed") == 1
    assert Path("runs/try/trial-0001/log.txt").read_text().count("nucleus") == 2
    assert starts(2) == 1


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_goes_on_where_it_was(
    number: int, run: Run, write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep({"then": {"values": ["end", "wait"]}, "score": {"value": 0.8}})

    def interrupt() -> None:
        while not Path("runs/try/trial-0002/version_0/waiting").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert run("sweep", path) == 130
    thread.join()
    assert "Interrupted; the same command goes on." in capsys.readouterr().out
    assert table()[-1][-2] == "interrupted"
    assert run("sweep", path) == 0
    assert states() == {1: "finished", 2: "finished"}
    assert (starts(1), starts(2)) == (1, 2)


def test_a_trial_that_was_ended_with_code_0_is_not_finished(run: Run, write_sweep: Callable[..., Path]) -> None:
    path = write_sweep({"then": {"values": ["terminated"]}})
    assert run("sweep", path) == 0
    assert states() == {1: "running"}
    assert run("sweep", path) == 0
    assert (states(), starts(1)) == ({1: "finished"}, 2)


def test_a_trial_whose_process_lives_is_nobody_elses(tmp_path: Path) -> None:
    held = lock_of(tmp_path / "lock", wait=False)
    assert held is not None
    assert lock_of(tmp_path / "lock", wait=False) is None
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[held])
    # Whoever began it is gone.
    os.close(held)
    assert lock_of(tmp_path / "lock", wait=False) is None
    process.communicate(b"\n")
    assert lock_of(tmp_path / "lock", wait=False) is not None


def test_jobs_run_at_the_same_time(run: Run, write_sweep: Callable[..., Path]) -> None:
    # Each of the two waits for the other.
    assert run("sweep", write_sweep({"then": {"value": "meet"}, "lr": {"values": [1, 2]}}), "--jobs", 2) == 0
    assert states() == {1: "finished", 2: "finished"}


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

    path = write_sweep(score, method="random", run_cap=2, name="drawn")
    assert run("sweep", path) == 0
    assert run("sweep", write_sweep(score, method="random", run_cap=3, name="drawn")) == 0
    assert states(Path("runs/drawn")) == dict.fromkeys((1, 2, 3), "finished")


def test_draws_depend_on_the_trials_so_far_alone() -> None:
    content = {"metric": {"name": "s", "goal": "maximize"}, "parameters": {"a": {"min": 0.0, "max": 1.0}}}
    for method in ("random", "bayes"):
        sweep = Sweep({**content, "method": method})
        first = sweep.propose([])
        tried = [Tried(1, first, "finished", [0.1, 0.3])]
        assert sweep.propose([]) == first != sweep.propose(tried) == sweep.propose(tried)
        assert type(first["a"]) is float


def test_bayes_looks_where_it_was_good() -> None:
    """Of a score that is best at .8, the later trials are nearer than draws at random would be, 0.34 on average."""
    sweep = Sweep(
        {"method": "bayes", "metric": {"name": "s", "goal": "maximize"}, "parameters": {"a": {"min": 0.0, "max": 1.0}}}
    )
    tried: list[Tried] = []
    for number in range(1, 13):
        drawn = sweep.propose(tried)
        tried.append(Tried(number, drawn, "finished", [-((drawn["a"] - 0.8) ** 2)]))
    later = [abs(trial.parameters["a"] - 0.8) for trial in tried[4:]]
    assert sum(later) / len(later) < 0.17


def test_hyperband_stops_what_lags_behind(
    run: Run, write_sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_trials, "SECOND", 0.1)
    monkeypatch.setattr(sweep_trials, "JUDGED_EVERY_S", 0.2)
    # The last would wait for two minutes; after two validations its score is below that of the others.
    values = {"then": {"value": "lag"}, "score": {"values": [0.8, 0.7, 0.1]}}
    path = write_sweep(values, early_terminate={"type": "hyperband", "min_iter": 2, "eta": 2})
    assert run("sweep", path) == 0
    assert states() == {1: "finished", 2: "finished", 3: "stopped"}
    assert run("sweep", path) == 0
    assert starts(3) == 1


def test_trials_read_the_configs_that_the_first_has_read(run: Run, write_sweep: Callable[..., Path]) -> None:
    Path("mine.yaml").write_text("name: before\n")
    command = ["${interpreter}", str(STAND_IN), "fit", "--config=mine.yaml", "${args_no_equals}"]
    assert run("sweep", path := write_sweep({"lr": {"values": [1, 2]}}, command=command, run_cap=1)) == 0
    Path("mine.yaml").write_text("name: after\n")
    assert run("sweep", write_sweep({"lr": {"values": [1, 2]}}, command=command, run_cap=2)) == 0
    trial = json.loads(Path("runs/try/trial-0002/trial.json").read_text())
    (config,) = (word.removeprefix("--config=") for word in trial["command"] if word.startswith("--config="))
    assert Path(config).read_text() == "name: before\n"
    assert trial["command"][4:6] == ["--lr", "2"] and path.name == "sweep.yaml"


def test_another_sweep_does_not_mix_with_the_first(
    run: Run, write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sweep", write_sweep({"lr": {"values": [1]}})) == 0
    assert run("sweep", write_sweep({"lr": {"values": [1, 2]}})) == 2
    assert "runs/try holds the trials of another sweep file" in capsys.readouterr().err
    assert run("sweep", write_sweep({"lr": {"values": [1, 2]}}), "--name", "other") == 0


VALUES = {"lr": {"values": [1, 2]}}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": "bayesian"}, "is no sweep file that W&B accepts ('bayesian' is not one of"),
        ({"comand": ["python"]}, "is no sweep file that W&B accepts (Additional properties"),
        ({"parameters": {"lr": {"min": "1e-4", "max": 0.1}}}, "is no sweep file that W&B accepts ("),
        ({"parameters": None}, "is no sweep file that W&B accepts (`parameters` is required"),
        ({"parameters": {"lr": {"min": 0.1, "max": 0.2}}}, "is no sweep that can be run (Parameter lr"),
        ({"method": "bayes", "metric": None}, "names no metric"),
        ({"command": None}, "does not hand ${args} to python -m cli fit"),
        ({"command": ["${interpreter}", "train.py", "${args}"]}, "does not hand ${args} to python -m cli fit"),
        ({"command": ["fit", "${args}", "${args_json_file}"]}, "has ${args_json_file}, which is not known here"),
        ({"command": ["no-such-program", "fit", "${args}"]}, "no-such-program cannot be run (No such file"),
    ],
)
def test_a_sweep_that_cannot_be_run_is_refused_in_a_sentence(
    changes: dict[str, Any],
    sentence: str,
    run: Run,
    write_sweep: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("sweep", write_sweep(**{"parameters": VALUES, **changes})) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert sentence in line


@pytest.mark.parametrize("content", [None, "a: [", "just words"])
def test_what_is_no_sweep_file_is_named(content: str | None, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    if content:
        Path("mine.yaml").write_text(content)
    assert run("sweep", "mine.yaml") == 2
    assert "mine.yaml" in capsys.readouterr().err


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
    assert codes == [0, 1, 0, 1, 0]
    assert [row[-2] for row in table()[2:]] == ["finished", "finished", "failed", "failed"]
    assert run("sweep", path, "--slurm", "--retry_failed") == 0
    told = json.loads(sbatch.read_text())
    assert "--array=1-2" in told and "--retry_failed" in told
    assert [run("sweep", *told[told.index("slurm/sweep-trial.sbatch") + 1 :], "--one") for _ in range(2)] == [1, 1]
    assert [Path(f"runs/try/trial-000{k}/log.txt").read_text().count("nucleus") for k in (2, 4)] == [2, 2]
    assert run("sweep", path, "--slurm") == 2
    assert "All trials of runs/try have ended" in capsys.readouterr().err


def test_a_cluster_that_refuses_or_is_not_there_is_told_in_a_sentence(
    run: Run,
    write_sweep: Callable[..., Path],
    sbatch: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_sweep(VALUES)
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

"""The job scripts, with a stand-in for Python: what they ask SLURM for, and what they do when something happens."""

import shutil
import subprocess
from pathlib import Path

import pytest
from virtual_cluster import VirtualCluster

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*(ROOT / "slurm").glob("*.sh"), *(ROOT / "slurm").glob("*.sbatch")])

# Says who it is and what it was told, saves a checkpoint as the training of a job does, and takes its time.
STAND_IN = """#!/usr/bin/env bash
echo "stand-in ${SLURM_PROCID:-}/${SLURM_NTASKS:-} on ${SLURMD_NODENAME:-}: $*" >>"$LOG"
for ((i = 1; i <= $#; i++)); do
  next=$((i + 1))
  [[ ${!i} == --config ]] && echo "config: $(cat "${!next}")" >>"$LOG"
  [[ ${!i} == --version ]] && version=${!next}
done
[[ "$*" == *"${FAILING:-nothing}"* || ${SLURM_PROCID:-} == "${FAILING_RANK:-none}" ]] && exit 2
if [[ $3 == fit && ${SLURM_PROCID:-0} == 0 ]]; then
  mkdir -p "runs/x/version_0/checkpoints"
  ln -sfn version_0 "runs/x/$version"
  [[ ${SAVES:-yes} == no ]] || touch "runs/x/version_0/checkpoints/last.ckpt"
fi
[[ ${SLURM_PROCID:-0} != 0 ]] || touch started
for ((i = 0; i < ${TENTHS:-0}; i++)); do sleep 0.1; done
"""


@pytest.fixture
def stand_in(checkout: Path) -> Path:
    (checkout / "bin").mkdir()
    (checkout / "bin" / "python").write_text(STAND_IN)
    (checkout / "bin" / "python").chmod(0o755)
    site = f"export PATH={checkout / 'bin'}:$PATH LOG={checkout / 'log'}\n"
    (checkout / "slurm" / "site.sh").write_text(site)
    (checkout / "x.yaml").write_text("a: 1")
    return checkout


def hand_in(cluster: VirtualCluster, folder: Path, script: str, *args: object, **env: str) -> str:
    return cluster.run(f"slurm/{script}", *args, cwd=folder, env=env)


def began(cluster: VirtualCluster, folder: Path) -> None:
    cluster.wait((folder / "started").exists, "the stand-in")
    (folder / "started").unlink()


def log(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines()


def output(folder: Path, job: str) -> str:
    (path,) = folder.glob(f"runs/submitted/*/*-{job}.out")
    return path.read_text()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(["shellcheck", "-x", *SCRIPTS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_a_process_a_gpu_on_every_node(cluster: VirtualCluster, stand_in: Path) -> None:
    options = ("--nodes=2", "--gpus-per-node=2", "--cpus-per-gpu=2", "--time=10")
    job = hand_in(cluster, stand_in, "fit.sbatch", *options, "--", "--config", "x.yaml", "--name", "two words")
    # Changed while the job waits in the queue.
    (stand_in / "x.yaml").write_text("a: 2")
    cluster.wait_for(job, "COMPLETED")
    starts = sorted(line for line in log(stand_in) if line.startswith("stand-in"))
    assert [line.split(":")[0] for line in starts] == [f"stand-in {rank}/4 on n{1 + rank // 2}" for rank in range(4)]
    assert all(
        line.endswith(f"--name two words --runs_dir runs --version job_{job} --trainer.num_nodes 2 --trainer.devices 2")
        for line in starts
    )
    assert {line for line in log(stand_in) if line.startswith("config")} == {"config: a: 1"}


@pytest.mark.slow
def test_signals_preemption_and_dying_nodes_requeue_and_cancelling_does_not(
    cluster: VirtualCluster, stand_in: Path
) -> None:
    options = ("--nodes=2", "--cpus-per-task=1", "--", "--config", "x.yaml")
    job = hand_in(cluster, stand_in, "fit.sbatch", *options, TENTHS="600")
    began(cluster, stand_in)
    (stand_in / "x.yaml").write_text("a: 2")
    # As SLURM does near the time limit.
    cluster.run("scancel", "-b", "-s", "USR1", job)
    cluster.wait_for_restart(job, 1)
    began(cluster, stand_in)
    # It has a minute to end by itself, which it does at once.
    cluster.run("sbatch", "-p", "high", "--nodes=2", "--exclusive", "-o", "/dev/null", "--wrap=:")
    cluster.wait_for_restart(job, 2)
    began(cluster, stand_in)
    cluster.run("scontrol", "update", "nodename=n2", "state=down", "reason=died")
    cluster.wait(lambda: cluster.field(job, "Restarts") == "3", "restart 3")
    cluster.wait(lambda: cluster.run("sinfo", "-h", "-t", "idle", "-p", "main", "-o", "%D") == "2", "node n2")
    cluster.wait_for_restart(job, 3)
    began(cluster, stand_in)
    cluster.run("scancel", job)
    cluster.wait_for(job, "CANCELLED")
    assert {line for line in log(stand_in) if line.startswith("config")} == {"config: a: 1"}
    said = output(stand_in, job)
    assert [f"start {k}, on n[1-2]" in said for k in range(1, 6)] == [True] * 4 + [False]
    assert said.count("Near the time limit") == 1 and said.count("The processes were told to stop") == 1


def test_a_job_that_saves_nothing_is_not_queued_again_and_again(cluster: VirtualCluster, stand_in: Path) -> None:
    job = hand_in(cluster, stand_in, "fit.sbatch", "--cpus-per-task=1", "--", TENTHS="30", SAVES="no")
    began(cluster, stand_in)
    cluster.run("scancel", "-b", "-s", "USR1", job)
    cluster.wait_for(job, "COMPLETED")
    assert "nothing was saved since the start" in output(stand_in, job)
    assert cluster.field(job, "Restarts") == "0"


def test_one_process_that_fails_ends_the_job(cluster: VirtualCluster, stand_in: Path) -> None:
    job = hand_in(
        cluster, stand_in, "fit.sbatch", "--nodes=2", "--cpus-per-task=1", "--", TENTHS="6000", FAILING_RANK="1"
    )
    cluster.wait_for(job, "FAILED", timeout=300)
    assert cluster.field(job, "Restarts") == "0"


def test_handed_in_by_sbatch_itself_the_first_start_keeps_the_configs(cluster: VirtualCluster, stand_in: Path) -> None:
    command = ("sbatch", "--parsable", "--cpus-per-task=1", "-o", "out", "slurm/fit.sbatch", "--config", "x.yaml")
    job = cluster.run(*command, "--name", "two words", cwd=stand_in, env={"TENTHS": "100"})
    began(cluster, stand_in)
    (stand_in / "x.yaml").write_text("a: 2")
    cluster.run("scancel", "-b", "-s", "USR1", job)
    cluster.wait_for_restart(job, 1)
    began(cluster, stand_in)
    cluster.run("scancel", job)
    assert [line for line in log(stand_in) if line.startswith("config")] == ["config: a: 1"] * 2
    assert log(stand_in)[0].split(": ", 1)[1] == log(stand_in)[2].split(": ", 1)[1]
    cluster.wait_for(job, "CANCELLED")


def test_where_one_stage_fails_the_two_are_not_tested(cluster: VirtualCluster, stand_in: Path) -> None:
    said = hand_in(
        cluster, stand_in, "two-stage.sh", "--cpus-per-task=1", "--", "--a", "1", "--detector", "--b", FAILING="--b"
    )
    jobs = [word.strip(",") for word in said.split() if word.strip(",").isdigit()]
    for job, state in zip(jobs, ("FAILED", "COMPLETED", "CANCELLED"), strict=True):
        cluster.wait_for(job, state)
    starts = [line.split(": ", 1)[1] for line in log(stand_in) if line.startswith("stand-in")]
    assert len(starts) == 2 and all("--a 1" in start for start in starts)
    assert sum(" --b " in start for start in starts) == 1


def test_an_array_of_agents_runs_one_trial_each(cluster: VirtualCluster, stand_in: Path) -> None:
    agent = stand_in / "bin" / "wandb"
    agent.write_text('#!/usr/bin/env bash\necho "$SLURM_ARRAY_TASK_ID: $*" >>"$LOG"\n')
    agent.chmod(0o755)
    job = hand_in(cluster, stand_in, "sweep.sbatch", "--array=1-3%2", "--cpus-per-task=1", "--", "me/karyon/abc")
    cluster.wait(lambda: cluster.run("squeue", "-h", "-j", job) == "", "the array")
    assert sorted(log(stand_in)) == [f"{k}: agent --forward-signals --count 1 me/karyon/abc" for k in (1, 2, 3)]
    for arguments, sentence in (
        (["me/karyon/abc"], "Say how many trials"),
        (["--array=1-3", "--", "x.yaml"], "x.yaml is a file: make a sweep from it first"),
        (["--array=1-3", "--"], "Give the name of one sweep"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            hand_in(cluster, stand_in, "sweep.sbatch", *arguments)


def test_a_config_that_does_not_exist_is_said_at_once(cluster: VirtualCluster, stand_in: Path) -> None:
    with pytest.raises(AssertionError, match=r"error: There is no config y\.yaml"):
        hand_in(cluster, stand_in, "fit.sbatch", "--config", "y.yaml")
    with pytest.raises(AssertionError, match="The command line is not accepted"):
        hand_in(cluster, stand_in, "fit.sbatch", "--typo", CHECK="yes", FAILING="--typo")

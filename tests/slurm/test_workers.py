"""Blocks of a large image by jobs of a real SLURM, of which one is killed in the middle."""

import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from bundles import SEGMENT, write_bundle
from virtual_cluster import VirtualCluster

pytestmark = pytest.mark.slow

MOSAIC = np.kron(np.pad(np.indices((30, 30)).sum(0) % 2, 1), np.full((20, 20), 200)).astype(np.uint8)
COMMAND = (*SEGMENT, "--formats", "labels", "objects", "--memory", "690M")
WORKERS = ("--workers", "slurm:2", "--worker-options=--mem=900M --cpus-per-task=1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "bundle", onnx=True)
    tifffile.imwrite(tmp_path / "a.tif", MOSAIC)
    return tmp_path


def test_the_block_of_a_job_that_is_killed_is_done_again(cluster: VirtualCluster, folder: Path) -> None:
    subprocess.run([*COMMAND, "--out", "one"], cwd=folder, check=True)

    def after_blocks(count: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *WORKERS, "--out", "two"],
            cwd=folder,
            env=cluster.environment,
            stdout=subprocess.PIPE,
            text=True,
            # Where tests run in the background of a script, nobody hears Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        while process.poll() is None and len(list((folder / "two").rglob("*.npz"))) < count:
            time.sleep(0.05)
        return process

    process = after_blocks(5)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    done = len(list((folder / "two").rglob("*.npz")))
    process = after_blocks(done + 5)
    jobs = cluster.run("squeue", "-h", "-n", "karyon", "-t", "running", "-o", "%A").split()
    assert jobs
    cluster.run("scancel", "-s", "KILL", jobs[0])
    said = process.communicate()[0]
    assert process.returncode == 0 and "Blocks of large images by 2 workers of Dask, each a job of SLURM." in said
    for name in ("counts.csv", "objects.csv", "labels/a.tif"):
        assert (folder / "two" / name).read_bytes() == (folder / "one" / name).read_bytes()
    assert list((folder / "two" / "workers").glob("karyon-*.err"))
    # None is left behind.
    cluster.wait(lambda: not cluster.run("squeue", "-h", "-n", "karyon", "-o", "%A"), "the end of the workers")


def test_jobs_that_slurm_refuses_are_one_sentence(cluster: VirtualCluster, folder: Path) -> None:
    command = [*COMMAND, "--workers", "slurm:2", "--worker-options=--partition=nowhere"]
    done = subprocess.run(command, cwd=folder, env=cluster.environment, capture_output=True, text=True)
    assert done.returncode == 2 and "error: SLURM refuses the jobs of --workers (" in done.stderr
    assert "nvalid partition" in done.stderr and done.stderr.count("\n") == 1

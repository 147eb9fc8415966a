import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from virtual_cluster import VirtualCluster

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualCluster]:
    """A SLURM of two nodes."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip("No SLURM: apt-get install slurmctld slurmd slurm-client, and be root.")
    with VirtualCluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that jobs can be handed in from: the scripts and configs, and Python with this code."""
    shutil.copytree(ROOT / "slurm", tmp_path / "slurm", ignore=shutil.ignore_patterns("site.sh"))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    site = f"export PYTHONPATH={ROOT} PATH={Path(sys.executable).parent}:$PATH OMP_NUM_THREADS=1 WANDB_MODE=disabled\n"
    (tmp_path / "slurm" / "site.sh").write_text(site)
    return tmp_path

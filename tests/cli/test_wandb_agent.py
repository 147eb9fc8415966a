"""W&B's own commands take a sweep file of ours and run a trial of it; only their server is a stand-in."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from config_files import ROOT
from wandb_server import wandb_server

pytestmark = pytest.mark.slow

Small = Callable[[Path], list[object]]

R4 = ROOT / "configs" / "sweeps" / "r4-optimizers.yaml"


def test_wandb_sweep_and_wandb_agent_run_a_trial(small: Small, tmp_path: Path) -> None:
    # As small as the tests' other runs; all else is as it stands in the file.
    content = yaml.safe_load(R4.read_text())
    first = {name: entry["values"][0] for name, entry in content["parameters"].items()}
    content["command"] += map(str, [*small(ROOT / first["config"])[2:], "--test_after_fit=false"])
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    with wandb_server() as server:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WANDB_")},
            "WANDB_BASE_URL": server.address,
            "WANDB_API_KEY": 40 * "a",
            # ${interpreter} is the python of the PATH.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        }
        for command in (["sweep", "sweep.yaml"], ["agent", "--count", "1", "team/karyon/sweep1"]):
            subprocess.run(
                [sys.executable, "-m", "wandb", *command], cwd=tmp_path, env=environment, check=True, timeout=600
            )
    assert server.sweep == content
    assert {"trial1": True} in server.heartbeats
    # Of the agent's sweep, in its project, with its name.
    said = server.runs["trial1"]
    assert (said["sweep"], said["project"], said.get("displayName")) == ("sweep1", "karyon", None)
    config = server.config("trial1")
    assert config["model.init_args.optimizer"] == first["model.init_args.optimizer"]
    assert config["model"]["init_args"]["optimizer"]["class_path"] == "torch.optim.SGD"
    assert all(0 <= accuracy <= 1 for accuracy in server.logged("trial1", "val/accuracy").values())
    assert server.logged("trial1", "val/accuracy").keys() == server.logged("trial1", "train/loss_epoch").keys() != set()
    assert (tmp_path / "runs" / "r4-unet" / "version_0" / "checkpoints" / "best.ckpt").exists()

"""What the cluster's users run, on a real SLURM with real processes: small, but all of it."""

import csv
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from bundles import write_bundle
from virtual_cluster import VirtualCluster

pytestmark = pytest.mark.slow

QUICKSTART = "configs/quickstart.yaml"
SMALL = {
    "model": {"init_args": {"network": {"init_args": {"widths": [8, 8], "dropout": [0.0, 0.0]}}}},
    "data": {
        "init_args": {
            "train": 10,
            "test": 2,
            "size": [64, 64],
            "batch_size": 2,
            "num_workers": 0,
            "augmentations": [{"class_path": "albumentations.RandomCrop", "init_args": {"height": 64, "width": 64}}],
        }
    },
    "trainer": {"max_epochs": 4, "accelerator": "cpu", "log_every_n_steps": 1},
    "test_after_fit": False,
}


@pytest.fixture
def small(checkout: Path) -> Path:
    (checkout / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return checkout


def output(folder: Path, job: str) -> str:
    return "".join(path.read_text() for path in folder.glob(f"runs/submitted/*/*-{job}.out"))


def finish(cluster: VirtualCluster, folder: Path, job: str) -> None:
    ended = ("COMPLETED", "FAILED", "CANCELLED")
    cluster.wait(lambda: cluster.field(job, "JobState") in ended, f"the end of job {job}")
    assert cluster.field(job, "JobState") == "COMPLETED", output(folder, job)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_two_nodes_train_are_queued_again_by_a_signal_and_go_on_where_they_were(
    cluster: VirtualCluster, small: Path
) -> None:
    hold = Path(__file__).parent
    with (small / "slurm" / "site.sh").open("a") as site:
        site.write(f"export PYTHONPATH=$PYTHONPATH:{hold}\n")
    config = ("--config", QUICKSTART, "--config", "small.yaml")
    held = ("--trainer.callbacks+", "hold.Hold", "--trainer.callbacks.epoch", 2)
    job = cluster.run("slurm/fit.sbatch", "--nodes=2", "--cpus-per-task=1", "--", *config, *held, cwd=small)
    folder = small / "runs" / "quickstart" / "version_0"
    cluster.wait((small / "held").exists, "two epochs")
    (small / "small.yaml").unlink()
    cluster.run("scancel", "-b", "-s", "USR1", job)
    cluster.wait_for_restart(job, 1)
    finish(cluster, small, job)
    said = output(small, job)
    assert said.count("Starting with 2 processes") == 2 and said.count("distributed_backend=gloo") == 2
    assert f"Job {job} (fit), start 2, on n[1-2]" in said
    assert said.count("Resuming runs/quickstart/version_0/checkpoints/last.ckpt.") == 1
    assert (folder.parent / f"job_{job}").resolve() == folder
    assert {path.name for path in folder.parent.iterdir()} == {"version_0", f"job_{job}"}
    parts = [rows(folder / f"metrics{part}.csv") for part in ("-before-resume", "")]
    assert [{row["epoch"] for row in part} for part in parts] == [{"0", "1"}, {"2", "3"}]
    fit = json.loads((folder / "record.json").read_text())["fit"]
    # Eight images to train on, two a batch and process.
    assert (fit["epochs"], fit["steps"], fit["interrupted"]) == (4, 8, False)


def test_an_array_segments_a_folder_and_joins_its_tables(cluster: VirtualCluster, checkout: Path) -> None:
    write_bundle(checkout / "bundle")
    (checkout / "my plates").mkdir()
    image = np.zeros((20, 30), np.uint8)
    image[3:9, 4:10] = 200
    for number in range(5):
        cv2.imwrite(str(checkout / "my plates" / f"{number}.png"), image)
    args = ("my plates", "--model", "bundle", "--device", "cpu", "--out", "segmented")
    said = cluster.run("slurm/predict.sbatch", "--cpus-per-task=1", "--", *args, cwd=checkout, env={"SHARDS": "2"})
    array, join = said.split()
    finish(cluster, checkout, join)
    assert [row["objects"] for row in rows(checkout / "segmented" / "counts.csv")] == ["1"] * 5
    assert "0 segmented, 5 done before, 0 failed" in output(checkout, join)
    shards = [path.read_text() for path in checkout.glob(f"runs/submitted/*/predict-{array}_*.out")]
    assert sorted(re.findall(r"(\d) segmented", "".join(shards))) == ["2", "3"]


def test_an_array_runs_the_trials_of_a_sweep(cluster: VirtualCluster, small: Path) -> None:
    command = ["${interpreter}", "-m", "${program}", "fit", "--config=configs/quickstart.yaml", "--config=small.yaml"]
    rates = {"model.init_args.optimizer.init_args.lr": {"values": [0.001, 0.01]}}
    sweep = {"name": "rates", "program": "cli", "command": [*command, "${args}"], "method": "grid"}
    metric = {"name": "val/dsb_score", "goal": "maximize"}
    (small / "rates.yaml").write_text(yaml.safe_dump({**sweep, "metric": metric, "parameters": rates}))
    typed = "source slurm/site.sh; python -m cli sweep rates.yaml --jobs 2 --slurm=--cpus-per-task=1"
    said = cluster.run("bash", "-c", typed, cwd=small)
    found = re.search(r"array (\d+)", said)
    assert found, said
    cluster.wait(lambda: cluster.run("squeue", "-h", "-j", found[1]) == "", "the array")
    trials = [small / "runs" / "rates" / f"trial-000{number}" / "version_0" for number in (1, 2)]
    assert [json.loads((trial / "record.json").read_text())["fit"]["epochs"] for trial in trials] == [4, 4]
    assert "of 2 trials 2 finished" in (small / "runs" / "rates" / "sweep.md").read_text()


CROP = "[{class_path: albumentations.RandomCrop, init_args: {height: 64, width: 64}}]"
IN_PROCESS = ("--data.init_args.num_workers", 0)
SYNTHETIC = ("--config", "configs/debug/synthetic.yaml", "--data.init_args.size", "[64,64]", *IN_PROCESS)
STAGES = {
    "detector": [
        *SYNTHETIC,
        *("--data.init_args.augmentations", CROP),
        *("--trainer.check_val_every_n_epoch", 1),
        *("--model.init_args.network.init_args.backbone", "karyon.networks.feature_pyramid.ResNetFPN"),
        *("--model.init_args.network.init_args.backbone.init_args.depth", 18),
        *("--model.init_args.network.init_args.backbone.init_args.channels", 8),
        *("--model.init_args.network.init_args.backbone.init_args.pretrained", "none"),
        *("--model.init_args.network.init_args.proposals", 20),
    ],
    "segmenter": [
        *IN_PROCESS,
        *("--data.init_args.images", "datamodules.synthetic.SyntheticDataModule"),
        *("--data.init_args.images.init_args.train", 16),
        *("--data.init_args.images.init_args.test", 4),
        *("--data.init_args.images.init_args.size", "[64,64]"),
        *("--data.init_args.crop_size", 16),
        *("--model.init_args.network.init_args.widths", "[8,8]"),
    ],
    "test": SYNTHETIC,
}


def test_the_two_stages_train_side_by_side_and_are_then_tested(cluster: VirtualCluster, checkout: Path) -> None:
    stages = [word for stage, args in STAGES.items() for word in (f"--{stage}", *args)]
    everywhere = ("--config", "configs/debug/limit.yaml", "--trainer.accelerator", "cpu", "--trainer.precision", "32")
    command = ("slurm/two-stage.sh", "--cpus-per-task=1", "--", *everywhere, *stages)
    said = cluster.run(*command, cwd=checkout, env={"COMMANDS": "test", "NAME": "r1"})
    detector, segmenter, both = re.findall(r"\d+", said)
    finish(cluster, checkout, both)
    record = json.loads((checkout / "runs" / "r1" / "test" / "record.json").read_text())
    trained = {name: Path(stage["checkpoint"]) for name, stage in record["stages"].items()}
    jobs = {"detector": detector, "segmenter": segmenter}
    for name, job in jobs.items():
        folder = checkout / "runs" / f"r1-{name}"
        assert (folder / f"job_{job}").resolve() == folder / "version_0"
        assert checkout / trained[name] == folder / "version_0" / "checkpoints" / "best.ckpt"
    assert "test/dsb_score" in record["test"]["metrics"]

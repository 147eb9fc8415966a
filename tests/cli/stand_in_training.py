"""Stands in for ``python -m cli fit`` in a sweep's command: leaves what a training leaves, without learning anything.

Its options besides ours: the score it comes to, and what happens ``--then``.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("fit")
parser.add_argument("--config")
parser.add_argument("--score", type=float, default=0.5)
parser.add_argument("--lr", type=float)
parser.add_argument("--then", default="end", choices=["end", "fail", "wait", "lag", "meet", "terminated"])
parser.add_argument("--runs_dir", type=Path)
parser.add_argument("--name")
parser.add_argument("--trainer.default_root_dir")
parser.add_argument("--ckpt_path")
options = parser.parse_args()
assert options.ckpt_path == "last"

folder = options.runs_dir / options.name / "version_0"
folder.mkdir(exist_ok=True)
with (folder / "starts.txt").open("a") as file:
    file.write("start\n")
starts = len((folder / "starts.txt").read_text().split())


def leave(epochs: int, interrupted: bool) -> None:
    scores = [options.score * epoch / 4 for epoch in range(1, epochs + 1)]
    rows = [f"{epoch},{10 * epoch},{score}" for epoch, score in enumerate(scores)]
    # Between the validations there are other rows.
    (folder / "metrics.csv").write_text("\n".join(["epoch,step,val/score", "0,5,", *rows]) + "\n")
    record = {"fit": {"interrupted": interrupted}, "test": {"metrics": {"test/score": options.score / 2}}}
    (folder / "record.json").write_text(json.dumps(record))


def interrupt(*_: object) -> None:
    leave(2, interrupted=True)
    sys.exit(1)


if options.then == "fail":
    print("one line")
    print("error: no such nucleus", file=sys.stderr)
    sys.exit(2)
if options.then == "terminated" and starts == 1:
    # What Lightning does when SLURM tells it to stop.
    leave(1, interrupted=True)
    sys.exit(0)
if (options.then == "wait" and starts == 1) or (options.then == "lag" and options.score < 0.5):
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    leave(2, interrupted=True)
    (folder / "waiting").touch()
    time.sleep(120)
if options.then == "meet":
    (folder / "waiting").touch()
    for _ in range(600):
        if len(list(options.runs_dir.glob("trial-*/version_0/waiting"))) == 2:
            break
        time.sleep(0.1)
    else:
        sys.exit("nobody came")
leave(4, interrupted=False)

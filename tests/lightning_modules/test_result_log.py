"""The table at the end of a test is in every logger too."""

import csv
from types import SimpleNamespace

import numpy as np
import torch
from echo_model import EchoModel, loader, make_trainer, sample
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from lightning_modules.base import BaseModule
from lightning_modules.callbacks.result_log import ResultLog, tabulate
from lightning_modules.callbacks.result_table import result_rows

HEADER, ROWS = ["metric", "all images", "blue"], [["box mAP", 0.25, None], ["DSB score", 0.5, 1.0]]


class Scored(BaseModule):
    predict_step = EchoModel.predict_step


def test_a_test_leaves_its_table_in_the_run_folder(tmp_path):
    labels = np.zeros((16, 16), np.int64)
    labels[2:8, 2:8] = 1
    samples = [sample("a", labels, image_type="blue"), sample("b", 0 * labels, truth=labels, image_type="red")]
    trainer = make_trainer(tmp_path, ResultLog(), logger=CSVLogger(tmp_path, name="", version=""))
    trainer.test(Scored(), loader(samples), verbose=False)
    with (tmp_path / "results-test.csv").open(newline="") as file:
        rows = {row.pop("metric"): row for row in csv.DictReader(file)}
    assert rows["DSB score"] == {"all images": "0.5", "blue": "1.0", "red": "0.0"}
    assert rows["objects found"] == {"all images": "1.0", "blue": "1.0", "red": "0.0"}
    assert rows["true objects"] == {"all images": "2.0", "blue": "1.0", "red": "1.0"}


def test_what_holds_for_all_images_at_once_has_one_value():
    names = ("accuracy", "iou", "miou", "dsb_score", "ap50", "aji", "pq", "objects_found", "objects_true")
    metrics = {f"val/{name}{image_type}": torch.tensor(0.5) for name in names for image_type in ("", "/a", "/b")}
    headings, rows = result_rows({**metrics, "val/box_map": torch.tensor(0.25)}, "val")
    assert headings == ["all images", "a", "b"]
    assert rows[0] == ("box mAP", [0.25])
    assert rows[1] == ("pixel accuracy", [0.5] * 3)


def test_tensorboard_and_wandb_are_given_the_table():
    given = []
    writer = SimpleNamespace(add_text=lambda *args: given.append(args))
    tabulate(
        type("Board", (TensorBoardLogger,), {"__init__": lambda self: None, "experiment": writer})(), "t", HEADER, ROWS
    )
    lines = ["| metric | all images | blue |", "| --- | --- | --- |"]
    assert given.pop() == ("t", "\n".join([*lines, "| box mAP | 0.2500 |  |", "| DSB score | 0.5000 | 1.0000 |"]))
    taken = {"__init__": lambda self: None, "log_table": lambda self, *args, **kwargs: given.append((args, kwargs))}
    tabulate(type("Online", (WandbLogger,), taken)(), "t", HEADER, ROWS)
    assert given == [(("t",), {"columns": HEADER, "data": ROWS})]

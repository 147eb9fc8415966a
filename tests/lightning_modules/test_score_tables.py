"""The tables beside the record of a test: a row an image, a row an object."""

import csv

import numpy as np
from echo_model import EchoModel, loader, make_trainer, sample

from lightning_modules.callbacks.score_tables import ScoreTables


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def boxes(*rows):
    """Objects of 10 px each in one column of a label image, from these rows on; their ids count from 1."""
    labels = np.zeros((60, 4), np.int64)
    for number, row in enumerate(rows, start=1):
        labels[row : row + 10, 1] = number
    return labels


def test_what_is_written_follows_from_the_geometry(tmp_path):
    samples = [
        # The first is 2 of 10 px off (IoU 8 / 12), the second exact, the third invented; one is missed.
        sample("a, b", boxes(2, 20, 40), truth=boxes(0, 20, 30), image_type="fluorescence"),
        # Predicted in the other order of rows: ids, not places, tell which score is whose.
        sample('<i>"', boxes(40, 0), truth=boxes(0)),
        sample("empty", boxes()),
    ]
    make_trainer(tmp_path, ScoreTables()).test(EchoModel(), loader(samples, batch_size=2), verbose=False)
    images, objects = read(tmp_path / "image_scores.csv"), read(tmp_path / "object_scores.csv")
    assert [list(row.values())[:6] for row in images] == [
        ["a, b", "fluorescence", "60", "4", "3", "3"],
        ['<i>"', "", "60", "4", "1", "2"],
        ["empty", "", "60", "4", "0", "0"],
    ]
    # Two of four objects at the first four thresholds, one of five at the other six.
    assert [row["dsb_score"] for row in images] == ["0.3200", "0.5000", "1.0000"]
    assert [int(images[0][f"tp_{t}"]) for t in ("0.50", "0.65", "0.70", "0.95")] == [2, 2, 1, 1]
    assert [list(row.values()) for row in objects] == [
        ["a, b", "1", "0.5000", "0.6667"],
        ["a, b", "2", "0.3333", "1.0000"],
        ["a, b", "3", "0.2500", "0.0000"],
        ['<i>"', "1", "0.5000", "0.0000"],
        ['<i>"', "2", "0.3333", "1.0000"],
    ]


def test_an_image_given_twice_is_listed_once_and_a_second_test_begins_anew(tmp_path):
    trainer = make_trainer(tmp_path, ScoreTables())
    for names in (["x", "y", "x"], ["z"]):
        trainer.test(EchoModel(), loader([sample(name, boxes(0)) for name in names]), verbose=False)
        assert [row["image"] for row in read(tmp_path / "image_scores.csv")] == list(dict.fromkeys(names))
    assert len(read(tmp_path / "object_scores.csv")) == 1

"""The same few validation images are shown every few epochs, in whichever loggers there are."""

import dataclasses
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from echo_model import EchoModel, loader, make_trainer, sample
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from karyon.pictures.collage import panels_of, resized
from karyon.pictures.overlay import CAPTION, GAP, side_by_side
from lightning_modules.callbacks.sample_pictures import PANEL, PROGRESS, TIMES, SamplePictures, Shown, outcomes, show


def square(shift=0):
    labels = np.zeros((32, 32), np.int64)
    labels[4 + shift : 14 + shift, 4:14] = 1
    return labels


def validated(folder, pictures, image_types="aabc", epochs=7, every=1):
    data = loader(
        [sample(f"{image_type}{k}", square(), image_type=image_type) for k, image_type in enumerate(image_types)],
        batch_size=2,
    )
    logger = CSVLogger(folder, name="", version="")
    kwargs = {"max_epochs": epochs, "check_val_every_n_epoch": every, "logger": logger, "log_every_n_steps": 1}
    make_trainer(folder, pictures, **kwargs).fit(EchoModel(), data, data)
    return sorted(str(path.relative_to(folder / "samples")) for path in folder.glob("samples/*/*"))


def test_every_image_type_is_shown_before_one_is_shown_twice(tmp_path):
    shown = validated(tmp_path, SamplePictures(count=3), epochs=1)
    assert shown == [f"{name}/epoch-0001.png" for name in ("a0", "b2", "c3")]


def test_the_first_validation_then_every_few_epochs_and_the_last(tmp_path):
    shown = validated(tmp_path, SamplePictures(count=1, every_n_epochs=3), epochs=8, every=2)
    assert shown == [f"a0/epoch-000{epoch}.png" for epoch in (2, 6, 8)]
    # In a row: input, truth, and the results of three times.
    assert cv2.imread(str(tmp_path / PROGRESS)).shape == (CAPTION + PANEL, 5 * PANEL + 4 * GAP, 3)


def test_progress_shows_a_few_times_from_the_first_to_the_last(tmp_path, shown):
    logger = CSVLogger(tmp_path, name="", version="")
    for epoch in range(1, 10):
        show(logger, [dataclasses.replace(shown, pred=square(shift=epoch))], epoch, 0)
    picture = cv2.imread(str(tmp_path / PROGRESS))[CAPTION:, :, ::-1]
    results = [picture[:, k * (PANEL + GAP) :][:, :PANEL] for k in range(2, 2 + TIMES)]
    for result, epoch in zip(results, (1, 3, 4, 6, 7, 9), strict=True):
        expected = panels_of(side_by_side(shown.source, square(shift=epoch), shown.true))[2]
        assert (result == resized(expected, PANEL)).all()


def test_none_are_shown_where_none_are_wanted_and_none_by_validate(tmp_path):
    assert validated(tmp_path, SamplePictures(count=0)) == []
    trainer = make_trainer(tmp_path, SamplePictures(), logger=CSVLogger(tmp_path, name="", version=""))
    trainer.validate(EchoModel(), loader([sample("x", square())]), verbose=False)
    assert not (tmp_path / "samples").exists()


@pytest.fixture
def shown():
    source = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return Shown("plate 1/b3", source, square(), square(shift=2))


def test_the_run_folder_has_input_truth_and_result(tmp_path, shown):
    show(CSVLogger(tmp_path, name="", version=""), [shown], 12, 0)
    picture = cv2.imread(str(tmp_path / "samples" / "plate 1%2Fb3" / "epoch-0012.png"))[..., ::-1]
    assert (picture == side_by_side(shown.source, shown.pred, shown.true)).all()


def stand_in(image_type, **attributes):
    """A logger of that class which only remembers what it is given."""
    recorder = type("Recorder", (image_type,), {"__init__": lambda self: None, **attributes})
    return recorder()


def test_tensorboard_is_given_the_same_picture(shown):
    given = []
    writer = SimpleNamespace(add_image=lambda *args, **kwargs: given.append((args, kwargs)))
    show(stand_in(TensorBoardLogger, experiment=writer), [shown], 12, 34)
    (((tag, picture, step), kwargs),) = given
    assert (tag, step, kwargs) == ("samples/plate 1/b3", 34, {"dataformats": "HWC"})
    assert (picture == side_by_side(shown.source, shown.pred, shown.true)).all()


def test_wandb_is_given_the_image_and_masks_no_larger_than_can_be_looked_at(shown):
    given = []
    logger = stand_in(WandbLogger, log_image=lambda self, *args, **kwargs: given.append((args, kwargs)))
    large = Shown("large", np.zeros((2100, 60), np.uint8), np.zeros((2100, 60), int), np.ones((2100, 60), int))
    show(logger, [shown, large], 12, 34)
    assert [key for (key, _, step), _ in given if step == 34] == ["samples/plate 1/b3", "samples/large"]
    assert [kwargs["caption"] for _, kwargs in given] == [["epoch 12"]] * 2
    pictures = [picture for (_, (picture,), _), _ in given]
    masks = [masks for _, kwargs in given for masks in kwargs["masks"]]
    assert [picture.shape for picture in pictures] == [(32, 32, 3), (700, 20, 3)]
    for picture, both in zip(pictures, masks, strict=True):
        assert {mask["mask_data"].shape for mask in both.values()} == {picture.shape[:2]}
    result, truth = (masks[0][key] for key in ("result", "truth"))
    assert result["class_labels"][result["mask_data"][6, 4]] == "right"
    assert truth["class_labels"][truth["mask_data"][4, 4]] == "found"
    assert masks[1]["result"]["mask_data"].tolist() == np.full((700, 20), 2).tolist()


def test_other_loggers_are_left_alone(shown):
    show(SimpleNamespace(), [shown], 1, 1)
    assert show.dispatch(Logger) is show.dispatch(object)


@given(*[arrays(np.int64, (6, 7), elements=st.sampled_from([0, 3, 5, 70000]))] * 2)
def test_outcomes_are_those_of_every_pair_of_objects(true, pred):
    for labels, other, mask in zip((true, pred), (pred, true), outcomes(true, pred), strict=True):
        assert (mask[labels == 0] == 0).all()
        for one in set(labels[labels > 0]):
            pairs = [(labels == one, other == another) for another in set(other[other > 0])]
            expected = 1 if any((a & b).sum() / (a | b).sum() > 0.5 for a, b in pairs) else 2
            # Between touching objects there is a line.
            assert set(mask[labels == one]) <= {0, expected}
        assert (mask[(labels > 0) & ~beside_another(labels)] > 0).all()


def beside_another(labels):
    """Pixels whose left or upper neighbour belongs to another object."""
    padded = np.pad(labels, 1)
    above, left = padded[:-2, 1:-1], padded[1:-1, :-2]
    return (labels > 0) & (((above > 0) & (above != labels)) | ((left > 0) & (left != labels)))

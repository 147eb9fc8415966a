"""A test leaves pictures of every image type, named by their scores; training leaves none."""

import cv2
import numpy as np
import pytest
from echo_model import EchoModel, loader, make_trainer, sample
from hypothesis import given
from hypothesis import strategies as st

from karyon.pictures.overlay import side_by_side
from lightning_modules.callbacks.evaluation_overlays import EvaluationOverlays, choose


def square(size=10, shift=0):
    labels = np.zeros((40, 40), np.int64)
    labels[4 + shift : 4 + shift + size, 4 : 4 + size] = 1
    return labels


def names(folder):
    return sorted(path.name for path in (folder / "overlays").iterdir())


def test_names_start_with_the_images_own_score(tmp_path):
    empty = np.zeros((40, 40), np.int64)
    samples = [
        sample("perfect", square()),
        # 8 of 12 rows are shared, an IoU of .667: a match at .50, .55, .60 and .65.
        sample("shifted", square(), truth=square(shift=2)),
        sample("invented", square(), truth=empty),
        sample("both/empty", empty),
    ]
    make_trainer(tmp_path, EvaluationOverlays()).test(EchoModel(), loader(samples, batch_size=3), verbose=False)
    assert names(tmp_path) == ["0.000-invented.png", "0.400-shifted.png", "1.000-both%2Fempty.png", "1.000-perfect.png"]


def test_pictures_show_input_truth_and_result(tmp_path):
    source = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    samples = [sample("x", square(), source, truth=square(shift=2))]
    make_trainer(tmp_path, EvaluationOverlays()).test(EchoModel(), loader(samples), verbose=False)
    picture = cv2.imread(str(tmp_path / "overlays" / "0.400-x.png"))[..., ::-1]
    assert (picture == side_by_side(source, square(), square(shift=2))).all()


@pytest.mark.parametrize(
    ("image_types", "count", "kept"),
    [
        ("aaaaaaaa", 3, "aaa"),
        ("aaaaaaab", 3, "aab"),
        ("aaaabbbbc", 6, "aaabbc"),
        ("abcabcabc", 3, "abc"),
        ("aaaaaaaaab", 9, "aaaaaaaab"),
        ("ab", 12, "ab"),
        ("ab", 0, ""),
    ],
)
def test_every_image_type_gets_its_share(tmp_path, image_types, count, kept):
    samples = [
        sample(f"{image_type}{number}", square(), image_type=image_type)
        for number, image_type in enumerate(image_types)
    ]
    make_trainer(tmp_path, EvaluationOverlays(count)).test(EchoModel(), loader(samples, batch_size=2), verbose=False)
    assert "".join(sorted(name.removeprefix("1.000-")[0] for name in names(tmp_path))) == kept


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), st.sampled_from("abc"))), st.integers(0, 12))
def test_the_median_the_worst_and_the_best_are_chosen(images, count):
    scores, image_types = [score for score, _ in images], [image_type for _, image_type in images]
    chosen = choose(scores, image_types, count)
    assert len(set(chosen)) == len(chosen) == min(count, len(images))
    if chosen:
        assert scores[chosen[0]] == sorted(scores)[len(scores) // 2]
    # Three of each type, one of which may be the median.
    if count >= 9 and images:
        assert {min(scores), max(scores)} <= {scores[k] for k in chosen}


def test_the_pictures_are_of_the_images_they_are_named_after(tmp_path):
    # A square of 20 rows, of which the truth shares all but so many.
    missed = [3, 0, 1, 9, 2, 4, 3]
    samples = [sample(f"{k}", square(20), truth=square(20, shift)) for k, shift in enumerate(missed)]
    make_trainer(tmp_path, EvaluationOverlays(3)).test(EchoModel(), loader(samples, batch_size=2), verbose=False)
    # An IoU of 17 / 23 passes five thresholds; of the equal ones the later is the fourth of seven.
    assert names(tmp_path) == ["0.000-3.png", "0.500-6.png", "1.000-1.png"]
    for name, shift in (("0.000-3", 9), ("0.500-6", 3)):
        picture = cv2.imread(str(tmp_path / "overlays" / f"{name}.png"))[..., ::-1]
        assert (picture == side_by_side(np.zeros((40, 40), np.uint8), square(20), square(20, shift))).all()


def test_validate_writes_pictures_and_the_validation_of_a_fit_does_not(tmp_path):
    data = loader([sample("x", square())])
    make_trainer(tmp_path / "validate", EvaluationOverlays()).validate(EchoModel(), data, verbose=False)
    assert names(tmp_path / "validate") == ["1.000-x.png"]
    trainer = make_trainer(tmp_path / "fit", EvaluationOverlays(), max_epochs=1, log_every_n_steps=1)
    trainer.fit(EchoModel(), data, data)
    assert trainer.global_step == 1
    assert not (tmp_path / "fit" / "overlays").exists()


def test_a_second_test_replaces_the_pictures_of_the_first(tmp_path):
    trainer = make_trainer(tmp_path, EvaluationOverlays())
    trainer.test(EchoModel(), loader([sample("x", square()), sample("y", square())]), verbose=False)
    (tmp_path / "overlays" / "my notes.txt").write_text("stays")
    trainer.test(EchoModel(), loader([sample("x", square(), truth=square(shift=2))]), verbose=False)
    assert names(tmp_path) == ["0.400-x.png", "my notes.txt"]

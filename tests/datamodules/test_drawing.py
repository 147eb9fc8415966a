"""The drawn images keep what the label image, the image types and DSB2018's layout promise."""

import csv

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from datamodules.drawing import MODALITIES, draw_nuclei, write_dsb_layout
from karyon.labels import decode_run_lengths

SIZES = st.tuples(st.integers(32, 96), st.integers(32, 96))
SEEDS = st.integers(0, 2**32 - 1)


def image_type(image):
    """The rule by which a data module tells the modalities apart."""
    if (image != image[..., :1]).any():
        return "histology"
    return "fluorescence" if np.median(image) < 70 else "brightfield"


def touching_pairs(labels):
    pairs = set()
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        border = (a != b) & (a > 0) & (b > 0)
        pairs |= {frozenset(pair) for pair in zip(a[border].tolist(), b[border].tolist(), strict=True)}
    return pairs


@settings(max_examples=60)
@given(seed=SEEDS, size=SIZES, modality=st.sampled_from(MODALITIES))
def test_labels_are_whole_objects_and_the_modality_can_be_told_from_the_pixels(seed, size, modality):
    image, labels = draw_nuclei(np.random.default_rng(seed), size, modality)
    assert image.shape == (*size, 3) and image.dtype == np.uint8
    assert labels.shape == size and labels.dtype == np.int32
    count = labels.max()
    assert count >= 1
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    assert (areas[1:] >= 12).all()
    for k in range(1, count + 1):
        assert ndimage.label(labels == k)[1] == 1
    assert image_type(image) == modality
    if modality == "brightfield":
        assert np.median(image) > 100
    if modality == "histology":
        assert np.percentile(image[..., 1], 95) > 185


def test_nuclei_stand_out_some_touch_and_some_objects_are_not_annotated():
    for modality in MODALITIES:
        touching, count, excess = 0, 0, []
        for seed in range(10):
            image, labels = draw_nuclei(np.random.default_rng(seed), (128, 128), modality)
            green = image[..., 1].astype(float)
            inside, outside = green[labels > 0].mean(), np.median(green[labels == 0])
            assert inside > 1.5 * outside if modality == "fluorescence" else inside < 0.8 * outside
            touching += len(set().union(*touching_pairs(labels)))
            count += labels.max()
            # Brightest of the background, away from every nucleus: well above its noise in some images.
            far = green[ndimage.distance_transform_edt(labels == 0) > 8]
            noise = 1.4826 * np.median(np.abs(far - np.median(far))) + 1
            excess.append((far.max() - np.median(far)) / noise)
        # Chance alone makes a fifth of the sparse bright-field nuclei touch, and about half of the others.
        assert 0.4 * count < touching < 0.9 * count
        assert modality != "fluorescence" or max(excess) > 6


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"Unknown modality 'electron': choose one of fluorescence, histology"):
        draw_nuclei(np.random.default_rng(0), (64, 64), "electron")
    with pytest.raises(ValueError, match=r"31 x 64 px is too small: use at least 32 px"):
        draw_nuclei(np.random.default_rng(0), (31, 64), "histology")


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("dsb") / "made" / "here"
    write_dsb_layout(root, train=20, test=6, size=(48, 64), seed=5)
    return root


def read_image(folder):
    (path,) = (folder / "images").iterdir()
    assert path.name == f"{folder.name}.png"
    assert len(folder.name) == 64 and set(folder.name) <= set("0123456789abcdef")
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)


def read_masks(folder):
    return [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((folder / "masks").iterdir())]


def test_training_folders_hold_rgba_images_and_disjoint_binary_masks(data_set):
    folders = sorted((data_set / "stage1_train").iterdir())
    assert len(folders) == 20
    for folder in folders:
        image, masks = read_image(folder), read_masks(folder)
        assert image.dtype == np.uint8 and image.shape[2] == 4 and (image[..., 3] == 255).all()
        for mask in masks:
            assert mask.dtype == np.uint8 and mask.shape == image.shape[:2] and set(np.unique(mask)) == {0, 255}
        assert (np.sum([mask > 0 for mask in masks], axis=0) <= 1).all()


def test_masks_equal_the_label_image(tmp_path, monkeypatch):
    drawn = []

    def remember(*args):
        drawn.append(draw_nuclei(*args))
        return drawn[-1]

    monkeypatch.setattr("datamodules.drawing.draw_nuclei", remember)
    write_dsb_layout(tmp_path, train=4, test=0, size=(48, 64), seed=1)
    folders = {read_image(folder)[..., :3].tobytes(): folder for folder in (tmp_path / "stage1_train").iterdir()}
    assert len(drawn) == len(folders) == 4
    for image, labels in drawn:
        stored = {(mask > 0).tobytes() for mask in read_masks(folders[image.tobytes()])}
        assert stored == {(labels == k).tobytes() for k in range(1, labels.max() + 1)}


def test_modalities_and_shapes_are_mixed(data_set):
    images = [read_image(folder)[..., :3] for folder in (data_set / "stage1_train").iterdir()]
    image_types = [(image_type(image), image.shape[:2]) for image in images]
    assert {image_type: sum(k == image_type for k, _ in image_types) for image_type in MODALITIES} == dict(
        zip(MODALITIES, (12, 5, 3), strict=True)
    )
    assert set(image_types) == {(image_type, shape) for image_type in MODALITIES for shape in ((48, 64), (48, 80))}
    assert sum(shape == (48, 64) for _, shape in image_types) == 10
    few = [image_type(read_image(folder)[..., :3]) for folder in (data_set / "stage1_test").iterdir()]
    assert set(few) == set(MODALITIES)


def test_solution_decodes_to_disjoint_nuclei_of_the_test_images(data_set):
    with open(data_set / "stage1_solution.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["ImageId", "EncodedPixels", "Height", "Width", "Usage"]
    cover = {folder.name: np.zeros(read_image(folder).shape[:2]) for folder in (data_set / "stage1_test").iterdir()}
    assert {row["ImageId"] for row in rows} == set(cover) and len(cover) == 6
    assert not set(cover) & {folder.name for folder in (data_set / "stage1_train").iterdir()}
    for row in rows:
        size = (int(row["Height"]), int(row["Width"]))
        assert cover[row["ImageId"]].shape == size and row["Usage"] == "Public"
        mask = np.zeros(size[0] * size[1])
        mask[decode_run_lengths(row["EncodedPixels"], size)] = 1
        mask = mask.reshape(size, order="F")
        assert mask.sum() >= 12 and ndimage.label(mask)[1] == 1
        cover[row["ImageId"]] += mask
    assert all(count.max() == 1 for count in cover.values())


def test_same_seed_same_files_and_a_larger_set_contains_a_smaller_one(tmp_path):
    for name, train, seed in (("few", 2, 1), ("again", 2, 1), ("more", 4, 1), ("other", 2, 2)):
        write_dsb_layout(tmp_path / name, train=train, test=1, size=(48, 48), seed=seed)

    def content(name):
        root = tmp_path / name
        return {path.relative_to(root): path.read_bytes() for path in root.rglob("*.*")}

    assert content("few") == content("again")
    assert content("few").items() < content("more").items()
    few, other = content("few"), content("other")
    assert not {path.name for path in few if path.suffix == ".png"} & {path.name for path in other}
    assert not set(few.values()) & set(other.values())

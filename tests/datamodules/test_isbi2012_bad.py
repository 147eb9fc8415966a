"""ISBI 2012: stacks, archives and manifests that cannot be used are refused in one sentence."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from isbi_stacks import SECTIONS, STACKS, TEST_VOLUME, VOLUME, annotation, module, pack, write

from datamodules.isbi2012 import ARCHIVE, MANIFEST, ISBI2012DataModule, read_section_manifest
from karyon.io.reading import pixel_digest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The stacks without the annotation of the test sections; may be changed."""
    return write(tmp_path / "root")


# --- content that is pinned


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A content manifest of the small stacks, as the project keeps one of the published ones."""
    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["stack", "section", "sha256"])
        for name, stack in STACKS.items():
            if name != "test-labels.tif":
                stem = name.removesuffix(".tif")
                rows.writerows([stem, number, pixel_digest(section)] for number, section in enumerate(stack))
    return path


def test_the_content_manifest_accepts_what_it_lists(root: Path, manifest: Path) -> None:
    write(root, "test-labels.tif")
    data = module(root, manifest=manifest, stages="fit test predict")
    assert all(data.items.values())


@pytest.mark.parametrize(
    ("stack", "stage"), [("train-volume", "fit"), ("train-labels", "validate"), ("test-volume", "predict")]
)
@pytest.mark.parametrize("section", [0, 5, SECTIONS - 1])
def test_one_changed_pixel_is_found_in_its_section(
    stack: str, stage: str, section: int, root: Path, manifest: Path, refused: Callable
) -> None:
    pixels = STACKS[f"{stack}.tif"].copy()
    pixels[section, 3, 4] ^= 255
    write(root, f"{stack}.tif", **{stack.replace("-", "_"): pixels})
    sentence = (f"pixels of section {section} differ", "download the archive again", "manifest: null")
    with refused(root / f"{stack}.tif", *sentence):
        module(root, manifest=manifest).setup(stage)
    module(root).setup(stage)
    place = pack(root, root.parent / "packed" / ARCHIVE, "sub/")
    with refused(place / ARCHIVE / "sub" / f"{stack}.tif", f"section {section}"):
        module(place, manifest=manifest).setup(stage)


@pytest.mark.parametrize("count", [1, SECTIONS - 1, 2 * SECTIONS])
def test_another_number_of_sections_is_refused(count: int, root: Path, manifest: Path, refused: Callable) -> None:
    write(root, "train-volume.tif", train_volume=np.concatenate([VOLUME, TEST_VOLUME])[:count])
    with refused(root / "train-volume.tif", f"{count} sections where 8 were published", "manifest: null"):
        module(root, manifest=manifest).setup("fit")


@pytest.mark.parametrize(
    ("stage", "stack"), [("fit", "train-volume"), ("test", "train-labels"), ("predict", "test-volume")]
)
def test_a_missing_stack_says_how_to_get_it(stage: str, stack: str, root: Path, refused: Callable) -> None:
    (root / f"{stack}.tif").unlink()
    for place in (root, pack(root, root.parent / "packed" / ARCHIVE, "")):
        with refused(f"no {stack}.tif in {place}", ARCHIVE, "init_args.root FOLDER", "init_args.download true"):
            module(place).setup(stage)
    if stage == "predict":
        write(root, "test-labels.tif")
        with refused(f"no test-volume.tif in {root}"):
            module(root).setup("test")


# --- stacks that are damaged or none


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def page(path: Path) -> None:
    path.write_text("<html>\n<p>Please log in.\n</html>\n")


def tiff(pixels: np.ndarray, **options: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, pixels, **options)


@pytest.mark.parametrize("name", ["train-volume.tif", "train-labels.tif"])
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (truncate, ("cannot be read", "download it again")),
        (empty, ("is empty (0 bytes)", "download it again")),
        (page, ("cannot be read (not an image", "download it again")),
        (tiff(np.dstack([VOLUME[0]] * 3), photometric="rgb"), ("(24, 32, 3)", "one stack of grey planes")),
        (tiff(np.stack([VOLUME, VOLUME]), photometric="minisblack"), ("(2, 8, 24, 32)", "one stack of grey planes")),
        (
            tiff(VOLUME[:, :10], photometric="minisblack", append=True),
            ("2 separate images (8 x 24 x 32, 8 x 10 x 32)", "save each as a file"),
        ),
    ],
)
def test_a_bad_stack_is_refused(
    name: str, damage: Callable[[Path], None], sentence: tuple[str, ...], root: Path, refused: Callable
) -> None:
    damage(root / name)
    with refused(root / name, *sentence):
        module(root).setup("fit")
    assert not (root / "cache").exists()


@pytest.mark.parametrize("damage", [truncate, empty, page])
def test_a_bad_archive_is_refused(damage: Callable[[Path], None], root: Path, refused: Callable) -> None:
    place = pack(root, root.parent / "packed" / ARCHIVE, "")
    damage(place / ARCHIVE)
    for attempt in (module(place).setup, lambda _: module(place, download=True).prepare_data()):
        with refused(place / ARCHIVE, "not a readable zip archive", "download it again"):
            attempt("fit")


@pytest.mark.parametrize(
    "labels",
    [annotation(5)[:7], annotation(5)[:, :20], annotation(5).transpose(0, 2, 1)],
    ids=["fewer", "cut", "turned"],
)
def test_labels_of_another_shape_are_refused(labels: np.ndarray, root: Path, refused: Callable) -> None:
    write(root, "train-labels.tif", train_labels=labels)
    with refused(root, f"train-labels.tif has the shape {labels.shape}", f"train-volume.tif {VOLUME.shape}", "equal"):
        module(root).setup("fit")


GREY_EDGES, NO_MEMBRANE = annotation(5), annotation(5)
GREY_EDGES[0, 0, 0], NO_MEMBRANE[NO_MEMBRANE == 0] = 127, 1


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        (GREY_EDGES, "0, 127, 255:"),
        (np.full_like(VOLUME, 255), "255:"),
        (np.zeros_like(VOLUME), "0:"),
        (NO_MEMBRANE, "1, 255:"),
        (np.arange(VOLUME.size, dtype=np.uint16).reshape(VOLUME.shape), "0, 1, 2, 3, ...:"),
    ],
    ids=["three values", "white", "black", "without 0", "many"],
)
def test_labels_that_are_not_black_and_white_are_refused(
    labels: np.ndarray, values: str, root: Path, refused: Callable
) -> None:
    write(root, "train-labels.tif", "test-labels.tif", train_labels=labels, test_labels=labels)
    for stage, name in (("fit", "train-labels.tif"), ("test", "test-labels.tif")):
        with refused(root / name, f"has the values {values}", "0 on membranes"):
            module(root).setup(stage)


def test_labels_of_0_and_1_are_as_good(root: Path) -> None:
    write(root, "train-labels.tif", train_labels=annotation(5) // 255)
    data = module(root, stages="fit")
    assert data.items["train"][0].read()[1].max() == 3


def test_a_file_in_place_of_the_cache_is_named(root: Path, tmp_path: Path, refused: Callable) -> None:
    (tmp_path / "cache").touch()
    with refused(tmp_path / "cache" / "splits", "cannot be written", "choose another cache_dir"):
        module(root, cache_dir=tmp_path / "cache").setup("fit")


# --- the content manifest itself

DIGEST = "0" * 64


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "stack,section,sha256\n",
        "stack,sha256\na,b\n",
        f"stack,section,sha256\ntrain-volume,zero,{DIGEST}\n",
        "stack,section,sha256\ntrain-volume\n",
        f"stack,section,sha256\ntrain-volume,0,{DIGEST}\ntrain-volume,2,{DIGEST}\n",
        "\xff\xfe\0",
    ],
)
def test_what_is_no_content_manifest_is_refused(text: str | None, tmp_path: Path, refused: Callable) -> None:
    """Most of all an empty one, which would switch the check off."""
    if text is not None:
        (tmp_path / "manifest.csv").write_bytes(text.encode("latin-1"))
    with refused(tmp_path / "manifest.csv", "not a readable content manifest", "give null"):
        ISBI2012DataModule(manifest=tmp_path / "manifest.csv")


def test_the_project_s_manifest_lists_the_published_stacks() -> None:
    expected = read_section_manifest(MANIFEST)
    assert {stack: list(sections) for stack, sections in expected.items()} == {
        stack: list(range(30)) for stack in ("train-volume", "train-labels", "test-volume")
    }
    digests = [digest for sections in expected.values() for digest in sections.values()]
    assert len(set(digests)) == 90 and all(len(digest) == 64 for digest in digests)

"""Which files a command line means: none twice, none passed over in silence."""

from collections.abc import Callable
from pathlib import Path

import pytest

from karyon.commands.inputs import find_images

OUT = Path("segmented")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def names(*paths: str, out: Path = OUT) -> list[str]:
    return list(find_images(paths, out)[1])


def test_a_folder_is_searched_and_what_is_hidden_is_left_out(folder: Path) -> None:
    touch("in/b.png", "in/A.TIF", "in/a b/ü.jpg", "in/notes.txt", "in/._a.png", "in/.thumbnails/a.png")
    Path("in/folder.png").mkdir()
    root, found, others = find_images(["in"], OUT)
    assert others == {folder / "in/notes.txt"}
    assert root == folder / "in" and list(found) == ["A.TIF", "a b/ü.jpg", "b.png"]
    assert all(path == root / name for name, path in found.items())


def test_links_are_followed_once(folder: Path) -> None:
    touch("in/z/a.png", "elsewhere/b.png")
    for link, target in {
        "in/a": "z",
        "in/z/loop": folder / "in",
        "in/linked": folder / "elsewhere",
        "in/one.png": "z/a.png",
        "in/lost.png": "nowhere",
    }.items():
        Path(link).symlink_to(target)
    # What leads nowhere is named when it is opened.
    assert names("in") == ["linked/b.png", "lost.png", "one.png", "z/a.png"]


def test_a_folder_that_may_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("in/a.png", "in/secret/b.png")
    # Who runs the tests may be allowed everything.
    real = Path.iterdir

    def refuse(path: Path) -> object:
        if path.name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert names("in") == ["a.png", "secret"]


def test_patterns_are_the_shells(folder: Path) -> None:
    touch("in/1/a.tif", "in/1/b.png", "in/2/a.tif", "in/[x].tif", "in/note.txt")
    assert names("in/*/*.tif") == ["1/a.tif", "2/a.tif"]
    assert names("in/**/a.tif", "in/1") == ["1/a.tif", "1/b.png", "2/a.tif"]
    assert names("in/*") == ["1/a.tif", "1/b.png", "2/a.tif", "[x].tif"]
    assert names("in/[x].tif") == ["[x].tif"]
    assert names(str(folder / "in/?/b.png")) == ["1/b.png"]


def test_names_are_told_from_the_folder_that_all_share() -> None:
    touch("p/1/a.png", "p/2/a.png", "q/a.png")
    assert names("p/1", "p/2/a.png") == ["1/a.png", "2/a.png"]
    assert names("p/*/a.png", "q", "p/1") == ["p/1/a.png", "p/2/a.png", "q/a.png"]


def test_results_are_not_taken_for_images(refused: Callable) -> None:
    touch("in/a.png", "in/out/overlays/a.png", "in/b/c.png")
    for pattern in ("in", "in/**/*.png"):
        assert names(pattern, out=Path("in/out")) == ["a.png", "b/c.png"]
    # Beside the images' folder they may lie.
    assert names("in/b", "in/b/*.png", out=Path("in")) == ["c.png"]
    for pattern in ("in", "in/*.png"):
        with refused("is where the results are to go: choose another folder for them"):
            names(pattern, out=Path("in"))


@pytest.mark.parametrize("path", ["nowhere", "nowhere.png", "in/*.tif", "in/**.png", "in", "nowhere/../x"])
def test_what_names_no_image_is_refused(path: str, refused: Callable) -> None:
    touch("in/notes.txt")
    with refused(path, "names no image: expected a file, a folder or a pattern of images ("):
        names(path)

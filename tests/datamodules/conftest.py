import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from datamodules.drawing import write_dsb_layout
from datamodules.sample import DataError

Refused = Callable[..., AbstractContextManager[None]]


@pytest.fixture(scope="session")
def refused() -> Refused:
    """Expects a `DataError` of one sentence that contains each of the given texts."""

    @contextmanager
    def expect(*texts: object) -> Iterator[None]:
        with pytest.raises(DataError) as caught:
            yield
        sentence = str(caught.value)
        assert "\n" not in sentence and sentence.endswith(".")
        for text in texts:
            assert str(text) in sentence

    return expect


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in DSB2018's layout, as folders; not to be changed."""
    root = tmp_path_factory.mktemp("layout")
    write_dsb_layout(root, train=12, test=5, size=(48, 48), seed=0)
    return root


@pytest.fixture(scope="session")
def archives(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data set as archives."""
    root = tmp_path_factory.mktemp("archives")
    for name in ("stage1_train", "stage1_test"):
        shutil.make_archive(str(root / name), "zip", layout / name)
    shutil.copy(layout / "stage1_solution.csv", root)
    return root


@pytest.fixture
def own(layout: Path, tmp_path: Path) -> Path:
    """A copy of the data set as folders, to be changed."""
    return shutil.copytree(layout, tmp_path / "own")

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch and OpenCV are imported: processes that each take all cores would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from datamodules.drawing import write_dsb_layout
from datamodules.dsb2018 import DSB2018DataModule
from karyon.errors import DataError

ROOT = Path(__file__).parents[1]

# How long an example takes is no part of any test.
settings.register_profile("karyon", parent=settings(), deadline=None)
settings.load_profile("karyon")

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


def real_folder(name: str) -> Path:
    folders = [Path(os.environ["KARYON_DATA"])] if "KARYON_DATA" in os.environ else []
    folders.append(ROOT.parent / "shared" / "data")
    for folder in folders:
        if (folder / name).is_dir():
            return folder / name
    pytest.skip(f"No real data: there is no {name} in {' or '.join(map(str, folders))}; set KARYON_DATA.")


@pytest.fixture(scope="session")
def real_dsb2018() -> Path:
    """The archives and the table of the Data Science Bowl 2018."""
    return real_folder("dsb2018")


@pytest.fixture(scope="session")
def real_isbi2012() -> Path:
    """The stacks of the ISBI challenge 2012."""
    return real_folder("isbi2012")


@pytest.fixture(scope="session")
def real_cache_dir(real_dsb2018: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The label-image caches of the real data, built once a session; takes a minute or two."""
    folder = tmp_path_factory.mktemp("real") / "cache"
    DSB2018DataModule(root=real_dsb2018, cache_dir=folder).prepare_data()
    return folder


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

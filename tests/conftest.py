import os
from pathlib import Path

import pytest
from hypothesis import settings

from datamodules.dsb2018 import DSB2018DataModule

ROOT = Path(__file__).parents[1]

# How long an example takes is no part of any test.
settings.register_profile("karyon", parent=settings(), deadline=None)
settings.load_profile("karyon")


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

"""MoNuSeg 2018: nuclei in stained tissue of seven organs."""

from pathlib import Path
from typing import Any

from datamodules.folder import FolderDataModule
from karyon.errors import DataError
from karyon.layouts.protocol import AnnotatedImage


class MoNuSegDataModule(FolderDataModule):
    """MoNuSeg 2018: H&E-stained tissue of TCGA at 40x, tiles of 1000 x 1000 px.

    Under ``root``, as the challenge's archive of training data has it, or converted to label images
    (``images/``, ``labels/``)::

        Tissue Images/    TCGA-18-5592-01Z-00-DX1.tif, ...
        Annotations/      TCGA-18-5592-01Z-00-DX1.xml, ...    Aperio ImageScope's outlines

    The first twelve characters of a name are the patient, whose tiles stay on one side of every split. The test data's
    folder can be the ``test_root``. The outlines are read once, into a label-image cache.

    Licence: CC BY-NC-SA 4.0, which models that learn from it are under, too. Citation: Kumar et al. 2020, "A
    Multi-Organ Nucleus Segmentation Challenge", IEEE Transactions on Medical Imaging 39. Address:
    https://monuseg.grand-challenge.org/Data (by hand: its files lie where no program can fetch them for sure)

    Args:
        root: folder of the training data.
        test_fraction: share of the images held out for the test.
        group_pattern: finds the patient in a name.
        cache_dir: where the label-image cache is kept.
        kwargs: see `datamodules.folder.FolderDataModule`.
    """

    licence = "CC-BY-NC-SA-4.0"

    def __init__(
        self,
        root: Path = Path("data/monuseg"),
        test_fraction: float = 0.2,
        group_pattern: str = "(TCGA-..-....)",
        cache_dir: Path = Path("data/cache"),
        **kwargs: Any,
    ) -> None:
        super().__init__(root, test_fraction=test_fraction, group_pattern=group_pattern, cache_dir=cache_dir, **kwargs)

    def _annotated(self, root: Path) -> list[AnnotatedImage]:
        if not root.is_dir():
            raise DataError(
                f"There is no folder {root}: unpack the MoNuSeg 2018 Training Data of "
                "https://monuseg.grand-challenge.org/Data there, so that it holds Tissue Images/ and Annotations/, or "
                "name another folder with --data.init_args.root."
            )
        return super()._annotated(root)

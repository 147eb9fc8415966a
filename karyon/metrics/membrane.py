"""Metrics of membranes: which cells a predicted membrane separates, merges or splits, and where it lies."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from karyon.labels import LabelImage
from karyon.metrics.matching import ratio
from karyon.metrics.membrane_curves import CELL_THRESHOLDS, membrane_curves
from karyon.metrics.per_image import PerImageMetric, Rows, row_type

_COUNT = len(CELL_THRESHOLDS)


class MembraneScores(PerImageMetric):
    """The scores of ISBI 2012 for slices of membrane-stained tissue: the official pair, and the three before it.

    At each threshold t the proposal is the cell probability > t. True cells are the 4-connected pieces of equal id in
    the label image, and only their pixels count in ``v_rand``, ``v_info`` and ``rand_error``, where a pixel that the
    prediction leaves in no cell is a segment by itself. With n pixels of true cells in a slice, of which s_i are in
    true cell i, t_j in predicted segment j and p_ij in both:

    * ``v_rand``, 2 sum(p_ij^2) / (sum(s_i^2) + sum(t_j^2)), after border thinning (`thin_borders`), the mean over
      slices.
    * ``v_info``, 2 I(S; T) / (H(S) + H(T)), the same with mutual information and entropies.
    * ``rand_error``, one less the F-score of pairs of pixels that are in one segment, pairs from all slices together,
      without border thinning: the predicted segments are the 4-connected pieces of the proposal.
    * ``pixel_error``, the fraction of pixels whose class, cell or membrane, is wrong, the mean over slices; that is the
      squared distance of the binary images per pixel.
    * ``warping_error``, the fraction of pixels that stay wrong when the true cells are warped towards the proposal
      without a change of topology (`warp`), the mean over slices.

    Each of these keys is the best figure over the thresholds, every slice at the same one. The errors are best where
    they are least, and ``warping_error`` leaves out threshold 1, above which no probability is. ``v_rand_threshold``
    and ``v_info_threshold`` tell the best threshold, the lowest of several. As it is chosen with the truth at hand,
    ``v_rand_fixed``, ``v_info_fixed``, ``rand_error_fixed``, ``pixel_error_fixed`` and ``warping_error_fixed`` are the
    figures at one that was chosen before, on validation slices. All are in [0, 1]. A slice without true cells has a
    ``v_rand`` and a ``v_info`` of 1, for nothing in it can be merged or split, and adds nothing to ``rand_error``.
    Where no cell is predicted all segments are single pixels.

    The challenge later counted only splits and mergers in its warping error; this is the original, with all errors. It
    reported its pixel error as one less an F-score, too; this is the distance that its definition names.

    Args:
        threshold: where the ``_fixed`` figures are taken, one of 0, .1 ... 1.

    Raises:
        ValueError: the threshold is not one of the eleven.

    Source: Arganda-Carreras et al. 2015, https://doi.org/10.3389/fnana.2015.00142;
    http://brainiac2.mit.edu/isbi_challenge/evaluation; for the warping error Jain et al. 2010,
    https://doi.org/10.1109/CVPR.2010.5539950

    >>> metric = MembraneScores()
    >>> metric.update(np.array([[0.9, 0.9, 0.2, 0.9, 0.9]]), np.array([[1, 1, 0, 2, 2]]))
    >>> scores = metric.compute()
    >>> scores["v_rand"], scores["v_rand_threshold"]  # below .2 the cells are merged
    (tensor(1.), tensor(0.2000))
    """

    row = row_type(
        [
            ("v_rand", "f8", _COUNT),
            ("v_info", "f8", _COUNT),
            ("pairs_both", "i8", _COUNT),
            ("pairs_either", "i8", _COUNT),
            ("pixel_error", "f8", _COUNT),
            ("warping_error", "f8", _COUNT),
        ]
    )

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        self.fixed = round(10 * threshold)
        if not 0 <= self.fixed < _COUNT or abs(10 * threshold - self.fixed) > 1e-6:
            raise ValueError(f"The threshold must be one of 0, 0.1 ... 1, not {threshold}.")

    def update(
        self, cell_probability: NDArray[Any] | Tensor, labels: LabelImage | Tensor, name: str = "", image_type: str = ""
    ) -> None:
        """Adds one slice or a stack of slices.

        Args:
            cell_probability: probability that a pixel is inside a cell, (H, W) or (N, H, W).
            labels: true label image or images of the same shape, integers, 0 is membrane.
            name: identifier of the slice or the stack: of several slices with one name, or with one number in stacks
                of one name, one counts. Slices without a name all count.
            image_type: image type, at most 32 bytes in UTF-8; ``""`` where unknown.

        Raises:
            ValueError: the shapes differ or are others than these, the probability is outside [0, 1], the labels are
                not a label image, or the image type is too long.
        """
        for slice_name, probability, true in _slices(cell_probability, labels, name):
            curves = membrane_curves(true, probability, warp_all=self.fixed == _COUNT - 1)
            self._add(curves, slice_name, image_type)

    def _scores(self, rows: Rows) -> dict[str, float]:
        curves = {key: rows[key].mean(axis=0) for key in ("v_rand", "v_info", "pixel_error", "warping_error")}
        curves["rand_error"] = 1 - ratio(2 * rows["pairs_both"].sum(axis=0), rows["pairs_either"].sum(axis=0))
        scores = {f"{key}_fixed": curve[self.fixed] for key, curve in curves.items()}
        for key in ("v_rand", "v_info"):
            scores |= {key: curves[key].max(), f"{key}_threshold": CELL_THRESHOLDS[curves[key].argmax()]}
        # Of each cell that is warped towards nothing one pixel is left: to predict none would look nearly perfect.
        curves["warping_error"] = curves["warping_error"][:-1]
        return scores | {key: curve.min() for key, curve in curves.items() if key.endswith("error")}


def _slices(
    cell_probability: NDArray[Any] | Tensor, labels: LabelImage | Tensor, name: str
) -> Iterator[tuple[str, NDArray[np.float32], LabelImage]]:
    """Checks slices and brings them to NumPy; yields each one's name, probability and labels."""
    if isinstance(cell_probability, Tensor):
        cell_probability = cell_probability.float().numpy(force=True)
    probability = np.asarray(cell_probability, dtype=np.float32)
    true = labels.numpy(force=True) if isinstance(labels, Tensor) else np.asarray(labels)
    if probability.ndim not in (2, 3) or probability.size == 0:
        raise ValueError(f"The cell probability must have the shape (H, W) or (N, H, W), not {probability.shape}.")
    if true.shape != probability.shape:
        raise ValueError(f"The labels have the shape {true.shape} and the cell probability {probability.shape}.")
    if true.dtype.kind not in "iub" or true.min() < 0:
        raise ValueError("The labels must be a label image: integers, 0 for membrane, no negative numbers.")
    # Resizing a map can round beyond its range.
    if not (probability.min() >= -1e-5 and probability.max() <= 1 + 1e-5):
        raise ValueError("The cell probability must lie in [0, 1] and hold no NaN: pass probabilities, not logits.")
    if probability.ndim == 2:
        yield name, probability, true
    else:
        for number, pair in enumerate(zip(probability, true, strict=True)):
            yield f"{name}/{number}" if name else "", *pair

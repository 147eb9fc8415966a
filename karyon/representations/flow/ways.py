"""The way from each pixel to the centre of its object: what a flow network learns, and what its answer is checked by.

One implementation, on NumPy's arrays for post-processing and on torch's tensors of any device for training: what both
have is taken from the module that the array belongs to.
"""

import numpy as np

from karyon.representations.strips import Array, Strip, array_module, pack

FLAT = 1e-4  # relative rise of heat a px, too small to be told from rounding
TINY = float(np.finfo(np.float32).tiny)


def encode(labels: Array) -> Array:
    """Finds the way to the centre of the object that each pixel belongs to.

    Heat flows from the object's centre, the pixel nearest to its centre of mass, to all of its pixels and vanishes
    outside; the way is the direction in which it rises. Cellpose does the same, except that here heat never mixes with
    that of an object that touches, and that it flows for as many steps as twice the longest side of objects of similar
    size, be there any or not. On nuclei the mean angle between the two is about one degree.

    Args:
        labels: int64 (B, H, W), 0 is background, ids without large gaps; NumPy's, or torch's on any device.

    Returns:
        float32 (B, 3, H, W), of the same library: the way down and to the right, a unit vector or 0 where there is no
        way to go, and the foreground, 0 or 1.

    Source: Stringer et al. 2021, "Cellpose: a generalist algorithm for cellular segmentation", methods.

    >>> encode(np.array([[[0, 1, 1, 1, 2]]]))[0, :, 0].round() + 0.0
    array([[ 0.,  0.,  0.,  0.,  0.],
           [ 0.,  1.,  0., -1.,  0.],
           [ 0.,  1.,  1.,  1.,  1.]], dtype=float32)
    """
    xp = array_module(labels)
    targets = xp.zeros((3, labels.shape[0] * labels.shape[1] * labels.shape[2]), dtype=xp.float32, device=labels.device)
    targets[2] = labels.reshape(-1) > 0
    for strip in pack(labels):
        targets[:2, strip.pixels] = _ways(strip)
    return targets.reshape(3, *labels.shape).swapaxes(0, 1)


def _ways(strip: Strip) -> Array:
    """Unit vectors (2, n) of a strip's pixels, down and to the right."""
    xp = array_module(strip.cells)
    row, column = strip.cells // strip.columns, strip.cells % strip.columns
    area = xp.clip(xp.bincount(strip.objects), 1, None)
    # Sums of whole numbers are exact in double precision, so that a turned image has the same centres.
    down, right = (
        xp.asarray(
            (xp.bincount(strip.objects, weights=xp.asarray(place, dtype=xp.float64)) / area)[strip.objects] - place,
            dtype=xp.float32,
        )
        for place in (row, column)
    )
    distance = down * down + right * right
    nearest = _least(distance, strip.objects, len(area))
    # Several pixels may be equally near: heat flows from all of them, whichever way the image is turned.
    heat = _diffuse(strip, strip.cells[distance <= nearest[strip.objects] + 1e-4])
    above, below, before, after, here = (
        heat[strip.cells + shift + strip.columns + 1] for shift in (-strip.columns, strip.columns, -1, 1, 0)
    )
    # Relative to the heat here, which may be very small far from the centre.
    way = xp.stack([below - above, after - before]) / xp.clip(here, TINY, None)
    # No heat comes to a fragment of the object that lies apart, or to the end of a long spiral: straight on.
    way = xp.where(here > 0, way, xp.stack([down, right]))
    return way / xp.clip(xp.sqrt((way * way).sum(0)), FLAT, None)


def _least(values: Array, groups: Array, count: int) -> Array:
    """The least of the values of each group, float32 (count,); infinite for a group without any."""
    if isinstance(values, np.ndarray):
        least = np.full(count, np.inf, np.float32)
        np.minimum.at(least, groups, values)
        return least
    return values.new_full((count,), float("inf")).scatter_reduce(0, groups, values, "amin")


def _diffuse(strip: Strip, sources: Array) -> Array:
    """Heat in a strip with a frame of a row and a cell on either side, flat; 0 outside the objects."""
    xp, device = array_module(sources), sources.device
    cells, columns = strip.rows * strip.columns, strip.columns
    heat = xp.zeros(cells + 2 * columns + 2, dtype=xp.float32, device=device)
    inside = heat[columns + 1 : -columns - 1]
    three = xp.zeros(cells + 2 * columns, dtype=xp.float32, device=device)
    share = xp.zeros(cells, dtype=xp.float32, device=device)
    share[strip.cells] = 1 / 9
    supply = xp.zeros(cells, dtype=xp.float32, device=device)
    supply[sources] = 1
    for _ in range(2 * strip.side):
        inside += supply
        # The mean of the nine pixels around, first the sums of three in a row, then three of these.
        xp.add(heat[:-2], heat[1:-1], out=three)
        three += heat[2:]
        xp.add(three[:cells], three[columns:-columns], out=inside)
        inside += three[2 * columns :]
        inside *= share
    return heat

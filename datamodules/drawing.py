"""Synthetic microscopy images: nuclei drawn in several modalities, and a data set of them in DSB2018's layout."""

import csv
import math
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from karyon.labels import encode_run_lengths

MODALITIES: tuple[str, ...] = ("fluorescence", "histology", "brightfield")

Image = NDArray[np.uint8]
Labels = NDArray[np.int32]
Plane = NDArray[np.floating[Any]]
Point = tuple[float, float]
Size = tuple[int, int]
Window = tuple[slice, slice]

_MIN_SIZE = 32  # px: below this an image holds no two nuclei
_MIN_AREA = 16  # px: smaller remnants would be slivers no annotator outlines

# Optical densities in red, green and blue, to length 1.
# Source: Ruifrok and Johnston 2001, "Quantification of histochemical staining by color deconvolution".
_HAEMATOXYLIN = np.array([0.65, 0.70, 0.29], dtype=np.float32)
_EOSIN = np.array([0.07, 0.99, 0.11], dtype=np.float32)

# 12 : 5 : 3, every modality among the first four images and in both of the shapes of `write_dsb_layout`.
_CYCLE = [{"F": "fluorescence", "H": "histology", "B": "brightfield"}[letter] for letter in "FHFBFFHFFHFFBFHFFHFB"]


def draw_nuclei(rng: Generator, size: Size, modality: str) -> tuple[Image, Labels]:
    """Draws one microscopy image and its annotation.

    Nuclei are ellipses perturbed by low-order Fourier terms, alone or in clusters; where two overlap, the later one
    lies on top and owns the pixels. Defocused nuclei and debris are drawn too, and are not part of the annotation.

    Args:
        rng: the only source of randomness.
        size: height and width, px, each at least 32.
        modality: one of `MODALITIES`.

    Returns:
        The image, uint8 (H, W, 3) RGB, with three equal channels except in histology; and the label image, int32
        (H, W), 1..N, every object one 4-connected component.

    Raises:
        ValueError: the modality is unknown or the size too small.

    >>> image, labels = draw_nuclei(np.random.default_rng(0), (48, 64), "histology")
    >>> image.shape, labels.shape, bool(labels.max() > 0)
    ((48, 64, 3), (48, 64), True)
    """
    if modality not in MODALITIES:
        raise ValueError(f"Unknown modality '{modality}': choose one of {', '.join(MODALITIES)}.")
    if min(size) < _MIN_SIZE:
        raise ValueError(f"A synthetic image of {size[0]} x {size[1]} px is too small: use at least {_MIN_SIZE} px.")
    draw = {"fluorescence": _fluorescence, "histology": _histology, "brightfield": _brightfield}[modality]
    light, labels = draw(rng, size)
    image = _record(rng, light)
    return (np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image), labels


class _Scene:
    """The nuclei of one image before any light falls on them."""

    def __init__(self, size: Size, radius: float) -> None:
        self.size, self.radius = size, radius  # px; the radius is a typical long semi-axis
        self.labels = np.zeros(size, dtype=np.int32)
        # Of the matter that light crosses: 1 in the middle of a nucleus, more in an overlap.
        self.thickness = np.zeros(size, dtype=np.float32)
        self.nuclei: list[tuple[Point, Window]] = []

    def add(self, centre: Point, window: Window, rho: Plane) -> None:
        """Puts a nucleus on top, unless it is a sliver, lies in an older one, or would hide one or cut it in pieces."""
        inside = rho < 1
        hidden = self.labels[window][inside]
        if not _is_whole(inside) or (hidden > 0).mean() > 0.5:
            return
        labels = self.labels.copy()
        labels[window][inside] = len(self.nuclei) + 1
        for older in np.unique(hidden[hidden > 0]):
            _, view = self.nuclei[older - 1]
            before, after = self.labels[view] == older, labels[view] == older
            if after.sum() < 0.6 * before.sum() or not _is_whole(after):
                return
        below = self.thickness[window]
        below[inside] = 0.4 * below[inside] + np.sqrt(1 - rho[inside] ** 4)
        self.labels = labels
        self.nuclei.append((centre, window))


def _is_whole(mask: NDArray[np.bool_]) -> bool:
    return int(mask.sum()) >= _MIN_AREA and ndimage.label(mask)[1] == 1


def _scatter(rng: Generator, size: Size, radius: float, coverage: float) -> _Scene:
    """Places nuclei until they cover a share of the image; about half of them beside one that is already there."""
    radius = min(radius, min(size) / 6)
    scene = _Scene(size, radius)
    aspect, clustered = rng.uniform(0.5, 0.95), rng.uniform(0.2, 0.7)
    direction, spread = rng.uniform(0, np.pi), rng.choice([0.25, np.pi])
    wanted = max(2, round(coverage * size[0] * size[1] / (np.pi * radius**2 * aspect)))
    for _ in range(10 * wanted):
        if len(scene.nuclei) == wanted:
            break
        own = radius * rng.lognormal(0, 0.2)
        centre = (rng.uniform(0, size[0]), rng.uniform(0, size[1]))
        if scene.nuclei and rng.random() < clustered:
            (y, x), _ = scene.nuclei[rng.integers(len(scene.nuclei))]
            angle = rng.uniform(0, 2 * np.pi)
            distance = rng.uniform(1.2, 2) * radius * math.sqrt(aspect)
            centre = (y + distance * math.sin(angle), x + distance * math.cos(angle))
        if 0 <= centre[0] < size[0] and 0 <= centre[1] < size[1]:
            ratio = min(aspect * rng.lognormal(0, 0.12), 1)
            scene.add(centre, *_outline(rng, size, centre, own, ratio, direction + rng.normal(0, spread)))
    return scene


def _outline(
    rng: Generator, size: Size, centre: Point, radius: float, aspect: float, direction: float, irregularity: float = 0.1
) -> tuple[Window, Plane]:
    """An ellipse perturbed by Fourier terms of orders 2 to 4.

    Returns the window of the image that holds it, and in that window the distance from the centre: 1 on the outline.
    """
    amplitude = irregularity * rng.uniform(0, 1, 3) * [1, 2 / 3, 1 / 2]
    terms = amplitude * np.exp(1j * rng.uniform(0, 2 * np.pi, 3))
    reach = radius * (1 + amplitude.sum()) + 1
    rows, columns = (
        slice(max(int(c - reach), 0), min(int(c + reach) + 1, n)) for c, n in zip(centre, size, strict=True)
    )
    y, x = np.ogrid[rows, columns]
    offset = ((x - centre[1]) + 1j * (y - centre[0])) * np.exp(-1j * direction)
    offset = (offset.real + 1j * offset.imag / aspect) / radius
    distance = np.abs(offset)
    # With u on the unit circle, the real part of c u^k is a Fourier term of order k: the outline is a polynomial.
    outline = np.polyval([*terms[::-1], 0, 1], offset / np.maximum(distance, 1e-9)).real
    return (rows, columns), distance / outline


def _distractors(rng: Generator, scene: _Scene) -> tuple[Plane, Plane]:
    """What no annotator outlines: nuclei far out of focus, and debris; two planes (H, W) in [0, 1]."""
    size = scene.size
    defocused, debris = np.zeros((2, *size), dtype=np.float32)
    crowd = size[0] * size[1] / (20 * scene.radius) ** 2
    for plane, count, radius in ((defocused, 2 * crowd, scene.radius), (debris, 5 * crowd, 1.2)):
        for _ in range(rng.poisson(count)):
            centre = (rng.uniform(0, size[0]), rng.uniform(0, size[1]))
            semi_axis, aspect, direction = radius * rng.uniform(0.6, 1.4), rng.uniform(0.5, 1), rng.uniform(0, np.pi)
            window, rho = _outline(rng, size, centre, semi_axis, aspect, direction)
            plane[window][rho < 1] = rng.uniform(0.3, 1)
    return _blur(defocused, scene.radius * rng.uniform(0.3, 0.6)), debris


def _cell_bodies(rng: Generator, scene: _Scene, scale: float) -> Plane:
    """Cytoplasm around the nuclei, (H, W): 1 in a cell, more where cells overlap."""
    bodies = np.zeros(scene.size, dtype=np.float32)
    for centre, _ in scene.nuclei:
        radius, aspect = scene.radius * scale * rng.uniform(0.7, 1.4), rng.uniform(0.6, 1)
        window, rho = _outline(rng, scene.size, centre, radius, aspect, rng.uniform(0, np.pi), irregularity=0.18)
        bodies[window][rho < 1] = 0.5 * bodies[window][rho < 1] + rng.uniform(0.5, 1)
    return bodies


def _smooth_noise(rng: Generator, size: Size, along: float, across: float) -> Plane:
    """Noise with structures of a length and a width (px) in a random direction, (H, W), about mean 0 and std 0.7."""
    diagonal, angle = math.hypot(*size), rng.uniform(0, np.pi)
    grid = rng.standard_normal((int(diagonal / across) + 4, int(diagonal / along) + 4), dtype=np.float32)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / [[along], [across]]
    shift = (np.array(grid.shape[::-1]) - 1) / 2 - turn @ (np.array([size[1], size[0]]) / 2)
    matrix, flags = np.column_stack([turn, shift]), cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    noise = cv2.warpAffine(grid, matrix, (size[1], size[0]), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(noise, dtype=np.float32)


def _blur(plane: Plane, sigma: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), dtype=np.float32)


def _uneven(rng: Generator, size: Size, depth: float) -> Plane:
    """Illumination that falls off from a random point, (H, W), from 1 down to 1 - depth."""
    y, x = np.ogrid[0 : 1 : size[0] * 1j, 0 : 1 : size[1] * 1j]
    distance = (y - rng.uniform(0, 1)) ** 2 + (x - rng.uniform(0, 1)) ** 2
    return np.asarray(1 - depth * distance / distance.max(), dtype=np.float32)


def _chromatin(rng: Generator, scene: _Scene, spread: float) -> Plane:
    """Stained matter, (H, W): each nucleus with an amount and a texture of its own, 0 outside."""
    amount = rng.lognormal(0, spread, len(scene.nuclei) + 1).astype(np.float32)
    contrast = rng.uniform(0.05, 0.35, len(amount)).astype(np.float32)
    grain = max(scene.radius / 4, 1.5)  # px
    texture = 1 + contrast[scene.labels] * _smooth_noise(rng, scene.size, grain, grain)
    return amount[scene.labels] * (0.3 + 0.7 * scene.thickness) * np.maximum(texture, 0.2) * (scene.labels > 0)


def _fluorescence(rng: Generator, size: Size) -> tuple[Plane, Labels]:
    """Stained nuclei that shine in the dark: light (H, W) in [0, 1], and labels."""
    scene = _scatter(rng, size, radius=rng.uniform(4.5, 13), coverage=rng.uniform(0.06, 0.3))
    defocused, debris = _distractors(rng, scene)
    glow = _chromatin(rng, scene, spread=0.3)
    focused = _blur(glow + rng.uniform(0, 1.2) * debris, rng.uniform(0.6, 1.3))
    signal = 0.9 * focused + 0.08 * _blur(glow, scene.radius) + rng.uniform(0.05, 0.3) * defocused
    light = rng.uniform(0.01, 0.06) + 0.12 * 6 ** rng.uniform(0, 1) * signal
    return light * _uneven(rng, size, rng.uniform(0, 0.5)), scene.labels


def _histology(rng: Generator, size: Size) -> tuple[Plane, Labels]:
    """Haematoxylin in the nuclei and eosin in the tissue absorb light: light (H, W, 3) in [0, 1], and labels."""
    scene = _scatter(rng, size, radius=rng.uniform(6, 12), coverage=rng.uniform(0.1, 0.35))
    defocused, debris = _distractors(rng, scene)
    fibres = 1 + 0.25 * _smooth_noise(rng, size, along=14, across=3)
    tissue = np.clip(0.5 + _smooth_noise(rng, size, along=60, across=40), 0, 1) * fibres
    nuclei = rng.uniform(0.9, 1.5) * _chromatin(rng, scene, spread=0.2)
    haematoxylin = nuclei + 0.5 * defocused + 0.6 * debris
    eosin = rng.uniform(0.05, 0.2) * tissue + rng.uniform(0, 0.12) * _cell_bodies(rng, scene, scale=1.6)
    eosin += rng.uniform(0.4, 1) * haematoxylin
    density = _blur(haematoxylin[..., None] * _HAEMATOXYLIN + eosin[..., None] * _EOSIN, rng.uniform(0.6, 1.1))
    lamp = rng.uniform(0.9, 0.97) * np.array([1, rng.uniform(0.97, 1), rng.uniform(0.95, 1)], dtype=np.float32)
    return lamp * np.exp(-density) * _uneven(rng, size, rng.uniform(0, 0.1))[..., None], scene.labels


def _brightfield(rng: Generator, size: Size) -> tuple[Plane, Labels]:
    """Dark nuclei in translucent cells before a bright lamp: light (H, W) in [0, 1], and labels."""
    scene = _scatter(rng, size, radius=rng.uniform(4.5, 7.5), coverage=rng.uniform(0.03, 0.1))
    defocused, debris = _distractors(rng, scene)
    folds = 1 + 0.25 * _smooth_noise(rng, size, along=7, across=3)
    cells = _cell_bodies(rng, scene, scale=3.5) * folds
    density = rng.uniform(0.5, 0.9) * _chromatin(rng, scene, spread=0.15) + rng.uniform(0.08, 0.2) * cells
    density += 0.2 * defocused + 0.5 * debris
    light = rng.uniform(0.82, 0.94) * np.exp(-_blur(density, rng.uniform(0.6, 1.2)))
    return light * _uneven(rng, size, rng.uniform(0, 0.12)), scene.labels


def _record(rng: Generator, light: Plane) -> Image:
    """Photographs light in [0, 1] with a camera's shot noise and read noise, uint8 of the same shape."""
    photons, read = rng.uniform(3000, 15000), rng.uniform(0.002, 0.008)
    # The Poisson noise of so many photons is Gaussian with a variance that follows the light, and cheaper so.
    noise = rng.standard_normal(light.shape, dtype=np.float32) * np.sqrt(light / photons + read**2)
    return np.asarray(np.clip((light + noise) * 255 + 0.5, 0, 255), dtype=np.uint8)


def write_dsb_layout(root: Path, train: int, test: int, size: Size, seed: int) -> None:
    """Writes a synthetic data set in the layout of DSB2018's first stage.

    ```
    root/
      stage1_train/<ImageId>/images/<ImageId>.png   RGBA
      stage1_train/<ImageId>/masks/<MaskId>.png     0 and 255, one nucleus a file
      stage1_test/<ImageId>/images/<ImageId>.png
      stage1_solution.csv                           ImageId,EncodedPixels,Height,Width,Usage; one nucleus a row
    ```

    An image depends on the seed, its subset and its place in it alone, so a larger set contains a smaller one.

    Args:
        root: made where it does not exist.
        train, test: number of images in ``stage1_train`` and in ``stage1_test``.
        size: height and width of half of the images, px; the other half is a quarter wider.
        seed: not negative.
    """
    for name, image, labels in _images(seed, "stage1_train", train, size):
        folder = root / "stage1_train" / name
        _write_png(folder / "images" / f"{name}.png", cv2.cvtColor(image, cv2.COLOR_RGB2BGRA))
        for k in range(1, labels.max() + 1):
            _write_png(folder / "masks" / f"{_identifier(name, k)}.png", (labels == k) * np.uint8(255))
    root.mkdir(parents=True, exist_ok=True)
    with (root / "stage1_solution.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["ImageId", "EncodedPixels", "Height", "Width", "Usage"])
        for name, image, labels in _images(seed, "stage1_test", test, size):
            folder = root / "stage1_test" / name
            _write_png(folder / "images" / f"{name}.png", cv2.cvtColor(image, cv2.COLOR_RGB2BGRA))
            for k in range(1, labels.max() + 1):
                rows.writerow([name, encode_run_lengths(labels == k), *labels.shape, "Public"])


def _images(seed: int, subset: str, count: int, size: Size) -> Iterator[tuple[str, Image, Labels]]:
    for index in range(count):
        rng = np.random.default_rng([seed, int(subset == "stage1_test"), index])
        width = size[1] * 5 // 4 if index // 2 % 2 else size[1]
        yield _identifier(seed, subset, index), *draw_nuclei(rng, (size[0], width), _CYCLE[index % len(_CYCLE)])


def _identifier(*parts: object) -> str:
    """64 hexadecimal digits, as DSB2018 names its images and masks."""
    return sha256("/".join(map(str, parts)).encode()).hexdigest()


def _write_png(path: Path, pixels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())

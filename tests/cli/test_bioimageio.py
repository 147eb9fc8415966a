"""A package for BioImage.IO says and holds what the bundle does; bioimageio.core, in its own environment, agrees."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tifffile
import yaml
from bundles import write_bundle, write_two_stage_bundle
from small_runs import Run

from cli.bioimageio import _licence, _steps
from datamodules.drawing import draw_nuclei
from karyon import load_model
from karyon.preprocessing import ScaleToUnit

# Of their own: 0.5.12 of the form cannot be read with later pydantics.
TOOL = ["uv", "tool", "run", "--from", "bioimageio.core==0.11.0", "--with", "bioimageio.spec==0.5.12.0"]
TOOL += ["--with", "pydantic<2.12", "--with", "onnxruntime", "bioimageio"]


@pytest.fixture(scope="module")
def packed(typed: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle, its package, and the package unpacked."""
    folder = tmp_path_factory.mktemp("packed")
    write_bundle(folder / "bundle", pixel_size=0.25)
    export = ["export", folder / "bundle", "--bioimageio", "tiny.zip", "--author", "A. Uthor"]
    assert "bioimageio test tiny.zip" in typed(folder, export)
    shutil.unpack_archive(folder / "tiny.zip", folder / "unpacked")
    return folder


def sources(entry: Any) -> list[dict[str, str]]:
    inner = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else []
    own = [entry] if isinstance(entry, dict) and "source" in entry else []
    return own + [source for value in inner for source in sources(value)]


def test_a_package_has_what_its_description_names(packed: Path) -> None:
    description = yaml.safe_load((packed / "unpacked" / "rdf.yaml").read_text())
    files = sources(description)
    assert {file["source"] for file in files} >= {"model.onnx", "cover.png", "README.md", "test_input.npy"}
    for file in files:
        assert hashlib.sha256((packed / "unpacked" / file["source"]).read_bytes()).hexdigest() == file["sha256"]
    assert (description["license"], description["authors"]) == ("CC0-1.0", [{"name": "A. Uthor"}])
    (image,), (maps,) = description["inputs"], description["outputs"]
    assert [axis["size"] for axis in image["axes"][2:]] == [{"min": 16, "step": 1}] * 2
    assert [(axis["unit"], axis["scale"]) for axis in maps["axes"][2:]] == [("micrometer", 0.25)] * 2
    assert maps["axes"][1]["channel_names"] == ["foreground"]


def test_test_tensors_are_what_the_described_steps_make(packed: Path) -> None:
    folder = packed / "unpacked"
    given, expected = (np.load(folder / f"test_{name}.npy") for name in ("input", "output"))
    steps = {
        step["id"]: step["kwargs"]
        for step in yaml.safe_load((folder / "rdf.yaml").read_text())["inputs"][0]["preprocessing"]
    }
    ends = steps["scale_range"]
    low, high = (np.percentile(given, ends[f"{end}_percentile"]) for end in ("min", "max"))
    scaled = ((given - low) / (high - low + 1e-6)).clip(0, 1).astype(np.float32)
    (maps,) = onnxruntime.InferenceSession(folder / "model.onnx").run(None, {"image": scaled})
    np.testing.assert_allclose(maps, expected, atol=1e-4)


def test_unpacked_it_is_the_bundle(packed: Path) -> None:
    image = draw_nuclei(np.random.default_rng(1), (96, 64), "fluorescence")[0]
    own, other = (load_model(packed / name, device="cpu").segment(image) for name in ("bundle", "unpacked"))
    assert len(own) and (own.labels == other.labels).all()


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("Apache-2.0", "Apache-2.0"),
        ("Apache-2.0 (it starts from weights under MIT)", "Apache-2.0"),
        ("CC-BY-NC-SA-4.0 AND MIT", {"source": "LICENCE.txt"}),
        ("LicenseRef-mine", {"source": "LICENCE.txt"}),
        ("ask me", {"source": "LICENCE.txt"}),
    ],
)
def test_a_licence_is_named_or_written_down(licence: str, expected: Any, tmp_path: Path) -> None:
    found = _licence(tmp_path, licence)
    if isinstance(found, dict):
        assert found.pop("sha256") and (tmp_path / "LICENCE.txt").read_text() == f"{licence}\n"
    assert found == expected


def test_eight_bit_images_are_divided_by_255() -> None:
    assert _steps(ScaleToUnit())[1]["kwargs"] == {"gain": 1 / 255, "offset": 0.0}


def test_what_cannot_be_packed_is_refused(refusal: Callable[..., str], tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    write_two_stage_bundle(tmp_path / "stages")
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((8, 8), np.uint8))
    assert "ends in .zip" in refusal("export", tmp_path / "bundle", "--bioimageio", "package")
    assert "use a dense model" in refusal("export", tmp_path / "stages", "--bioimageio", "a.zip")
    small = ["--example", tmp_path / "small.tif"]
    assert "choose a larger example" in refusal("export", tmp_path / "bundle", "--bioimageio", "a.zip", *small)


@pytest.mark.slow
def test_bioimageio_reproduces_the_outputs_at_all_sizes(run: Run, tmp_path: Path) -> None:
    if shutil.which("uv") is None:
        pytest.skip("There is no uv, which would fetch bioimageio.core.")
    if subprocess.run([*TOOL, "--help"], capture_output=True).returncode:
        pytest.skip("bioimageio.core cannot be had here.")
    assert run("export", "nuclei", "--bioimageio", "nuclei.zip", "--author", "A. Uthor") == 0
    done = subprocess.run([*TOOL, "test", "nuclei.zip"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Run onnx inference") == 6 and "❌" not in done.stdout

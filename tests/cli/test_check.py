"""``python -m cli check`` finds what would end a training or spoil its figures, in folders and behind configs."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import yaml
from config_files import ROOT
from small_runs import Run, Small

from karyon.checks.findings import Finding
from karyon.checks.image_facts import Facts
from karyon.commands.checking import SHOWN, choose
from karyon.io.reading import read_image
from karyon.pictures.contact_sheet import WARNING


def findings(folder: str = "check") -> dict[str, dict[str, Any]]:
    content = json.loads((Path(folder) / "findings.json").read_text())
    return {found["kind"]: found for found in content["findings"]}


@pytest.fixture
def own(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of ten pairs, to be changed."""
    return shutil.copytree(tiny_folder, tmp_path / "own")


def test_a_good_folder(run: Run, tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", tiny_folder) == 0
    said = capsys.readouterr().out
    assert "10 images (images 10)" in said and "0 errors, 0 hints." in said
    assert "Wrote check/contact-sheet.png: 10 of 10 images." in said
    assert [path.name for path in Path("check").iterdir()] == ["contact-sheet.png"]
    assert not (read_image(Path("check/contact-sheet.png")) == WARNING).all(axis=-1).any()


def test_everything_that_is_wrong_is_found_in_one_go(run: Run, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = {k: tifffile.imread(own / f"labels/{k}.tif") for k in range(10)}
    for k in (0, 1):
        tifffile.imwrite(own / f"labels/{k}.tif", (labels[k] > 0).astype(np.uint8) * 255)
    tifffile.imwrite(own / "labels/2.tif", labels[2][:-1])
    (own / "images/3.tif").write_bytes((own / "images/3.tif").read_bytes()[:-500])
    (own / "labels/4.tif").unlink()
    pixels = tifffile.imread(own / "images/5.tif")
    (own / "images/6.tif").unlink()
    cv2.imwrite(str(own / "images/6.png"), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    tifffile.imwrite(own / "labels/7.tif", np.zeros_like(labels[7]))
    assert run("check", own, "--json", "--out", "found") == 1
    said = capsys.readouterr().out
    found = findings("found")
    refused = [line for line in said.splitlines() if line.startswith("error: ")]
    assert any(f"{own}/labels/0.tif is a binary mask" in line and "1 more" in line for line in refused)
    assert any(f"{own}/images/3.tif cannot be read" in line for line in refused)
    assert found["size"]["images"] == [f"{own}/images/2.tif"]
    assert found["no-labels"]["images"] == [f"{own}/images/4.tif"]
    assert found["duplicate"]["images"] == [f"{own}/images/5.tif", f"{own}/images/6.png"]
    assert found["empty"]["images"] == [f"{own}/images/7.tif"]
    assert said.endswith("4 errors, 2 hints.\n")
    for finding in found.values():
        assert f"{finding['severity']}: {finding['sentence']}" in said
    assert (read_image(Path("found/contact-sheet.png")) == WARNING).all(axis=-1).any()


CONFIGS = ROOT / "configs"


def test_a_config_is_checked_with_its_split_crop_and_batches(
    run: Run, own: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--config", CONFIGS / "folder.yaml", "--data.init_args.root", own, "--json"]
    crop = "[{class_path: albumentations.RandomCrop, init_args: {height: 16, width: 16}}]"
    assert run("check", *args, "--data.init_args.augmentations", crop) == 0
    assert "10 images (train 7, val 2, test 1)" in capsys.readouterr().out
    assert "larger than a crop of 16 x 16 px" in findings()["crop"]["sentence"]
    assert run("check", *args, "--data.init_args.augmentations", crop.replace("16", "65")) == 1
    assert "smaller than a crop of the augmentations" in findings()["batch"]["sentence"]
    # Of the eight that are trained on now, some are of either size.
    for k in range(5):
        pixels, labels = (tifffile.imread(own / folder / f"{k}.tif") for folder in ("images", "labels"))
        tifffile.imwrite(own / f"images/{k}.tif", np.pad(pixels, ((0, 9), (0, 0), (0, 0)), mode="reflect"))
        tifffile.imwrite(own / f"labels/{k}.tif", np.pad(labels, ((0, 9), (0, 0))))
    others = ["--data.init_args.augmentations", "[]", "--data.init_args.test_root", tiny_folder]
    assert run("check", *args, *others) == 1
    assert "Images of different sizes cannot share a batch" in findings()["batch"]["sentence"]
    assert len(findings()["leak"]["images"]) == 10


def test_a_detector_is_checked_against_its_anchors_without_being_built(run: Run, small: Small) -> None:
    args = ["check", *small(CONFIGS / "reference/r1-detector.yaml"), "--json"]
    network = "--model.init_args.network.init_args"
    # Weights of ImageNet would have to be downloaded.
    args += [f"{network}.backbone.init_args.pretrained", "imagenet"]
    assert run(*args) in (0, 1)
    assert not {"anchors", "detections"} & findings().keys()
    run(*args, f"{network}.anchor_sizes", "[[1],[1],[1],[1]]", f"{network}.detections", 2)
    found = findings()
    assert (
        "100% of all objects" in found["anchors"]["sentence"]
        and "the 2 that the detector may find" in found["detections"]["sentence"]
    )


@pytest.mark.parametrize("config", ["r1-two-stage", "r4-unet", "r1-crop-segmenter"])
def test_the_data_of_any_config_is_checked(config: str, run: Run, small: Small) -> None:
    assert run("check", *small(CONFIGS / f"reference/{config}.yaml"), "--json") in (0, 1)
    assert ("crop-size" in findings()) == (config == "r1-crop-segmenter")
    assert read_image(Path("check/contact-sheet.png")).size


def test_a_data_module_that_stops_at_the_first_fault_has_all_of_them_listed(
    run: Run, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(tiny, tmp_path / "broken")
    masks = [sorted(folder.glob("masks/*.png"))[0] for folder in sorted((root / "stage1_train").iterdir())[:3]]
    for mask in masks[:2]:
        mask.write_bytes(mask.read_bytes()[:40])
    masks[2].write_bytes(cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1].tobytes())
    args = ["--data.init_args.root", root, "--data.init_args.manifest", "null"]
    assert run("check", "--config", CONFIGS / "reference/r3-unet.yaml", *args) == 1
    said = capsys.readouterr().out
    assert f"{masks[0]} cannot be read" in said and f"so it is with 1 more ({masks[1].parents[1].name})." in said
    assert f"{masks[2]} is an empty mask: remove the file." in said
    assert "14 images (stage1_train 10, stage1_test 4)" in said


def test_what_only_the_data_module_refuses_is_an_error(
    run: Run, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The manifest is that of the published images.
    assert run("check", "--config", CONFIGS / "reference/r3-unet.yaml", "--data.init_args.root", tiny) == 1
    assert "lacks 670 of 670 images" in capsys.readouterr().out


def test_wrong_usage_is_told_apart(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for args, sentence in (
        ([], "required: FOLDER"),
        (["a", "b"], "b is one too many"),
        (["--js", "a"], "There is no option --js (did you mean --json?)"),
    ):
        assert run("check", *args) == 2
        assert sentence in capsys.readouterr().err
    assert run("check", "--config", "missing.yaml") == 2
    assert "missing.yaml cannot be read (No such file or directory)" in capsys.readouterr().err
    assert run("check", "nowhere") == 2
    assert run("check", "--config", CONFIGS / "folder.yaml", "--data.init_args.root", "nowhere") == 2
    assert "error: There is no folder" in capsys.readouterr().err
    boring = {
        "model": {"class_path": "lightning.pytorch.demos.boring_classes.BoringModel"},
        "data": {"class_path": "lightning.pytorch.demos.boring_classes.BoringDataModule"},
    }
    (tmp_path / "boring.yaml").write_text(yaml.safe_dump(boring))
    assert run("check", "--config", "boring.yaml") == 2
    assert "BoringDataModule cannot be checked" in capsys.readouterr().err
    assert run("check", tmp_path, "--out", "boring.yaml") == 2


def test_it_can_be_interrupted(run: Run, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("karyon.checks.image_facts.examine", stop)
    assert run("check", tiny_folder) == 130
    assert not Path("check").exists()


def test_annotation_that_is_refused_is_no_traceback(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "coco").mkdir()
    cv2.imwrite(str(tmp_path / "coco/a.png"), np.zeros((9, 9), np.uint8))
    annotation = {"image_id": 1, "segmentation": [[1, 1, 10]]}
    content = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [annotation]}
    (tmp_path / "coco/a.json").write_text(json.dumps(content))
    assert run("check", tmp_path / "coco") == 1
    assert "a.png has polygons that are none" in capsys.readouterr().out
    assert Path("check/contact-sheet.png").exists()


def test_an_empty_argument_is_not_the_current_folder(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "") == run("segment", "") == 2
    assert "One of the arguments is empty" in capsys.readouterr().err


def test_images_are_chosen_for_the_sheet() -> None:
    images = [Facts("train", f"{k:03d}", "") for k in range(200)]
    names = [facts.image for facts in images]
    assert [facts.image for facts in choose(images[:5], [], SHOWN)] == names[:5]
    spread = [facts.image for facts in choose(images, [], 5)]
    assert spread == ["000", "049", "099", "149", "199"]
    found = [
        Finding("a", "error", "", tuple(names[100:150])),
        Finding("b", "hint", "", ("150", "100", "no image at all")),
    ]
    chosen = [facts.image for facts in choose(images, found, 12)]
    assert chosen[:5] == ["100", "101", "102", "103", "150"] and len(set(chosen)) == 12

"""Every YAML under configs/ is run by the real command line; a new one is tested by lying there."""

import json
from pathlib import Path

import pytest
import yaml
from config_files import ADDITIONS, COMPLETE, ROOT, learned
from small_runs import Run, Small

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("config", COMPLETE, ids=lambda path: str(path.relative_to(ROOT)))
def test_complete_config_trains_and_tests(config: Path, run: Run, small: Small, tmp_path: Path) -> None:
    assert run("fit", *small(config)) == 0
    assert run("test", *small(config)) == 0
    name = yaml.safe_load(config.read_text())["name"]
    folder = tmp_path / "runs" / name / "version_0"
    assert (folder / "config.yaml").exists()
    assert (folder / "metrics.csv").exists()
    assert (folder / "checkpoints" / "best.ckpt").exists()
    record = json.loads((folder / "test" / "record.json").read_text())
    assert record["fit"]["epochs"] == 1
    assert 0 <= record["test"]["metrics"]["test/accuracy"] <= 1


@pytest.mark.parametrize("config", ADDITIONS, ids=lambda path: str(path.relative_to(ROOT)))
def test_addition_runs_with_a_config(
    config: Path, run: Run, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    folders = {"augmentation": "isbi2012/unet.yaml", "isbi2012": "isbi2012/unet.yaml", "dsb2018": "dsb2018/nuclei.yaml"}
    shortened = {
        **dict.fromkeys(("sd-short", "recipe-short"), "dsb2018/nuclei.yaml"),
        **{"r1-short": "reference/r1-detector.yaml", "r1-seg": "reference/r1-crop-segmenter.yaml"},
        **{"r2-short": "reference/r2-mask-rcnn.yaml", "r4-128": "reference/r4-segnet.yaml"},
    }
    base = shortened.get(config.stem) or folders.get(config.parent.name, "quickstart.yaml")
    args = small(ROOT / "configs" / base, config)
    network = yaml.safe_load(config.read_text()).get("model", {}).get("init_args", {}).get("network", {}) or {}
    if widths := network.get("init_args", {}).get("widths"):
        args += ["--model.init_args.network.init_args.widths", str([8] * len(widths)), "--start_from", "null"]
    if network.get("init_args", {}).get("pretrained"):
        args += ["--model.init_args.network.init_args.pretrained", "none"]
    assert run("fit", *args, "--test_after_fit", "false") == 0
    (metrics,) = (tmp_path / "runs").glob("*/version_0/metrics.csv")
    assert metrics.stat().st_size > 0
    if "wandb" in config.name:
        assert list((tmp_path / "runs" / "wandb").glob("offline-run-*/run-*.wandb"))


def test_a_saved_config_repeats_its_run(run: Run, trained: list[object]) -> None:
    folder = Path("runs/quickstart")
    assert run("fit", "--config", folder / "version_0" / "config.yaml") == 0
    first, second = (learned(folder / f"version_{version}" / "metrics.csv") for version in (0, 1))
    assert first == second != []


def test_a_detector_is_debugged_by_the_same_additions(run: Run, small: Small, tmp_path: Path) -> None:
    first, second, *rest = small(ROOT / "configs" / "reference" / "r1-detector.yaml")
    additions = [ROOT / "configs" / "debug" / f"{name}.yaml" for name in ("limit", "overfit", "profile")]
    args = [first, second, *(part for addition in additions for part in ("--config", addition)), *rest]
    assert run("fit", *args) == 0
    assert (tmp_path / "runs" / "r1-detector" / "version_0" / "metrics.csv").stat().st_size > 0

"""The page on extending Karyon: its code, in a file, and its commands, typed in."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from config_files import ROOT
from small_runs import Run

from datamodules.drawing import draw_nuclei
from karyon.io.encoding import png

PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
SMALL = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--data.init_args.num_workers", 0]
SYNTHETIC = ["--data.init_args.train", 8, "--data.init_args.test", 3, "--data.init_args.size", "[128,128]"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


# `compare` would start a process for each variant, which its own tests do.
COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if "cli fit" in line]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[-1])
def test_the_page_does_what_it_says(command: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("\n\n".join(blocks("python")))
    (tmp_path / "core.yaml").write_text(*blocks("yaml"))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for part in ("train", "val", "test"):
        (tmp_path / "arrays" / part).mkdir(parents=True)
        image, labels = draw_nuclei(np.random.default_rng(0), (64, 64), "fluorescence")
        np.savez(tmp_path / "arrays" / part / "a.npz", image=image, labels=labels)
    monkeypatch.syspath_prepend(tmp_path)
    args = shlex.split(command.removeprefix("uv run python -m cli "))
    assert run(*args, *SMALL, *(SYNTHETIC if "quickstart" in command else [])) == 0
    assert list((tmp_path / "runs").rglob("record.json"))
    if "mine.Dilated" not in command:
        return
    with (tmp_path / "image.png").open("wb") as file:
        file.write(png(image))
    (checkpoint,) = (tmp_path / "runs").rglob("best.ckpt")
    export = ("export", checkpoint, "--out", "dilated")
    segment = ("segment", "image.png", "--model", "dilated")
    assert run(*export) == 2 and run(*export, "--trust", "mine") == 0
    assert run(*segment, "--precision", "bf16") == 2
    assert run(*segment, "--precision", "bf16", "--trust", "mine") == 0
    # By ONNX Runtime, which has no need of the class.
    assert run(*segment, "--out", "again") == 0

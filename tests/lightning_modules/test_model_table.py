"""A table of what a model is made of, without rows and columns that say nothing."""

import pytest
from lightning import LightningModule, Trainer
from torch import nn

from lightning_modules.callbacks.model_table import ModelTable


class Parts(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(999, 2)
        self.head = nn.Linear(2, 1)
        self.metrics = nn.Identity()


@pytest.mark.parametrize("frozen", [False, True])
def test_parts_with_parameters_and_their_sum(frozen: bool, capsys: pytest.CaptureFixture[str]) -> None:
    model = Parts()
    model.network.requires_grad_(not frozen)
    model.network.train(not frozen)
    ModelTable().on_fit_start(Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"), model)
    said = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in said.splitlines()]
    mode = ["mode"] if frozen else []
    assert ["name", "type", "params", *mode] in cells
    assert ["network", "Linear", "2.0 K", *(["eval"] if frozen else [])] in cells
    assert ["head", "Linear", "3", *(["train"] if frozen else [])] in cells
    assert "metrics" not in said and "FLOP" not in said
    # 999 x 2 + 2 and 2 x 1 + 1, of four bytes each.
    assert "2,003 parameters, 0.0 MB" in said
    assert ("2,000 of them stay as they are" in said) == frozen

"""What a model is made of, at the start of a training."""

from typing import Any

from lightning.pytorch.callbacks import ModelSummary
from rich.console import Console
from rich.table import Table


class ModelTable(ModelSummary):
    """Prints the parts of a model that have parameters, and their sum, in place of Lightning's table.

    That has rows and columns which are empty in most models: parts without parameters, such as metrics, and columns
    that hold 0 or `train` throughout.
    """

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: dict[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        columns = {title: [str(cell).strip() for cell in cells] for title, cells in summary_data}
        titles = ["Name", "Type", "Params"]
        titles += ["Mode"] if total_training_modes["eval"] else []
        titles += ["FLOPs"] if total_flops else []
        table = Table(*(title.lower() for title in titles))
        for name, *cells in zip(*(columns[title] for title in titles), strict=True):
            if cells[1] != "0":
                table.add_row(name, *cells)
        Console(soft_wrap=True).print(table)
        frozen = total_parameters - trainable_parameters
        said = f"{total_parameters:,} parameters, {model_size:,.1f} MB"
        print(said + (f"; {frozen:,} of them stay as they are" if frozen else ""), flush=True)

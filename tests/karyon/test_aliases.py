"""What was written with the names of before means the same today."""

import importlib
from typing import Any

import pytest

from karyon.aliases import CLASSES, current_class, renamed_option, upgrade

NETWORK = {"class_path": "lightning_modules.networks.unet.UNet", "init_args": {"decoder": 3}}


@pytest.mark.parametrize("new", [*CLASSES.values(), current_class("lightning_modules.metrics.membrane.MembraneScores")])
def test_every_new_name_is_there(new: str) -> None:
    module, _, name = new.rpartition(".")
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("inference", "today"),
    [
        (None, {}),
        ("lightning_modules.inference.Once", {}),
        ("lightning_modules.inference.DihedralAverage", {"rotations": True}),
        (
            {
                "class_path": "lightning_modules.inference.EnlargeSmall",
                "init_args": {"diameter": 24, "inner": {"class_path": "lightning_modules.inference.DihedralAverage"}},
            },
            {"rescale_to": 24, "rotations": True},
        ),
        (
            {"class_path": "lightning_modules.inference.Tiled", "init_args": {"window": 512}},
            {"blocks": {"class_path": "karyon.inference.blocks.Blocks"}},
        ),
    ],
)
def test_nested_classes_of_inference_are_arguments_today(inference: Any, today: dict[str, Any]) -> None:
    old = {"class_path": "lightning_modules.segmenter.DenseSegmenter", "init_args": {"inference": inference}}
    assert upgrade(old) == {"class_path": old["class_path"], "init_args": today}


def test_a_config_is_upgraded_as_a_whole_and_only_where_names_have_changed() -> None:
    old = {
        "name": "x",
        "model": {
            "class_path": "lightning_modules.segmenter.DenseSegmenter",
            "init_args": {
                "network": NETWORK,
                "decoder": {"class_path": "lightning_modules.representations.flow.FlowDecoder", "init_args": {}},
                "metrics": [{"class_path": "lightning_modules.metrics.membrane.MembraneScores"}],
            },
        },
        "data": {
            "class_path": "datamodules.dsb2018.DSB2018DataModule",
            "init_args": {"val_kinds": ["a"], "normalization": "datamodules.transforms.PercentileNormalize"},
        },
    }
    new = upgrade(old)
    arguments = new["model"]["init_args"]
    # A network's own argument of that name is another thing.
    assert arguments["network"] == {"class_path": "karyon.networks.unet.UNet", "init_args": {"decoder": 3}}
    assert arguments["postprocessing"]["class_path"].endswith("flow.postprocessing.FlowPostprocessing")
    assert arguments["metrics"][0]["class_path"] == "karyon.metrics.membrane.MembraneScores"
    assert new["data"]["init_args"]["val_image_types"] == ["a"]
    assert new["data"]["init_args"]["normalization"] == "karyon.preprocessing.PercentileNormalize"
    assert upgrade(new) == new


def test_options_are_renamed_part_by_part() -> None:
    assert renamed_option("--model.init_args.decoder.init_args.min_area") == (
        "--model.init_args.postprocessing.init_args.min_area"
    )

"""``karyon models``: lists the models that come with Karyon."""

import json
from typing import Any

from karyon.commands.options import OptionParser
from karyon.model_names import DEFAULT, MODELS


def models(args: list[str], prog: str) -> None:
    """Prints a line for each model: its name, licence, what it was trained on and how large objects should be.

    Args:
        args: of the command line, after ``models``.
        prog: what the user has typed before.
    """
    OptionParser(prog=prog, description=__doc__).parse_args(args)
    for path in sorted(MODELS.glob("*/card.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        mark = " (the default)" if path.parent.name == DEFAULT else ""
        diameter = f"; objects of about {card['object_diameter']:.0f} px" if card["object_diameter"] else ""
        print(f"{path.parent.name}{mark}: {card['licence']}")
        parts = card["data"].get("datasets", [card["data"]])
        print(f"  trained on {', '.join(map(_name, parts))}{diameter}")
        if scores := _scores(card):
            print(f"  DSB score on its test images: {', '.join(scores)}")


def _name(data: dict[str, Any]) -> str:
    """What a data module is called."""
    return str(data["class_path"]).rpartition(".")[2].removesuffix("DataModule")


def _scores(card: dict[str, Any]) -> list[str]:
    """The DSB score on the test images, of several data sets on those of each, and of the image types it learned."""
    metrics = card["metrics"].get("test", {})
    keys = [""]
    if datasets := card["data"].get("datasets"):
        keys = [f"/{_name(data)}{kind}" for data in datasets for kind in _kinds(data)]
    found = {key: metrics.get(f"test/dsb_score{key}") for key in keys}
    return [" ".join([*key.split("/")[1:], f"{score:.3f}"]) for key, score in found.items() if score is not None]


def _kinds(data: dict[str, Any]) -> list[str]:
    """Ends of the keys of the image types that a data module was restricted to; of all of them where it was not."""
    return [f"/{kind}" for kind in data.get("image_types") or []] or [""]

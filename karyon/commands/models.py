"""``karyon models``: lists the models that come with Karyon."""

import json

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
        score = card["metrics"].get("test", {}).get("test/dsb_score")
        print(f"{path.parent.name}{mark}: {card['licence']}")
        print(f"  trained on {card['data']['class_path'].rpartition('.')[2].removesuffix('DataModule')}{diameter}")
        if score is not None:
            print(f"  DSB score on its test images: {score:.3f}")

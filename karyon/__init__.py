"""Karyon for scripts and notebooks: a trained model in one line, objects in an image in another."""

import importlib

# In place of typing's, since that takes longer to import than all else here, and Ctrl-C is not heard before it is done.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from karyon.instances import Instances
    from karyon.label_arrays import segment
    from karyon.linking.link import link
    from karyon.metrics.matching import match_instances
    from karyon.model import Model, load_model

__all__ = ["Instances", "Model", "link", "load_model", "match_instances", "segment"]

HOMES = {
    "Instances": "karyon.instances",
    "link": "karyon.linking.link",
    "match_instances": "karyon.metrics.matching",
    "Model": "karyon.model",
    "load_model": "karyon.model",
    "segment": "karyon.label_arrays",
}


def __getattr__(name: str) -> object:
    # So that whoever needs one of them does not wait for the others.
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)

"""Karyon for scripts and notebooks: a trained model in one line, objects in an image in another."""

from karyon.model import Model, load_model

__all__ = ["Model", "load_model"]

"""Where the models that come with Karyon lie, and which of them is taken where none is named."""

from pathlib import Path

MODELS = Path(__file__).parent / "models"
DEFAULT = "nuclei"

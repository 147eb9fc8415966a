"""What a model says of an image, and how it has seen it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from karyon.inference.tissue import Tissue
from karyon.inference.views import View
from karyon.instances import Instances


@dataclass(frozen=True)
class Answer:
    """What a model finds in an image.

    Attributes:
        instances: the objects, at the image's size.
        view: how the image was seen.
        probability: of the foreground, float32 (H, W), where it was asked for and the model gives it.
        doubtful: whether the objects' scores are lower than on images of which the model finds most.
        level: the resolution of the image that was read, and has the size of the objects; 0 is the full one.
        tissue: what of the image was looked at; None is all.
    """

    instances: Instances
    view: View
    probability: NDArray[np.float32] | None = None
    doubtful: bool = False
    level: int = 0
    tissue: Tissue | None = None

    @property
    def note(self) -> str:
        """What a user should know of it; an empty text most often.

        >>> Answer(Instances.from_labels(np.ones((2, 2), int)), View(True, 0.25)).note
        'inverted; seen 0.25 times as large'
        """
        parts = ["inverted"] if self.view.inverted else []
        parts += [f"seen {self.view.scale:.2g} times as large"] if self.view.scale != 1 else []
        parts += [f"level {self.level}"] if self.level else []
        parts += ["doubtful"] if self.doubtful else []
        return "; ".join(parts)

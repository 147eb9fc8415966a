"""A small plot of a training, drawn by Qt, so that no plotting library is needed."""

from qtpy.QtCore import QPointF
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

LOOKS = {"train/loss_epoch": ("training loss", "#e69f00"), "val/dsb_score": ("score on the pairs", "#56b4e9")}
MARGIN = 18  # px


class Curve(QWidget):
    """Values over epochs, each curve between its least and its greatest value."""

    def __init__(self) -> None:
        super().__init__()
        self.curves: dict[str, list[tuple[float, float]]] = {}
        self.setMinimumHeight(110)

    def show_curves(self, curves: dict[str, list[tuple[float, float]]]) -> None:
        """Draws other values."""
        self.curves = curves
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802
        """Called by Qt."""
        painter = QPainter(self)
        for row, (name, points) in enumerate(self.curves.items()):
            if not points:
                continue
            said, colour = LOOKS[name]
            painter.setPen(QPen(QColor(colour), 2))
            painter.drawText(4, 14 + 14 * row, f"{said} {points[-1][1]:.3f}")
            painter.drawPolyline(QPolygonF([self._place(point, points) for point in points]))

    def _place(self, point: tuple[float, float], points: list[tuple[float, float]]) -> QPointF:
        last = max(x for curve in self.curves.values() for x, _ in curve) or 1
        values = [value for _, value in points]
        height = (point[1] - min(values)) / ((max(values) - min(values)) or 1)
        top = 2 * MARGIN
        across = MARGIN + point[0] / last * (self.width() - 2 * MARGIN)
        return QPointF(across, self.height() - 6 - height * (self.height() - top - 6))

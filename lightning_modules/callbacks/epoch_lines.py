"""Lines that tell how far a run is, with the time left: they read well on a terminal and in a log file."""

import time
from datetime import timedelta
from typing import Any

from lightning import Callback, LightningModule, Trainer


class EpochLines(Callback):
    """Prints the losses, the monitored score and the time left after each epoch of training.

    Where no progress bar does, epochs and evaluations that take long have a line now and then, too.

    Args:
        every_s: the least time between two such lines.
    """

    def __init__(self, every_s: float = 60.0) -> None:
        self.every_s = every_s
        # What the last batch was part of, and the first one of it.
        self.what, self.first = "", 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.monotonic()
        self.first_epoch, self.first_step = trainer.current_epoch, trainer.global_step

    # After on_train_epoch_end, validation's metrics of this epoch are there too.
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        done = trainer.current_epoch + 1
        spent = time.monotonic() - self.start
        epochs, steps = trainer.max_epochs or -1, trainer.max_steps
        parts = [f"epoch {done}" + (f"/{epochs}" if epochs > 0 else "")]
        if steps > 0:
            parts.append(f"step {trainer.global_step}/{steps}")
        for key in ("train/loss_epoch", "val/loss", "val/accuracy", "val/miou", "val/dsb_score"):
            if key in trainer.callback_metrics:
                parts.append(f"{key.removesuffix('_epoch')} {float(trainer.callback_metrics[key]):.4f}")
        if (rate := trainer.callback_metrics.get("train/images_per_second")) is not None:
            parts.append(f"{float(rate):.1f} images/s")
        parts.append(f"{_clock(spent)} spent")
        rates = []
        if epochs > 0:
            rates.append((epochs - done) / (done - self.first_epoch))
        if steps > 0:
            # None at all after a checkpoint from the end of an epoch.
            rates.append((steps - trainer.global_step) / max(1, trainer.global_step - self.first_step))
        if rates:
            parts.append(f"at most {_clock(spent * min(rates))} left")
        print("  ".join(parts), flush=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._line(trainer, f"epoch {trainer.current_epoch + 1}, batch", batch_idx, trainer.num_training_batches)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        self._line(trainer, "validation, batch", batch_idx, sum(trainer.num_val_batches))

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        self._line(trainer, "test, batch", batch_idx, sum(trainer.num_test_batches))

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        self._line(trainer, "prediction, batch", batch_idx, sum(trainer.num_predict_batches))

    def _line(self, trainer: Trainer, what: str, batch_idx: int, batches: float) -> None:
        if trainer.progress_bar_callback or not trainer.is_global_zero:
            return
        now = time.monotonic()
        if what != self.what or batch_idx <= self.first:
            self.what, self.first = what, batch_idx
            self.begun = self.last = now
        elif now - self.last >= self.every_s:
            self.last = now
            left = (now - self.begun) / (batch_idx - self.first) * (batches - batch_idx - 1)
            print(f"{what} {batch_idx + 1}/{batches}  {_clock(left)} left", flush=True)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))

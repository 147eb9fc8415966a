"""One line an epoch, with the time left: reads well on a terminal and in a log file."""

import time
from datetime import timedelta

from lightning import Callback, LightningModule, Trainer


class EpochLines(Callback):
    """Prints the losses, the monitored score and the time left after each epoch of training."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.monotonic()
        self.first_epoch = trainer.current_epoch

    # After on_train_epoch_end, validation's metrics of this epoch are there too.
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        done = trainer.current_epoch + 1
        spent = time.monotonic() - self.start
        parts = [f"epoch {done}" + (f"/{trainer.max_epochs}" if trainer.max_epochs else "")]
        for key in ("train/loss_epoch", "val/loss", "val/accuracy", "val/miou", "val/dsb_score"):
            if key in trainer.callback_metrics:
                parts.append(f"{key.removesuffix('_epoch')} {float(trainer.callback_metrics[key]):.4f}")
        if (rate := trainer.callback_metrics.get("train/images_per_second")) is not None:
            parts.append(f"{float(rate):.1f} images/s")
        parts.append(f"{_clock(spent)} spent")
        if trainer.max_epochs and trainer.max_epochs > 0:
            left = spent / (done - self.first_epoch) * (trainer.max_epochs - done)
            parts.append(f"at most {_clock(left)} left")
        print("  ".join(parts), flush=True)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))

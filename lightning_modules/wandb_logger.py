"""W&B's logger of Lightning, told which checkpoint is the best."""

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger


class RunLogger(WandbLogger):
    """Keeps, with ``log_model``, the best checkpoint as an artifact; ``all`` keeps every one that was the best.

    Lightning's own hands over ``last.ckpt`` too, and calls it the best, because the callback that writes it has nothing
    to compare it by. It stays in the run's folder.
    """

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        if checkpoint_callback.monitor is not None:
            super().after_save_checkpoint(checkpoint_callback)

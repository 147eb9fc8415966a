"""Checkpoints that are whole or not there: a run that is killed while it writes one goes on from the one before."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from karyon.errors import cannot_write
from karyon.io.tensor_files import load_tensors


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it; reads it without running anything in it.

    Lightning writes it into the folder of temporary files and moves it from there, which on a cluster, where that lies
    on another disk, is a copy that can be cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Saves a checkpoint.

        Args:
            checkpoint: what `torch.save` takes.
            path: a file on this machine's disks.
            storage_options: none; for other ways of writing.

        Raises:
            DataError: it cannot be written. What lay there before still does.
        """
        path = Path(path)
        writing = path.with_name(f"{path.name}.writing")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with writing.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                # A node that dies must not leave the name of a file whose content was still to be written.
                os.fsync(file.fileno())
            writing.replace(path)
        except (OSError, RuntimeError) as error:
            writing.unlink(missing_ok=True)
            # Torch wraps what the operating system says.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise cannot_write(path, cause, "then go on from the checkpoint before with --ckpt_path last") from error

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """Reads a file on this machine's disks onto the CPU: tensors and plain values alone, whatever is asked for.

        Raises:
            DataError: see `karyon.io.tensor_files.load_tensors`.
        """
        return load_tensors(Path(path))

"""The state of a training as a file: whole or not at all, checked, and never unpickled."""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from pocketvision.errors import ArtefactError
from pocketvision.storage import write_into


class SafeCheckpoints(CheckpointIO):
    """How Lightning's checkpoints reach the disk.

    By itself it writes them in the folder for temporary files first: on another disk, moving them
    from there is a copy, which can be cut short.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_into(Path(path), content.getvalue())

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        return read_training(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def read_training(path: Path) -> dict[str, Any]:
    """A checkpoint, on the CPU. Raises: ArtefactError: it holds more than tensors and values."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ArtefactError(
            f"{path} holds more than tensors and plain values, so it is not opened; remove it to "
            "begin the training again."
        ) from error
    return state


def read_whole(path: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """As `read_training`; None where there is no checkpoint, or one that is damaged.

    That one is removed, and `say` is told: the training begins again.
    """
    return read_training(path) if there_and_whole(path, say) else None


def there_and_whole(path: Path, say: Callable[[str], None]) -> bool:
    """True if a training can go on from a checkpoint; a damaged one is removed as in `read_whole`.

    For a caller that leaves the reading to Lightning.
    """
    if not path.exists():
        return False
    if is_whole(path):
        return True
    say(f"{path} is damaged; the training begins again.")
    path.unlink()
    return False


def is_whole(path: Path) -> bool:
    """True if a checkpoint is byte for byte what was written, by the checksums inside it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    # A bit that says "encrypted" is a RuntimeError, and so is a compression that nobody knows.
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, zlib.error):
        return False

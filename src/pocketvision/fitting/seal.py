"""The seal of a finished folder: what its files were when the run ended, kept in run.json.

It finds what happens by accident: a file swapped, edited, cut short or lost. Whoever edits run.json
as well is not found by it; the figures must still agree with each other and with the images then.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from pocketvision.fitting.artefact import CARD, RUN
from pocketvision.storage import sha256_bytes, sha256_file

UNSEALED = (RUN, CARD)  # the seal's own place, and the model card, which people add to


def seal_of(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of each file of `folder` itself; hidden ones and `UNSEALED` are left out."""
    return {
        path.name: _digest(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and path.name not in UNSEALED
    }


def broken_seals(folder: Path, seal: dict[str, str]) -> list[str]:
    """Names of sealed files that are missing, or of another content."""
    return [
        name
        for name, sealed in sorted(seal.items())
        if not (folder / name).is_file() or _digest(folder / name) != sealed
    ]


def _digest(path: Path) -> str:
    """SHA-256 of a file; of JSON only what it says counts, not how it is laid out."""
    if path.suffix == ".json":
        # No JSON any more, or nested without end: as it is.
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(path.read_bytes())
            text = json.dumps(said, sort_keys=True, separators=(",", ":"))
            return sha256_bytes(text.encode())
    return sha256_file(path)

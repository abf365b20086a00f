"""How the network of a run was narrowed, as what narrowed it left it for the record."""

from __future__ import annotations

from pathlib import Path

from pocketvision.fitting.folder import PREPARED
from pocketvision.record.searched import Narrowing
from pocketvision.storage import from_json

NARROWING = "narrowing.json"


def narrowing_left(out: Path) -> Narrowing | None:
    """How the network of the run in `out` was narrowed; None: it was not.

    Raises: ArtefactError: its file is damaged.
    """
    path = out / PREPARED / NARROWING
    if not path.exists():
        return None
    return from_json(Narrowing, path.read_bytes(), source=str(path))

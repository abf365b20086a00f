"""The output folder: writable before the work begins, and never there without its run.json."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pocketvision.errors import ConfigError
from pocketvision.storage import write_atomic

HOLDS = {
    "done": "a finished run",
    "failed": "a run that failed its gate or budget",
    "unfinished": "an unfinished run with other options",
}


def check_writable(out: Path) -> None:
    """Raises: ConfigError: `out` could not be made when everything is measured."""
    parent = out.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ConfigError(
            f"The output folder {out} cannot be made: {parent} is not a folder that can be written."
        )


def taken(out: Path, status: str | None) -> ConfigError:
    """The error for an output folder that is in use; status: of the run in it, if there is one."""
    holds = HOLDS[status] if status else "something else"
    return ConfigError(
        f"The output folder {out} exists and holds {holds}; nothing was changed. Give another "
        "--out, or remove the folder."
    )


def make_folder(out: Path, name: str, content: str) -> None:
    """Make `out` with one file inside, both at once, so that a run in it can always be resumed."""
    building = out.with_name(f".{out.name}.new")
    shutil.rmtree(building, ignore_errors=True)
    write_atomic(building / name, content)
    building.rename(out)

"""`pocketvision` as a person meets it, in this process: an answer, an exit code, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from pocketvision.cli import app


class Answer(NamedTuple):
    """Exit code, standard output, standard error in one line."""

    code: int
    out: str
    err: str


Run = Callable[..., Answer]


def called(*words: object) -> int:
    """The exit code of `pocketvision` with these words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["pocketvision", *map(str, words)])
        try:
            app.main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def answer(code: int, out: str, err: str) -> Answer:
    """What was printed, without the frame that the terminal draws around errors."""
    assert "Traceback" not in err
    return Answer(code, out, " ".join(err.replace("│", " ").split()))

"""What other processes of a training raised, as if it had been raised here."""

from __future__ import annotations

import builtins
import os
import re
from typing import NoReturn

from torch.multiprocessing.spawn import ProcessException, ProcessRaisedException

from pocketvision.errors import PocketvisionError

TRACEBACK = "Traceback (most recent call last):"
# What follows the calls of a traceback: the kind of an error, and its module unless it is built in.
_KIND = re.compile(r"^([A-Za-z_][\w.]*): ", re.MULTILINE)
_SYSTEM = re.compile(r"\[Errno (\d+)\] ([^:]*)(?:: (?:\w+\()?(['\"])(.*)\3)?", re.DOTALL)


def raise_as_here(error: ProcessException) -> NoReturn:
    """Raise what ended another process, with its class and sentence where they are known here.

    Raises: PocketvisionError: one of its kinds, or one with the last line of any other error.
    OSError: with its number and file.
    """
    if isinstance(error, ProcessRaisedException):
        own = str(error).rpartition(TRACEBACK)[2].strip()  # not what was raised before it
        found = _KIND.search(own)
        if found and (known := _known(found[1], own[found.end() :])):
            raise known from error
        last = own.splitlines()[-1]
        raise PocketvisionError(f"A process of the training failed: {last}") from error
    raise PocketvisionError(
        f"A process of the training ended before it was done: {error}. Run the same command again "
        "to go on; if memory ran out, give a smaller --batch-size and another --out."
    ) from error


def _known(kind: str, sentence: str) -> Exception | None:
    """The error, if it is one of ours or the system's."""
    ours = {f"{c.__module__}.{c.__qualname__}": c for c in _kinds(PocketvisionError)}
    if kind in ours:
        return ours[kind](sentence)
    builtin = getattr(builtins, kind, None)
    if not (isinstance(builtin, type) and issubclass(builtin, OSError)):
        return None
    if match := _SYSTEM.match(sentence):
        number = int(match[1])
        return OSError(number, os.strerror(number), match[4])
    return OSError(sentence)


def _kinds(kind: type[PocketvisionError]) -> list[type[PocketvisionError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in _kinds(below))]

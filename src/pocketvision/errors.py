"""What can go wrong, and the sentences that say so.

PocketvisionError            every error a user can cause; exit code 2
├── ConfigError              an option or a specification outside what is allowed
├── DataError                images, labels or folders that cannot be used
├── ArtefactError            a file or folder of ours that is missing, foreign or altered
├── StorageError             a disk that is full, a folder that vanished or cannot be written
├── MissingExtraError        an optional dependency that is not installed
├── GateError                a gate failed: accuracy, budget as measured, verify; exit code 1
│   └── NoisyError           the machine is too noisy to tell; the same command goes on
└── BudgetError              no candidate can meet the budget; exit code 3
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Collection, Sequence
from types import ModuleType


class PocketvisionError(Exception):
    """Base of every error a user can cause. `exit_code` is what the command line returns."""

    exit_code = 2


class ConfigError(PocketvisionError, ValueError):
    """An option or a specification outside what is allowed."""


class DataError(PocketvisionError, ValueError):
    """Images, labels or folders that cannot be used."""


class ArtefactError(PocketvisionError):
    """A file or folder of ours that is missing, foreign or altered."""


class StorageError(PocketvisionError):
    """A disk that is full, a folder that vanished or cannot be written."""


class MissingExtraError(PocketvisionError, ImportError):
    """An optional dependency that is not installed."""


class GateError(PocketvisionError):
    """A gate failed: accuracy, the budget as measured, or verify."""

    exit_code = 1


class NoisyError(GateError):
    """The machine is too noisy to tell; when it is quiet, the same command goes on."""


class BudgetError(PocketvisionError):
    """No candidate can meet the budget; the message names the nearest that would."""

    exit_code = 3


def choice(name: str, value: str, allowed: Collection[str]) -> str:
    """Return `value` if it is one of `allowed`.

    Raises: ConfigError: with the allowed values, and the nearest one as a hint.
    """
    if value in allowed:
        return value
    message = f"{name}={value!r} is unknown; expected one of {sorted(allowed)}."
    raise ConfigError(message + did_you_mean(value, allowed))


def did_you_mean(value: str, allowed: Collection[str]) -> str:
    """The hint ` Did you mean 'x'?`, or nothing when no allowed name begins like it or is close."""
    longer = [name for name in sorted(allowed) if value and name.startswith(value)]
    close = longer or difflib.get_close_matches(value, sorted(allowed), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def in_range(name: str, value: float, low: float, high: float) -> None:
    """Raises: ConfigError: unless low <= value <= high (a NaN never is)."""
    if not low <= value <= high:
        raise ConfigError(f"{name}={value} is out of range; expected {low} to {high}.")


def is_text(name: str, value: str | None) -> None:
    """Raises: ConfigError: a name of a file that is no UTF-8, and so cannot be recorded."""
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{name}={value!a} is no text in UTF-8 and could not be recorded; rename it."
        ) from None


def at_least(name: str, value: int, low: int) -> None:
    """Raises: ConfigError: unless `value` is a whole number >= low."""
    if not isinstance(value, int) or value < low:
        raise ConfigError(f"{name}={value} is not allowed; expected a whole number from {low} up.")


def check_shape(name: str, shape: Sequence[int], expected: Sequence[int | None]) -> None:
    """Raises: ConfigError: unless `shape` equals `expected`, where None stands for any length."""
    same = len(shape) == len(expected) and all(
        e is None or s == e for s, e in zip(shape, expected, strict=True)
    )
    if not same:
        wanted = "x".join("any" if e is None else str(e) for e in expected)
        raise ConfigError(f"{name} is {'x'.join(map(str, shape))}; expected {wanted}.")


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Raises: MissingExtraError: naming the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"This needs {module.partition('.')[0]}, which could not be imported ({error}); "
            f"install it with: pip install 'pocketvision[{extra}]'"
        ) from error

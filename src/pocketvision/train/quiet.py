"""What Lightning says of itself, silenced."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

LOGGERS = ("lightning.pytorch", "lightning.fabric")
ADVICE = (
    ".*does not have many workers.*",
    ".*IterableDataset. has .__len__. defined.*",
    ".*Checkpoint directory .* exists and is not empty.*",
)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's banner and the advice that does not apply to in-memory batches."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        hush()
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def hush() -> None:
    """The same for good, in a process that is all training."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in ADVICE:
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", module="lightning")

"""What can be wrong with a training that ends: it diverged, or learned less than it seems.

The rules are functions of figures; `batch_statistics` gives the figure that only a network can.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

from torch import nn

from pocketvision.errors import GateError
from pocketvision.record.scores import Score
from pocketvision.record.words import Finding

DIVERGED = "diverged"  # the code of its alarm
FAR_BEYOND = 10.0  # times the loss of guessing, plus one
LOWERED = 0.1  # of the learning rate, after a divergence
LOWEST_RATE = 1e-8
NORM_GAP = 0.1  # of top-1 between the two states of the batch norms
NEARLY_ALL = 0.95  # of the answers name one class,
TRUE_SHARE = 0.9  # which is less than this of the labels


class Diverged(GateError):
    """The loss is no number, or far beyond the loss of guessing."""


def check_loss(loss: float, num_classes: int, largest_weight: float, where: str) -> None:
    """`loss`: a mean cross-entropy. largest_weight: of a class. where: such as "at step 3".

    Raises: Diverged: the loss is NaN, infinite, or says that the training is lost.
    """
    limit = FAR_BEYOND * (1 + math.log(num_classes)) * max(1.0, largest_weight)
    if not loss <= limit:
        raise Diverged(f"The training loss became {loss:.4g} {where}.")


def lowered_rate(rate: float) -> float:
    """The learning rate to go on with."""
    return max(LOWEST_RATE, LOWERED * rate)


def divergence_alarm(error: Diverged, *, epoch: int, rate: float, lowered: float) -> Finding:
    """The training went back once. epoch: of the checkpoint; 0: the start."""
    place = f"epoch {epoch}" if epoch else "its start"
    return Finding(
        severity="warning",
        code=DIVERGED,
        sentence=f"{error} The training went back to {place} and on at a learning rate of "
        f"{lowered:.3g} instead of {rate:.3g}.",
    )


def batch_statistics(network: nn.Module) -> nn.Module:
    """A copy whose batch norms use each batch's own statistics; all else is in eval mode."""
    twin = copy.deepcopy(network).eval()
    for module in twin.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return twin


def norm_alarm(running: Score, batch: Score) -> Finding | None:
    """running: with the statistics that ship; batch: with those of each batch, same images.

    None where they agree.
    """
    gap = batch.value - running.value
    if gap <= NORM_GAP or batch.low <= running.high:
        return None
    return Finding(
        severity="error",
        code="batch-norm",
        sentence=f"The statistics kept by the batch norms are not those of the images: the network "
        f"{running.reached('training images')} with them, and "
        f"{batch.value:.1%} with the statistics of each batch. Train for more epochs, or with "
        "larger batches.",
    )


def majority_alarm(
    named: Sequence[int], labels: Sequence[int], classes: Sequence[str]
) -> Finding | None:
    """named, labels: images of val by class. None unless nearly all answers name one class."""
    total = sum(named)
    most = max(range(len(named)), key=lambda k: named[k])
    answers, true = named[most] / total, labels[most] / total
    if answers <= NEARLY_ALL or true >= TRUE_SHARE:
        return None
    return Finding(
        severity="error",
        code="majority-class",
        sentence=f"The network has learned little more than one class: it names {classes[most]!r} "
        f"for {answers:.1%} of {total} val images, of which {true:.1%} are. Look at the labels, "
        "train longer, or weigh the classes (--class-weights).",
    )

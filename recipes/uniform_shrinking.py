"""A network that is made faster the same way everywhere: all widths by one factor, or a lower
resolution; the largest of such forms that is within a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from pocketvision.compress.netadapt import MULTIPLE
from pocketvision.models.arch import ArchSpec
from pocketvision.models.width_groups import resized, width_groups
from pocketvision.models.widths import widths_of

FACTORS = tuple(percent / 100 for percent in range(99, 4, -1))
SIDES = 8  # resolutions are multiples of it
LEAST_SIDE = 32  # that `fit` takes

T = TypeVar("T")


def scaled(spec: ArchSpec, factor: float) -> ArchSpec:
    """Every width that can change at `factor` of what it is, as near as multiples of 8 allow."""
    for name, width in [(group.name, group.width) for group in width_groups(spec)]:
        (group,) = (each for each in width_groups(spec) if each.name == name)
        choices = (group.width, *widths_of(spec, group, MULTIPLE))
        nearest = min(choices, key=lambda choice: abs(choice - factor * width))
        spec = resized(spec, group, nearest)
    return spec


def first_within(choices: Sequence[T], within: Callable[[T], bool]) -> T | None:
    """The first that is within a limit, by bisection: what follows one that is, is too.

    What is returned was found to be within, whatever noise says of others; None: none was.
    """
    low, high = -1, len(choices)  # not within; within
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if within(choices[middle]) else (middle, high)
    return choices[high] if high < len(choices) else None


def uniform_widths(spec: ArchSpec, within: Callable[[ArchSpec], bool]) -> ArchSpec | None:
    """The form with the largest factor that is within a limit."""
    factor = first_within(FACTORS, lambda factor: within(scaled(spec, factor)))
    return None if factor is None else scaled(spec, factor)


def lower_resolution(spec: ArchSpec, within: Callable[[ArchSpec], bool]) -> ArchSpec | None:
    """The same network at the largest lower resolution that is within a limit."""
    return first_within([spec.at(side) for side in lower_sides(spec.resolution)], within)


def lower_sides(resolution: int) -> range:
    """Multiples of SIDES below a resolution, the largest first."""
    return range((resolution - 1) // SIDES * SIDES, LEAST_SIDE - 1, -SIDES)

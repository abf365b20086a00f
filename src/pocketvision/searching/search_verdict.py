"""Which arm of a search is the best, and whether the search was worth its time, in sentences."""

from __future__ import annotations

from collections.abc import Collection

from pocketvision.budget import format_latency
from pocketvision.models.space import Member
from pocketvision.record.searched import Arm
from pocketvision.record.words import Sampling
from pocketvision.searching.search_config import RANDOM, SEARCH, SHARING, Finalist

WAYS: dict[Sampling, str] = {
    "random": "random search",
    "evolution": "evolution",
    "rl": "the controller",
}


def best_of(arms: tuple[Arm, ...]) -> Arm | None:
    """The most accurate on val, the faster of two that are equal; None: all came to nothing."""
    able = [arm for arm in arms if arm.accuracy is not None and arm.compared is not None]
    return max(able, key=_merit, default=None)


def _merit(arm: Arm) -> tuple[float, float]:
    assert arm.accuracy is not None
    assert arm.compared is not None
    return arm.accuracy.value, -arm.compared.median_ms


def verdict(
    arms: tuple[Arm, ...], found: Finalist | None, method: Sampling, drawn: Collection[Member]
) -> str:
    """All that is to say. drawn: the members that random search scored."""
    return " ".join(
        [sentence_of(arms), *beside_random_search(arms), *by_chance(found, method, drawn)]
    )


def sentence_of(arms: tuple[Arm, ...]) -> str:
    """Whether the search was worth its time, with the figures."""
    found = next(arm for arm in arms if arm.name == SEARCH)
    others = tuple(arm for arm in arms if arm.name not in SHARING)
    rival = best_of(others)
    if not others:
        return "Nothing that needs no search was trained beside it, so what it gained is not known."
    if found.accuracy is None or found.compared is None:
        return f"The search came to nothing: {found.note}"
    if rival is None:
        return "Nothing that needs no search came to a network within the budget."
    figures = (
        f"{found.accuracy.value:.1%} of {found.accuracy.n} images of val at "
        f"{format_latency(found.compared.median_ms)}, against {_figures(rival)} of {rival.name} "
        f"({rival.network}), which had the same time"
    )
    if _merit(found) <= _merit(rival):
        ships = " That is what ships." if best_of(arms) is rival else ""
        return f"The search did not beat what needs none: {figures}.{ships}"
    return f"The search was worth its time: {figures}{_unsure(found, rival)}."


def beside_random_search(arms: tuple[Arm, ...]) -> list[str]:
    """The sentence on random search, where it has an arm of its own."""
    found = next(arm for arm in arms if arm.name == SEARCH)
    drawn = next((arm for arm in arms if arm.name == RANDOM), None)
    if drawn is None:
        return []
    if drawn.accuracy is None:
        return [f"Random search came to nothing: {drawn.note}"]
    remark = "" if found.accuracy is None else _unsure(*sorted((drawn, found), key=_merit)[::-1])
    ships = " That is what ships." if best_of(arms) is drawn else ""
    return [
        "Random search in the same space, with the same supernet, time and number of scores, came "
        f"to {_figures(drawn)} ({drawn.network}){remark}.{ships}"
    ]


def _figures(arm: Arm) -> str:
    assert arm.accuracy is not None
    assert arm.compared is not None
    return f"{arm.accuracy.value:.1%} at {format_latency(arm.compared.median_ms)}"


def _unsure(better: Arm, worse: Arm) -> str:
    assert better.accuracy is not None
    assert worse.accuracy is not None
    is_unsure = better.accuracy.low <= worse.accuracy.value
    return "; their intervals overlap, so this may be chance" if is_unsure else ""


def by_chance(found: Finalist | None, method: Sampling, drawn: Collection[Member]) -> list[str]:
    """A sentence, where what was found is not what the way to search alone asked for."""
    if found is None:
        return []
    if found.origin != method:
        return [
            f"The network of the search was found by {WAYS[found.origin]}, which scored as many "
            f"members as {WAYS[method]}."
        ]
    if found.member in drawn:
        return ["Random search came upon the network of the search too."]
    return []

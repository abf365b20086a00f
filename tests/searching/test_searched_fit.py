"""`fit --search`: when there is one, and what it is told."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import Told

from pocketvision.budget import Budget
from pocketvision.errors import BudgetError, ConfigError
from pocketvision.fitting import pipeline
from pocketvision.fitting.config import FitConfig
from pocketvision.searching import searched_fit
from pocketvision.searching.search_config import LEAST_EPOCHS, SearchConfig
from pocketvision.searching.search_plan import AMPLE_EPOCHS, TooShort
from pocketvision.searching.searched_fit import run_searched_fit, search_config

LONG = FitConfig(data="photos", budget=Budget(latency_ms=3.0, time_s=7200.0))


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was called instead of the work."""
    found: list[Any] = []

    def note(config: object, *rest: object, **named: object) -> object:
        found.append(config)
        return config

    monkeypatch.setattr(pipeline, "run_fit", note)
    monkeypatch.setattr(searched_fit, "run_search", note)
    return found


def chosen(config: FitConfig, search: Any, out: Path) -> type:
    found: object = run_searched_fit(config, search, out, told := Told())
    if isinstance(found, FitConfig) and search == "auto":
        assert told.sentences[-1].startswith("No search: ")
    return type(found)


def test_search_is_on_off_or_as_the_time_allows(tmp_path: Path) -> None:
    short = replace(LONG, budget=Budget(latency_ms=3.0, time_s=600.0))
    endless = replace(LONG, budget=Budget(latency_ms=3.0))
    free = replace(LONG, budget=Budget(time_s=7200.0))
    chosen_models = replace(LONG, models=("mobilenet_v2",))
    together = replace(LONG, nodes=2)  # each would have to come to the same by itself
    assert chosen(LONG, "off", tmp_path) is FitConfig
    assert chosen(LONG, "on", tmp_path) is SearchConfig
    assert chosen(LONG, "auto", tmp_path) is SearchConfig
    assert chosen(together, "on", tmp_path) is SearchConfig
    for config in (short, endless, free, chosen_models, together):
        assert chosen(config, "auto", tmp_path) is FitConfig


def test_time_that_does_not_hold_a_search_gives_a_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[float] = []

    def fit(config: FitConfig, *rest: object, spent_s: float, **named: object) -> FitConfig:
        before.append(spent_s)
        return config

    def too_short(*arguments: object, **named: object) -> None:
        time.sleep(0.05)
        raise TooShort("The time is too short for a search.")

    monkeypatch.setattr(pipeline, "run_fit", fit)
    monkeypatch.setattr(searched_fit, "run_search", too_short)
    found: object = run_searched_fit(LONG, "auto", tmp_path, told := Told())
    assert found == LONG
    assert before[0] >= 0.05  # the time it took to find out counts
    assert told.sentences == ["No search: The time is too short for a search."]
    with pytest.raises(TooShort):
        run_searched_fit(LONG, "on", tmp_path)


@pytest.mark.parametrize(
    "error", [BudgetError("Even the smallest is too slow."), ConfigError("They are of no member.")]
)
def test_search_that_cannot_begin_gives_a_fit_but_not_one_that_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(config: SearchConfig, out: Path, *rest: object, **named: object) -> None:
        if out.name == "begun":
            (out / "searching").mkdir(parents=True)
        raise error

    monkeypatch.setattr(searched_fit, "run_search", refuse)
    found: object = run_searched_fit(LONG, "auto", tmp_path / "new", told := Told())
    assert found == LONG
    assert told.sentences == [f"No search: {error}"]
    with pytest.raises(type(error), match=str(error)):
        run_searched_fit(LONG, "on", tmp_path / "new")
    with pytest.raises(type(error), match=str(error)):
        run_searched_fit(LONG, "auto", tmp_path / "begun")


def test_search_by_itself_has_a_supernet_that_can_rank(tmp_path: Path, calls: list[Any]) -> None:
    run_searched_fit(LONG, "auto", tmp_path / "auto")
    run_searched_fit(LONG, "on", tmp_path / "on")
    by_itself, asked_for = calls
    assert (by_itself.least_epochs, asked_for.least_epochs) == (AMPLE_EPOCHS, LEAST_EPOCHS)
    assert by_itself == asked_for  # what was begun by one word goes on with the other


def test_what_was_begun_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "searched" / "searching").mkdir(parents=True)
    (tmp_path / "fitted").mkdir()
    (tmp_path / "fitted" / "run.json").touch()
    assert isinstance(run_searched_fit(LONG, "auto", tmp_path / "searched"), SearchConfig)
    found: object = run_searched_fit(LONG, "auto", tmp_path / "fitted")
    assert isinstance(found, FitConfig)


def test_options_travel() -> None:
    config = replace(
        LONG,
        runtimes=("onnxruntime",),
        precisions=("int8",),
        resolutions=(64, 96),
        accelerator="cpu",
        devices=2,
        nodes=2,
        seed=3,
    )
    found = search_config(config)
    assert (found.runtime, found.precision) == ("onnxruntime", "int8")
    assert (found.accelerator, found.devices, found.nodes) == ("cpu", 2, 2)
    assert (found.resolutions, found.seed, found.budget) == ((64, 96), 3, LONG.budget)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ("mobilenet_v2",)}, "--search does not take --models; leave that away"),
        ({"widths": (1.0,), "class_weights": True}, "does not take --widths, --class-weights"),
        ({"runtimes": ("onnxruntime", "openvino")}, "does not take --runtimes"),
    ],
)
def test_options_that_a_search_does_not_take_are_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_searched_fit(replace(LONG, **change), "on", tmp_path)


def test_unknown_choice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="search='maybe' is unknown; expected one of"):
        run_searched_fit(LONG, "maybe", tmp_path)  # type: ignore[arg-type]

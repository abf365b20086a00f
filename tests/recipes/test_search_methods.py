"""Ways to search at equal evaluations: the recipe's scores, figures and page."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripts import load
from small_runs import write_photos
from tiny_space import TINY_SPACE

from pocketvision.budget import Budget
from pocketvision.compress.sampling import Limit, Scored
from pocketvision.measure.count import count
from pocketvision.models.space import Member, SearchSpace
from pocketvision.models.spaces import find_space
from pocketvision.models.supernet import Supernet
from pocketvision.searching.search_config import SearchConfig, SearchPlan, SearchState
from pocketvision.searching.search_work import save_supernet
from pocketvision.storage import to_json

methods = load("search_methods")


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_SPACE)
    return find_space(str(path))


def by_work(space: SearchSpace, limit_ms: float) -> Limit:
    """A thousand multiply-accumulates a millisecond."""
    return Limit(
        latency_of=lambda member: count(space.spec(member, 2)).macs / 1000, limit_ms=limit_ms
    )


@pytest.mark.parametrize("way", ["evolution", "rl", "random"])
def test_every_way_scores_as_many_members_within_the_limit(space: SearchSpace, way: Any) -> None:
    limit, asked = by_work(space, 400.0), list[Member]()

    def accuracy(member: Member) -> float:
        asked.append(member)
        return 0.5

    found = methods.outcome(way, 3, space, limit, accuracy, 20)
    assert len(set(asked)) == len(asked) == 20
    assert all(limit.holds(member) for member in asked)
    fastest_ms = min(map(limit.latency_of, asked))
    assert found.latency_ms == fastest_ms  # all are equally accurate
    assert found.best == pytest.approx(0.5 * (fastest_ms / 400) ** -0.07)
    assert found.best >= found.tenth > 0


def test_best_tenth_is_of_rewards(space: SearchSpace) -> None:
    one = Scored(member=space.largest(), generation=0, latency_ms=100.0, size_bytes=0, accuracy=0.0)
    scored = [replace(one, accuracy=n / 100) for n in range(30)]
    found = methods.summed_up("random", 0, scored, by_work(space, 100.0))
    assert (found.best, found.accuracy) == (0.29, 0.29)
    assert found.tenth == pytest.approx(0.28)


def test_scores_are_made_once(space: SearchSpace, tmp_path: Path) -> None:
    asked: list[Member] = []

    def score(member: Member) -> float:
        asked.append(member)
        return 0.25

    first = methods.Judge(tmp_path / "scores.json", score)
    assert first.accuracy(space.smallest()) == first.accuracy(space.smallest()) == 0.25
    first.save()
    again = methods.Judge(tmp_path / "scores.json", score)
    assert again.accuracy(space.smallest()) == 0.25
    assert len(asked) == 1


def test_page_of_a_finished_search(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "searched" / "searching"
    folder.mkdir(parents=True)
    config = SearchConfig(
        data=str(write_photos(tmp_path / "photos", per_class=20)), budget=Budget(latency_ms=400.0)
    )
    plan = SearchPlan(
        before_s=0.0,
        supernet_steps=5,
        supernet_s=0.0,
        scoring_s=0.0,
        evaluations=2,
        generation=2,
        netadapt=False,
        arm_s=None,
    )
    state = SearchState(
        config=config,
        fingerprint="",
        space=space,
        runtime="onnxruntime",
        precision="f32",
        scale=1.0,
        limit_ms=400.0,
        threads=1,
        plan=plan,
        steps_made=5,
    )
    (folder / "search.json").write_text(to_json(state))
    save_supernet(Supernet(space, 2, seed=0), folder / "supernet.safetensors")
    monkeypatch.setattr(methods, "limit_of", lambda state, classes: by_work(space, 400.0))
    out = tmp_path / "page.md"
    words = [str(tmp_path / "searched"), "--work", str(tmp_path / "work"), "--page", str(out)]
    monkeypatch.setattr(sys, "argv", ["search_methods.py", *words, "--evaluations", "4"])
    methods.main()
    text = out.read_text()
    assert "one supernet of 5 steps in tiny @32 on images of 2 classes (34 of train)" in text
    assert "the limit of 400 ms" in text
    assert "--page recipes/page.md" in text
    for name in ("evolution over random search", "the controller over random search"):
        assert name in text
    assert text.count("| evolution | ") == 4  # three seeds and their mean

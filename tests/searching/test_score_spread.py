"""The script that says by how much chance moves the scores of a search."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ideal_search import state_of
from scripts import load

from pocketvision.data.images import scan
from pocketvision.fitting.reporter import Silent
from pocketvision.searching.search_run import Images

score_spread = load("score_spread", "scripts")


def test_every_pair_of_the_best_has_a_spread(
    searched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spreads, images = score_spread.spreads_in(searched, 4)
    state = state_of(searched)
    samples = scan(state.config.data, seed=state.config.seed)
    assert images == len(Images.of(samples, state.space, state.config.seed, Silent()).held_out)
    assert len(spreads) == 6
    assert all(0 < spread < 1 for spread in spreads)
    monkeypatch.setattr(sys, "argv", ["score_spread.py", str(searched), "--members", "4"])
    score_spread.main()
    assert capsys.readouterr().out.startswith(f"6 pairs of the best members on {images} images: ")

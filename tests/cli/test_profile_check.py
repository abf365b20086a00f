"""What `profile` says of the sums where there is little to check them by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from brief_tables import brief_tables
from command_line import Run
from target_tables import small_networks, table_of, timed
from tiny_space import ONE_STAGE

from pocketvision.cli.devices import check_sentence
from pocketvision.measure.table import check_table

ONE_MEMBER = ONE_STAGE.replace("[3, 5, 7]", "[3]")


def test_space_of_one_member_says_that_no_correlation_is_known(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief_tables(monkeypatch, tmp_path / "cache", 3)
    (tmp_path / "alone.toml").write_text(ONE_MEMBER)
    out = tmp_path / "device.json"
    done = run("profile", "--space", str(tmp_path / "alone.toml"), "--out", str(out))
    assert done.code == 0
    assert "and 1 whole network on" in done.err
    said = " ".join(done.out.split())
    assert "Too few whole networks to check the sums by, 1: their error and their rank" in said
    assert "networks beside it (--models), would tell" in said
    assert out.is_file()


def test_equally_fast_networks_have_no_order_to_be_right_about() -> None:
    specs = small_networks()[:3]
    same = timed(specs[0]).latency
    wholes = tuple(replace(timed(spec), latency=same) for spec in specs)
    table = replace(table_of(specs), wholes=wholes)
    found = check_table(table)
    assert found.rank_correlation is None
    assert "rank correlation not known: too many are equally fast." in check_sentence(table, found)
    known = replace(found, rank_correlation=0.8)
    assert "rank correlation 0.800." in check_sentence(table, known)

"""`pocketvision search`, `shrink` and `profile` as a person meets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from brief_tables import brief_tables
from command_line import Run
from target_tables import small_networks, table_of, write_table
from tiny_space import ONE_STAGE

from pocketvision.fitting import pipeline
from pocketvision.fitting.config import FitConfig
from pocketvision.measure import local_table
from pocketvision.searching import search, searched_fit, shrink
from pocketvision.searching.search_config import SearchConfig
from pocketvision.searching.shrink_config import ShrinkConfig


@pytest.fixture(autouse=True)
def _briefly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    brief_tables(monkeypatch, tmp_path / "cache", 3)


@pytest.fixture
def space(tmp_path: Path) -> str:
    (tmp_path / "tiny.toml").write_text(ONE_STAGE)
    return str(tmp_path / "tiny.toml")


def test_profile_says_what_will_happen_and_how_good_the_sums_are(
    run: Run, space: str, tmp_path: Path
) -> None:
    out = tmp_path / "device.json"
    done = run("profile", "--space", space, "--out", str(out))
    assert done.code == 0
    assert "and 3 whole networks on onnxruntime int8, 1 thread" in done.err
    assert "Sums against 3 whole networks: median error" in done.out
    assert out.is_file()
    again = run("profile", "--space", space, "--out", str(out))
    assert again.code == 2
    assert "exists already; give another --out" in again.err


def test_bundle_says_what_to_do_with_it(run: Run, space: str, tmp_path: Path) -> None:
    done = run("profile", "--space", space, "--bundle", str(tmp_path / "bundle"))
    assert done.code == 0
    assert "On the device: python measure.py" in done.err
    assert (tmp_path / "bundle" / "measure.py").is_file()


@pytest.mark.parametrize("both", [False, True])
def test_profile_needs_one_place_to_write(run: Run, tmp_path: Path, both: bool) -> None:
    places = ("--out", str(tmp_path / "a"), "--bundle", str(tmp_path / "b")) if both else ()
    done = run("profile", *places)
    assert done.code == 2
    assert "give one of --out FILE, to time this machine, and --bundle FOLDER" in done.err


def test_interrupted_profile_says_how_to_go_on(
    run: Run, space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local_table, "measure_beside", interrupt)
    done = run("profile", "--space", space, "--out", str(tmp_path / "device.json"))
    assert done.code == 130
    assert "what was timed is kept. Run the same command again to go on" in done.err


def test_shrink_hands_its_words_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ShrinkConfig] = []

    def take(config: ShrinkConfig, out: Path, *rest: Any, **named: Any) -> None:
        asked.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(shrink, "run_shrink", take)
    words = ("--images", "photos", "--latency", "2ms", "--time", "30m", "--step", "0.02")
    done = run("shrink", "fitted", *words, "--out", str(tmp_path / "out"), "--no-flip")
    assert done.code == 130
    assert "Run the same command again to go on" in done.err
    (config,) = asked
    assert (config.source, config.images, config.latency_ms) == ("fitted", "photos", 2.0)
    assert (config.budget.time_s, config.step, config.augmentation.flip) == (1800.0, 0.02, 0.0)


def test_search_hands_its_words_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[SearchConfig] = []

    def take(config: SearchConfig, out: Path, *rest: Any, **named: Any) -> None:
        asked.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "run_search", take)
    words = ("--latency", "3ms", "--time", "2h", "--method", "rl", "--workers", "2", "--no-flip")
    out = ("--out", str(tmp_path / "out"))
    more = ("--resolution", "64", "--baselines", "none", "--multiple", "16")
    done = run("search", "photos", *words, *more, *out)
    assert done.code == 130
    (config,) = asked
    assert (config.data, config.latency_ms, config.budget.time_s) == ("photos", 3.0, 7200.0)
    assert (config.method, config.workers, config.baselines) == ("rl", 2, "none")
    assert config.multiple == 16
    assert (config.resolutions, config.augmentation.flip) == ((64,), 0.0)
    assert run("search", "photos", "--latency", "3ms", "--workers", "ray", *out).code == 130
    assert asked[-1].workers == "ray"
    done = run("search", "photos", "--latency", "3ms", "--workers", "many", *out)
    assert done.code == 2
    assert "workers='many' is not allowed; expected a number such as 2, or ray" in done.err


def test_search_by_work_has_no_use_for_scores(run: Run, tmp_path: Path) -> None:
    words = ("--latency", "3ms", "--method", "work", "--evaluations", "20")
    done = run("search", str(tmp_path), *words, "--out", str(tmp_path / "out"))
    assert done.code == 2
    assert "--method work trains no supernet and scores nothing; leave --evaluations" in done.err
    assert "Traceback" not in done.err


def test_fit_searches_where_it_is_asked_to(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def take(config: object, *rest: Any, **named: Any) -> None:
        asked.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(searched_fit, "run_search", take)
    monkeypatch.setattr(pipeline, "run_fit", take)
    words = ("photos", "--latency", "3ms", "--out", str(tmp_path / "out"))
    for choice in ("on", "off", "auto"):
        assert run("fit", *words, "--search", choice).code == 130
    assert [type(config) for config in asked] == [SearchConfig, FitConfig, FitConfig]
    done = run("fit", *words, "--search", "on", "--models", "mobilenet_v2")
    assert done.code == 2
    assert "--search does not take --models" in done.err


def test_profile_takes_networks_in_place_of_a_space(run: Run, tmp_path: Path) -> None:
    words = ("--models", "mobilenet_v1", "--resolution", "32", "--precision", "f32")
    done = run("profile", *words, "--out", str(tmp_path / "device.json"))
    assert done.code == 0
    assert "blocks of mobilenet_v1 and 3 whole networks on onnxruntime f32" in done.err
    assert run("profile", "--models", "mobilenet_v1", "--out", str(tmp_path / "b.json")).code == 2


def test_profile_times_detectors_and_their_blocks(run: Run, tmp_path: Path) -> None:
    words = ("--task", "detect", "--models", "mobilenetv3_small_050", "--resolution", "96")
    out = str(tmp_path / "device.json")
    done = run("profile", *words, "--classes", "2", "--precision", "f32", "--out", out)
    assert done.code == 0
    assert "Too few whole networks to check the sums by, 1" in done.out
    done = run("profile", *words, "--out", str(tmp_path / "b.json"))
    assert done.code == 2
    assert "needs the number of classes that the images will have" in done.err


@pytest.mark.parametrize(
    ("words", "threads"), [((), 4), (("--threads", "4"), 4), (("--threads", "2"), 2)]
)
def test_fit_and_shrink_hand_the_target_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], threads: int
) -> None:
    asked: list[FitConfig | ShrinkConfig] = []

    def take(config: FitConfig | ShrinkConfig, *rest: Any, **named: Any) -> None:
        asked.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(shrink, "run_shrink", take)
    monkeypatch.setattr(pipeline, "run_fit", take)
    table = write_table(tmp_path / "table.json", table_of(small_networks(), threads=4))
    words = ("--target", table, "--latency", "2ms", "--out", str(tmp_path / "out"), *words)
    assert run("fit", "photos", *words).code == 130
    assert run("shrink", "fitted", "--images", "photos", *words).code == 130
    assert [(config.target, config.threads) for config in asked] == [(table, threads)] * 2


def test_target_that_is_no_table_is_a_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text("no table")
    words = ("--target", str(tmp_path / "table.json"), "--out", str(tmp_path / "out"))
    for verb in (("fit", "photos"), ("shrink", "fitted", "--images", "photos")):
        done = run(*verb, *words, "--latency", "2ms")
        assert done.code == 2
        assert "table.json is not a valid DeviceTable" in done.err
        assert "Traceback" not in done.err
    done = run("fit", "photos", *words, "--threads", "1")
    assert done.code == 2
    assert "is a table of latencies, and no latency is asked for; give --latency" in done.err
    done = run("fit", "cube.mat", "--task", "hyperspectral", *words)
    assert done.code == 2
    assert "table.json is not a valid DeviceTable" in done.err
    done = run("fit", "cube.mat", "--task", "hyperspectral", *words, "--threads", "1")
    assert done.code == 2
    assert "is a table of latencies, and no latency is asked for; give --latency" in done.err


def test_shrink_of_nothing_is_a_sentence(run: Run, tmp_path: Path) -> None:
    words = ("--images", str(tmp_path), "--latency", "2ms", "--out", str(tmp_path / "out"))
    done = run("shrink", str(tmp_path / "absent"), *words)
    assert done.code == 2
    assert "network.json" in done.err
    assert "Traceback" not in done.err

"""What a search refuses, before anything is done."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ideal_search import state_of
from small_runs import write_photos

from pocketvision.budget import Budget
from pocketvision.errors import ArtefactError, BudgetError, ConfigError, MissingExtraError
from pocketvision.fitting.artefact import Artefact
from pocketvision.models import registry
from pocketvision.models.spaces import find_space
from pocketvision.models.weights import save
from pocketvision.searching import search_start
from pocketvision.searching.search import run_search
from pocketvision.searching.search_config import SearchConfig
from pocketvision.searching.search_log import LOG, ScoreLog
from pocketvision.searching.search_plan import SCORING_SHARE, SUPERNET_SHARE, SearchPace, plan_of
from pocketvision.searching.search_rivals import Planner
from pocketvision.storage import to_json

pytestmark = pytest.mark.usefixtures("ideal")


def test_damaged_log_says_where(searched: Path, tmp_path: Path) -> None:
    (tmp_path / LOG).write_text('{"origin": "chance"}\n')
    with pytest.raises(ArtefactError, match=r"line 1 is not a valid LoggedScore.*Remove that file"):
        ScoreLog(tmp_path)


def test_finished_search_is_not_made_again(shipped: Artefact) -> None:
    config = state_of(shipped.folder).config
    with pytest.raises(ConfigError, match="exists and holds a finished run; nothing was changed"):
        run_search(config, shipped.folder)


def test_unknown_space_is_told_before_images_are_read(config: SearchConfig, tmp_path: Path) -> None:
    nowhere = replace(config, data=str(tmp_path / "nowhere"), space="v4")
    with pytest.raises(ConfigError, match="space='v4' is not known; expected one of v3_large"):
        run_search(nowhere, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_side_at_which_nothing_could_be_trained_is_refused_before_the_search(
    config: SearchConfig, tmp_path: Path
) -> None:
    message = r"tiny has the resolution 160, .* enlarge the images \(24 px\) .*--resolution 32\.$"
    with pytest.raises(ConfigError, match=message):
        run_search(replace(config, resolutions=(32, 160)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert config.space is not None
    large = replace(find_space(config.space), resolutions=(2048,))
    samples: Any = SimpleNamespace(shorter_side=900)
    with pytest.raises(ConfigError, match="resolution=2048 is out of range; expected 32 to 1024"):
        search_start._check_sides(large, samples)


def test_devices_that_cannot_be_are_refused_before_the_search(
    config: SearchConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="devices=1000 need at least 2000 training images"):
        run_search(replace(config, accelerator="cpu", devices=1000), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_latency_below_the_smallest_member_exits_3_and_names_the_nearest(
    config: SearchConfig, tmp_path: Path
) -> None:
    with pytest.raises(BudgetError, match=r"smallest member of tiny takes .* --latency [\d.]+ms"):
        run_search(replace(config, budget=Budget(latency_ms=20.0)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_time_too_short_for_one_generation_exits_3(config: SearchConfig) -> None:
    timed = replace(config, supernet_steps=None, evaluations=None, generation=16)
    slow = SearchPace(step_s=1, judging_s=1, per_epoch=7)
    with pytest.raises(BudgetError, match=r"one generation of 16 .* about 6m more, or for"):
        plan_of(timed, slow, arms=1, arm_s=60.0, finish_s=30.0)
    with pytest.raises(BudgetError, match=r"one generation of 16 .* about 17m more, or for"):
        plan_of(timed, slow, arms=3, arm_s=60.0, finish_s=30.0)
    few_steps = replace(timed, supernet_steps=2)
    with pytest.raises(BudgetError, match=r"and a search with one generation of 16 members needs"):
        plan_of(few_steps, slow, arms=1, arm_s=60.0, finish_s=30.0)
    quick = SearchPace(step_s=0.1, judging_s=0.1, per_epoch=7)
    ranking = replace(timed, least_epochs=5000)
    with pytest.raises(BudgetError, match=r"a search with 5000 epochs of the supernet and one gen"):
        plan_of(ranking, quick, arms=1, arm_s=3600.0, finish_s=60.0)
    plan = plan_of(timed, quick, arms=1, arm_s=3600.0, finish_s=60.0)
    assert plan.supernet_s <= SUPERNET_SHARE * 3540
    assert 2 * plan.evaluations * 0.1 <= SCORING_SHARE * 3540
    few = replace(timed, supernet_steps=3, evaluations=4)
    asked = plan_of(few, quick, arms=1, arm_s=3600.0, finish_s=60.0)
    assert (asked.supernet_steps, asked.evaluations, asked.generation) == (3, 4, 4)
    many = replace(timed, supernet_steps=100_000)
    with pytest.raises(
        BudgetError, match=r"--supernet-steps or --evaluations asked for: they take"
    ):
        plan_of(many, quick, arms=1, arm_s=3600.0, finish_s=60.0)


def test_other_images_and_other_options_are_refused(
    config: SearchConfig, searched: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(searched, out)
    with pytest.raises(ConfigError, match="an unfinished run with other options"):
        run_search(replace(config, seed=1), out)
    photos = write_photos(tmp_path / "photos", per_class=30)
    state = state_of(out)
    changed = replace(state, config=replace(config, data=str(photos)))
    path = out / "searching" / "search.json"
    path.write_text(to_json(changed))
    with pytest.raises(ConfigError, match="an unfinished search on other images than"):
        run_search(changed.config, out)
    path.write_text(json.dumps({"config": 1}))
    with pytest.raises(ConfigError, match="holds something else"):
        run_search(config, out)


def test_absent_ray_is_told_before_anything_is_done(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        MissingExtraError, match=r"needs ray.*pip install 'pocketvision\[cluster\]'"
    ):
        run_search(replace(config, workers="ray"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_absent_space_is_told_before_anything_is_measured(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Planner, "among", None)
    with pytest.raises(ConfigError, match=r"space='none.toml' cannot be read: No such file"):
        run_search(replace(config, space="none.toml"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=r"none\.pth.* does not exist"):
        run_search(replace(config, weights="none.pth"), tmp_path / "out")


def test_weights_of_no_member_are_refused(
    config: SearchConfig, fitted: Artefact, tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "nowhere")  # they are refused before images are read
    weights = replace(config, weights=str(fitted.folder), data=nowhere)
    by_work = replace(weights, method="work", supernet_steps=None, evaluations=None)
    message = r"weights=.* are of mobilenet_v1 .*: no member of tiny .* or another --space\."
    for asked in (weights, by_work):
        with pytest.raises(ConfigError, match=message):
            run_search(asked, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_space_that_has_the_network_of_the_weights_is_named(
    config: SearchConfig, tmp_path: Path
) -> None:
    save(registry.spec("mobilenet_v2", num_classes=2).build(seed=0), tmp_path / "weights")
    asked = replace(config, weights=str(tmp_path / "weights"))
    with pytest.raises(ConfigError, match=r"mobilenet_v2 x1 .*: no member of tiny .* --space v2\."):
        run_search(asked, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": Budget()}, "needs a budget of latency; give --latency"),
        ({"runtime": "tflite"}, "runtime='tflite' is unknown"),
        ({"precision": "int4"}, "precision='int4' is unknown"),
        ({"method": "grid"}, "method='grid' is unknown"),
        ({"objective": "size"}, "objective='size' is unknown"),
        ({"baselines": "some"}, "baselines='some' is unknown"),
        ({"members": 1}, "members=1 is out of range"),
        ({"generation": 1}, "generation=1 is out of range"),
        ({"evaluations": 0}, "evaluations=0 is out of range"),
        ({"supernet_steps": 0}, "supernet-steps=0 is out of range"),
        ({"workers": 0}, "workers=0 is out of range"),
        ({"exponent": 1.0}, "exponent=1.0 is out of range"),
        ({"resolutions": (16,)}, "resolution=16 is out of range"),
        ({"accelerator": "tpu"}, "accelerator='tpu' is unknown; expected one of"),
        ({"devices": 0}, "devices=0 is out of range"),
        ({"nodes": 0}, "nodes=0 is out of range"),
    ],
)
def test_config_refuses_what_is_not_allowed(
    config: SearchConfig, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(config, **change)

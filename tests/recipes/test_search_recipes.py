"""Search and NetAdapt compared with what needs neither: subsets, intervals, pages."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from brief_tables import brief_tables
from PIL import Image
from scripts import ROOT, load
from target_tables import table_of, timed, write_table
from tiny_space import TINY_SPACE

from pocketvision.errors import GateError
from pocketvision.fitting.target_table import open_target
from pocketvision.measure.count import count
from pocketvision.measure.latency import PLANNING
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.models.narrow import check_narrows, narrow
from pocketvision.models.networks import AnySpec
from pocketvision.models.weights import load_classifier, save
from pocketvision.models.width_groups import width_groups
from pocketvision.record.files import Prior
from pocketvision.record.timing import Latency
from pocketvision.runtimes.runtime import PLAIN_INT8
from pocketvision.searching.scaled_table import ScaledTable

SPEC = registry.spec("mobilenet_v3_small", resolution=64, num_classes=10)
CLASSES = ("blue", "green", "red")


paired = load("paired")
search = load("search_cifar10")
netadapt = load("netadapt_cifar10")
small_inputs = load("small_inputs_cifar10")
side_by_side = load("side_by_side")
uniform_shrinking = load("uniform_shrinking")


def latency(median_ms: float) -> Latency:
    return Latency(
        median_ms=median_ms,
        p95_ms=median_ms,
        low_ms=0.99 * median_ms,
        high_ms=1.01 * median_ms,
        runs=60,
        threads=1,
    )


def entry(right: Any, *, arm: str = "ours", ms: float = 1.0, val: float = 0.5) -> Any:
    return paired.Entry(
        arm=arm,
        network="a network",
        precision="f32",
        val_score=val,
        latency=latency(ms),
        seconds=60.0,
        right=paired.marks(np.asarray(right, bool)),
    )


def pair(ours: Any, rival: Any, *, seed: int = 0, ms: float = 1.0, rival_ms: float = 1.0) -> Any:
    return paired.Pair(
        seed=seed, ours=entry(ours, ms=ms), rival=entry(rival, arm="rival", ms=rival_ms)
    )


def trial(*entries: Any, seed: int = 0, test: str = "images", failed: Any = None) -> Any:
    return paired.Trial(seed=seed, test=test, entries=entries, failed=failed or {})


def answers(generator: np.random.Generator, n: int, gain: float) -> tuple[Any, Any]:
    """Rights of two networks that agree on most images; ours has `gain` more of the others."""
    draw = generator.random(n)
    both, ours = draw < 0.5, (draw >= 0.5) & (draw < 0.6 + gain)
    rival = (draw >= 0.6 + gain) & (draw < 0.7 + gain)
    return both | ours, both | rival


def test_entry_holds_what_is_right() -> None:
    one = entry([True, False, False])
    assert (one.right, one.rights.tolist()) == ("100", [True, False, False])


# The interval


def test_gain_is_the_difference_of_both_top1s() -> None:
    ours, rival = answers(np.random.default_rng(0), 1000, 0.05)
    found = paired.gain([pair(ours, rival)])
    assert found.points == pytest.approx(100 * (ours.mean() - rival.mean()))
    assert found.low < found.points < found.high


def test_gain_changes_its_sign_with_the_sides() -> None:
    ours, rival = answers(np.random.default_rng(0), 1000, 0.15)
    found, turned = (paired.gain([pair(*sides)]) for sides in ((ours, rival), (rival, ours)))
    assert found.low > 0 > turned.high
    assert turned.points == -found.points


def test_networks_that_never_differ_have_no_gain() -> None:
    ours, _ = answers(np.random.default_rng(0), 100, 0.0)
    assert paired.gain([pair(ours, ours)]) == paired.Gain(0, 0, 0)


def test_gain_is_the_same_every_time() -> None:
    one = pair(*answers(np.random.default_rng(0), 500, 0.02))
    assert paired.gain([one]) == paired.gain([one])


def test_images_are_resampled_for_all_seeds_alike() -> None:
    """The same answers three times are no more images, and the interval is as wide."""
    ours, rival = answers(np.random.default_rng(0), 500, 0.02)
    pairs = [pair(ours, rival, seed=seed) for seed in range(3)]
    one, three = paired.gain(pairs[:1]), paired.gain(pairs)
    assert (three.points, three.low, three.high) == pytest.approx((one.points, one.low, one.high))


@pytest.mark.parametrize("seeds", [1, 3])
def test_interval_covers_the_truth_as_often_as_it_says(seeds: int) -> None:
    generator, truth, covered = np.random.default_rng(1), 0.04, 0
    for _ in range(300):
        pairs = [pair(*answers(generator, 400, truth), seed=seed) for seed in range(seeds)]
        found = paired.gain(pairs)
        covered += found.low <= 100 * truth <= found.high
    assert 0.91 <= covered / 300 <= 0.985  # 0.95, four standard errors either way


# The verdict


@pytest.mark.parametrize(("found", "faster", "said"), [
    ((0.5, 0.1, 0.9), 1.0, "Ours is better than theirs"),
    ((0.5, 0.1, 0.9), 2.0, "Ours is better than theirs"),
    ((0.1, -0.2, 0.4), 1.3, "Ours is as accurate as theirs at 1.30 times less latency"),
    ((0.1, -1.1, 0.4), 1.3, "neither better than theirs nor as accurate at 1.3 times less"),
    ((0.1, -0.2, 0.4), 1.29, "neither better than theirs nor as accurate at 1.3 times less"),
    ((-0.5, -0.9, -0.1), 2.0, "Ours is worse than theirs"),
])  # fmt: skip
def test_verdict_follows_its_rule(
    found: tuple[float, ...], faster: float, said: str
) -> None:  # fmt: skip
    sentence = paired.verdict(paired.Gain(*found), faster, "Ours", "theirs")
    assert said in sentence
    assert f"{found[0]:+.2f} ({found[1]:+.2f} to {found[2]:+.2f}) points" in sentence


def test_speedup_is_the_geometric_mean() -> None:
    some = [1, 0]
    pairs = [pair(some, some, ms=1, rival_ms=4), pair(some, some, ms=1, rival_ms=1)]
    assert paired.speedup(pairs) == pytest.approx(2)


def test_outcome_gives_both_spreads() -> None:
    generator = np.random.default_rng(0)
    pairs = [pair(*answers(generator, 1000, 0.1), seed=seed) for seed in range(3)]
    trials = [trial(one.ours, one.rival, seed=one.seed) for one in pairs]
    text = "\n".join(paired.outcome(pairs, trials, "Ours", "theirs"))
    assert "**Ours is better than theirs**" in text
    assert "n = 1,000 test images, the same resample for all 3 seeds" in text
    assert "mean ± standard deviation" in text
    assert "Student's 95 % interval over seeds" in text


def test_nothing_is_claimed_where_an_arm_came_to_nothing() -> None:
    one = pair([1, 1], [0, 0])
    trials = [trial(one.ours, one.rival), trial(one.ours, seed=1, failed={"rival": "too slow"})]
    text = "\n".join(paired.outcome([one], trials, "Ours", "theirs"))
    assert "**Nothing is claimed**: in 1 of 2 seeds" in text
    rows = paired.arms_table(trials, [one])
    assert [row.split(" | ")[1] for row in rows[2:-1]] == ["ours", "rival (rival)", "ours", "rival"]
    assert paired.failures(trials, Path("/work")) == ["- Seed 1, rival: too slow", ""]


def test_seeds_with_other_test_images_are_refused() -> None:
    pairs = [pair([1, 1], [0, 0], seed=seed) for seed in (0, 1)]
    trials = [trial(p.ours, p.rival, seed=p.seed, test=str(p.seed)) for p in pairs]
    with pytest.raises(SystemExit, match="different test images"):
        paired.outcome(pairs, trials, "Ours", "theirs")


def test_rival_of_netadapt_is_chosen_by_val() -> None:
    width = entry([1, 1], arm="width", val=0.4)
    resolution = entry([0, 0], arm="resolution", val=0.6)
    ours = entry([1, 0], arm="netadapt")
    (found,) = netadapt.pairs_of([trial(ours, width, resolution)])
    assert found.rival == resolution
    assert netadapt.pairs_of([trial(width, resolution)]) == []


def test_limits_of_netadapt_are_those_of_a_target(tmp_path: Path) -> None:
    """Its upper end, which the budget of `shrink` is held against."""
    path = tmp_path / "table.json"
    write_table(path, table_of([SPEC]))
    device = open_target(str(path))
    assert device is not None
    whole_ms = netadapt.latency_by(str(path))
    assert whole_ms(SPEC) == device.timed_whole(SPEC).high_ms > device.latency_ms(SPEC)
    assert "by sums over table.json, a table" in paired.about_target(str(path))[1]
    assert paired.about_target(None) == []


def test_rival_of_a_search_is_the_one_that_is_best_on_val() -> None:
    """Though it take longer: ours is not to win by being slower."""
    ours, first = entry([1, 0], arm="search"), entry([1, 1], arm="a:1:32", val=0.4)
    second = entry([0, 0], arm="b:1:32", val=0.6, ms=2.0)
    (found,) = search.pairs_of([trial(ours, first, second)])
    assert found.rival == second
    assert search.pairs_of([trial(first, second)]) == []


# Side by side


@pytest.mark.parametrize("cores", [1, 2])
def test_all_pieces_are_made(cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))  # as for a script that runs there
    threads = os.environ.get(side_by_side.THREADS)
    pieces = [partial(os.mkdir, tmp_path / name) for name in "abc"]
    side_by_side.on_cores(cores, pieces)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    with pytest.raises(FileExistsError):
        side_by_side.on_cores(cores, pieces)
    assert os.environ.get(side_by_side.THREADS) == threads


# Images and settings


def write_images(folder: Path, train: int, test: int) -> Path:
    """Pictures of three colours, all different, in train/ and test/."""
    generator = np.random.default_rng(0)
    for split, each in (("train", train), ("test", test)):
        for channel, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for number in range(each):
                pixels = generator.integers(0, 120, (32, 32, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(folder / split / name / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "colours", train=40, test=20)


def asked(data: Path, work: Path) -> Any:
    return paired.PairedOptions(
        data=data, work=work, page=None, minutes=20, images=30, seeds=(0, 1), epochs=None
    )


def names_in(folder: Path) -> dict[str, set[str]]:
    return {
        split: {path.relative_to(folder).as_posix() for path in (folder / split).rglob("*.png")}
        for split in ("train", "test")
    }


def test_subset_is_balanced_and_has_all_test_images(images: Path, tmp_path: Path) -> None:
    found = names_in(paired.subset(asked(images, tmp_path), 0))
    counts = Counter(name.split("/")[1] for name in found["train"])
    assert counts == dict.fromkeys(CLASSES, 10)
    assert found["train"] < names_in(images)["train"]
    assert found["test"] == names_in(images)["test"]


def test_subset_depends_on_its_seed_alone(images: Path, tmp_path: Path) -> None:
    drawn = [set(paired.drawn(images, 30, seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_subset_is_not_made_again(images: Path, tmp_path: Path) -> None:
    folder = paired.subset(asked(images, tmp_path), 0)
    (folder / "mark").touch()
    assert paired.subset(asked(images, tmp_path), 0) == folder
    assert (folder / "mark").exists()


def test_too_many_images_are_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="blue has 40 training images, and 41 are asked for"):
        paired.subset(replace(asked(images, tmp_path), images=123), 0)


def test_work_folder_is_of_one_setting_and_takes_more_seeds(tmp_path: Path) -> None:
    options = asked(tmp_path, tmp_path / "work")
    paired.check_settings(options)
    paired.check_settings(replace(options, seeds=(0, 1, 2), page=tmp_path / "page.md"))
    with pytest.raises(SystemExit, match="holds runs with other options"):
        paired.check_settings(replace(options, minutes=10))


def test_command_names_what_was_asked_and_no_folder_of_the_machine(tmp_path: Path) -> None:
    assert paired.command("search_cifar10", asked(tmp_path, tmp_path)) == (
        "python recipes/search_cifar10.py CIFAR10 --work WORK --minutes 20 --images 30 "
        "--seeds 0 1 --page recipes/search_cifar10.md"
    )


def test_command_names_the_page_that_is_written(tmp_path: Path) -> None:
    options = replace(asked(tmp_path, tmp_path), page=tmp_path / "tuned.md")
    assert paired.command("search_cifar10", options).endswith(" --page recipes/tuned.md")


def test_rivals_of_the_same_name_begin_with_the_weights_of_the_search(tmp_path: Path) -> None:
    """Narrowed to their multiplier; others from scratch."""
    whole = registry.spec("mobilenet_v2", num_classes=5).build(seed=3)
    save(whole, tmp_path / "weights")
    path, usual = tmp_path / "weights" / "network.safetensors", asked(tmp_path, tmp_path)
    plain = search.Options(
        **{name: getattr(usual, name) for name in usual.__slots__},
        latency="1ms",
        resolution=64,
        method="work",
        rivals=("mobilenet_v2:0.5:64", "mobilenet_v3_small:1:64"),
    )
    options = replace(plain, weights=str(path))
    assert search.search_config(options, 0, tmp_path).weights == str(path)
    ours, other = (search.rival_config(options, 0, tmp_path, one) for one in options.rivals)
    assert other.weights is None
    assert (ours.models, ours.widths, ours.resolutions) == (("mobilenet_v2",), (0.5,), (64,))
    found, _ = load_classifier(Path(ours.weights))
    half = narrow(whole, registry.spec("mobilenet_v2", width=0.5, num_classes=5))
    assert all(map(torch.equal, found.state_dict().values(), half.state_dict().values()))
    assert search.rival_config(plain, 0, tmp_path, options.rivals[0]).weights is None
    assert search.about_weights(plain) == []
    assert "weights in network.safetensors" in search.about_weights(options)[1]
    assert "--weights network.safetensors " in paired.command("search_cifar10", options)


def test_page_is_written_or_printed(tmp_path: Path, capsys: Any) -> None:
    paired.publish(["# Title", ""], None)
    paired.publish(["# Title"], tmp_path / "pages" / "page.md")
    assert capsys.readouterr().out == "# Title\n\n"
    assert (tmp_path / "pages" / "page.md").read_text() == "# Title\n"


# Attempts


def test_page_on_small_inputs_says_what_each_guide_would_choose(tmp_path: Path) -> None:
    def trained(network: str, macs: int, prior: float, top1: float) -> Any:
        return small_inputs.Trained(
            network=network,
            latency=latency(0.2),
            macs=macs,
            prior=Prior(top1=prior, source="extrapolated"),
            epochs=3,
            seconds=60.0,
            top1=top1,
            n=100,
        )

    found = [
        trained("famous", 10**6, 0.9, 0.4),
        trained("middling", 15 * 10**5, 0.5, 0.5),
        trained("busy", 2 * 10**6, 0.1, 0.6),
    ]
    asked = small_inputs.Options(
        data=tmp_path,
        work=tmp_path,
        page=None,
        minutes=2.0,
        images=30,
        seeds=(0,),
        epochs=None,
        latency="0.25ms",
    )
    text = "\n".join(small_inputs.page(found, asked))
    assert "is -1.00 for the extrapolated accuracy, and +1.00 for" in text
    assert "would choose famous (40.0%), the second busy (60.0%)." in text
    assert text.index("| busy |") < text.index("| famous |")
    assert "is not known for the extrapolated accuracy" in "\n".join(
        small_inputs.page(found[::2], asked)
    )


def test_machine_that_is_too_noisy_ends_the_script(tmp_path: Path) -> None:
    def make() -> None:
        raise GateError("The machine is too noisy")

    with pytest.raises(GateError, match="too noisy"):
        paired.attempt(tmp_path / "out", make)


# Uniform shrinking


def work_ms(spec: ArchSpec) -> float:
    """A machine whose latency is its work."""
    return count(spec).macs / 1e6


def test_scaled_widths_are_multiples_of_8_near_the_factor() -> None:
    found = {group.name: group.width for group in width_groups(uniform_shrinking.scaled(SPEC, 0.6))}
    for group in width_groups(SPEC):
        width = found[group.name]
        assert width % 8 == 0 or width == group.width
        assert abs(width - 0.6 * group.width) <= 4 or width == min(8, group.width)


def test_scaled_network_narrows_the_old_one() -> None:
    check_narrows(SPEC, uniform_shrinking.scaled(SPEC, 0.5))


def test_factor_one_changes_nothing() -> None:
    assert uniform_shrinking.scaled(SPEC, 1.0) == SPEC


@pytest.mark.parametrize(
    "share", [0.6, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.9, 0.3))]
)
def test_uniform_widths_are_the_widest_within_the_latency(share: float) -> None:
    limit_ms = share * work_ms(SPEC)

    def within(spec: ArchSpec) -> bool:
        return work_ms(spec) <= limit_ms

    assert within(uniform_shrinking.uniform_widths(SPEC, within))
    factors = uniform_shrinking.FACTORS
    found = uniform_shrinking.first_within(
        factors, lambda factor: within(uniform_shrinking.scaled(SPEC, factor))
    )
    assert uniform_shrinking.uniform_widths(SPEC, within) == uniform_shrinking.scaled(SPEC, found)
    assert not within(uniform_shrinking.scaled(SPEC, factors[factors.index(found) - 1]))


def test_resolution_is_the_largest_within_the_latency() -> None:
    limit_ms = work_ms(SPEC.at(48))
    found = uniform_shrinking.lower_resolution(SPEC, lambda spec: work_ms(spec) <= limit_ms)
    assert found == SPEC.at(48)


def test_latency_out_of_reach_has_no_form() -> None:
    assert uniform_shrinking.uniform_widths(SPEC, lambda spec: False) is None
    assert uniform_shrinking.lower_resolution(SPEC, lambda spec: False) is None
    assert uniform_shrinking.first_within([], lambda choice: True) is None


def test_choice_was_itself_within() -> None:
    """Noise breaks the order; what is returned was still found to be within."""
    generator = np.random.default_rng(0)
    for _ in range(50):
        within = generator.random(20) < 0.5
        found = uniform_shrinking.first_within(range(20), lambda k, within=within: bool(within[k]))
        assert found is None or within[found]


# End to end


def run(recipe: ModuleType, words: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [recipe.__name__, *map(str, words)])
    recipe.main()


def forbid(monkeypatch: pytest.MonkeyPatch, recipe: ModuleType, *names: str) -> None:
    """From now on the work of a recipe fails the test."""

    def fail(*_: object, **__: object) -> None:
        pytest.fail("a finished run was made again")

    for name in names:
        monkeypatch.setattr(recipe, name, fail)


class TableOfWork(ScaledTable):
    """Whole networks are timed; blocks are not, but counted."""

    def ensure(self, specs: Iterable[AnySpec]) -> None:
        pass

    def latency_ms(self, spec: AnySpec) -> float:
        return self.scale * count(spec).macs

    def meet(self, spec: AnySpec, latency: Latency) -> None:
        self.scale = latency.median_ms / count(spec).macs


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few candidates, of 32 px; no blocks timed, files briefly; INT8 without its search."""
    for module in ("searching.search_rivals", "fitting.planning"):
        monkeypatch.setattr(f"pocketvision.{module}.MAX_CANDIDATES", 2)
    for module in ("search_start", "shrink_start", "fastest"):
        monkeypatch.setattr(f"pocketvision.searching.{module}.ScaledTable", TableOfWork)
    first = "pocketvision.searching.fastest.best_in_turns"
    monkeypatch.setattr(first, lambda spec, offers, threads: offers[0])
    monkeypatch.setattr("pocketvision.fitting.candidates.RESOLUTIONS", (32,))
    monkeypatch.setattr("pocketvision.compress.ladder.Int8Config", lambda: PLAIN_INT8)
    monkeypatch.setattr(paired, "FINAL", PLANNING)


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(("method", "cells"), [
    (("--supernet-steps", 4, "--evaluations", 4), ["4", "4, ", "4, "]),
    (("--method", "work"), ["2", "2", "0.0"]),
])  # fmt: skip
def test_search_end_to_end_and_again(
    method: tuple[object, ...],
    cells: list[str],
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space, page = tmp_path / "tiny.toml", tmp_path / "page.md"
    space.write_text(TINY_SPACE)
    words: list[object] = [
        *(images, "--work", tmp_path / "runs", "--page", page, "--minutes", 0, "--images", 90),
        *("--seeds", 0, "--epochs", 2, "--latency", "50ms", "--space", space),
        *(*method, "--resolution", 32),
        *("--rivals", "mobilenet_v1:0.25:32", "mobilenet_v3_small:0.35:40"),
    ]
    run(search, words, monkeypatch)
    first = page.read_text()
    assert "# A search against multipliers" in first
    rows = [line.split(" | ") for line in first.splitlines() if line.startswith("| 0 | ")]
    arms = [row[1].removesuffix(" (rival)") for row in rows[:3]]
    assert arms == ["search", "mobilenet_v1:0.25:32", "mobilenet_v3_small:0.35:40"]
    assert first.count("(rival)") == 1
    assert [row[1] for row in rows[3:]] == [
        "tiny @32",
        "mobilenet_v1 x0.25 @32",
        "mobilenet_v3_small x0.35 @40",
    ]
    assert [cell[:3] for cell in rows[3][2:5]] == cells  # steps and scores of two ways, or timed
    assert "torch " in first.splitlines()[-1]
    forbid(monkeypatch, search, "open_search", "run_search", "run_fit", "trial_of")
    run(search, words, monkeypatch)
    assert page.read_text().splitlines()[:-1] == first.splitlines()[:-1]


@pytest.mark.slow
@pytest.mark.usefixtures("brief")
def test_netadapt_end_to_end_and_again(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief_tables(monkeypatch, tmp_path / "cache", 3)
    by_work = "pocketvision.measure.local_table.LocalTable._latencies"
    monkeypatch.setattr(by_work, lambda _, specs, protocol: [timed(s).latency for s in specs])
    page = tmp_path / "page.md"
    words = [
        *(images, "--work", tmp_path / "runs", "--page", page, "--minutes", 0, "--images", 90),
        *("--seeds", 0, "--epochs", 2, "--share", 0.9, "--resolution", 40),
        *("--start-epochs", 2, "--step", 0.1, "--brief-steps", 1),
    ]
    run(netadapt, words, monkeypatch)
    first = page.read_text()
    assert "# NetAdapt against uniform shrinking" in first
    arms = [line.split(" | ")[1] for line in first.splitlines() if line.startswith("| 0 | ")]
    assert [arm.removesuffix(" (rival)") for arm in arms[:4]] == [
        *("start", "netadapt", "width", "resolution"),
    ]  # fmt: skip
    forbid(monkeypatch, netadapt, "run_fit", "run_shrink", "trial_of")
    run(netadapt, words, monkeypatch)
    assert page.read_text().splitlines()[:-1] == first.splitlines()[:-1]

"""Networks side by side: whose figures they are, and that all are timed against each other."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from pocketvision.errors import ConfigError, DataError
from pocketvision.fitting import compare as module
from pocketvision.fitting.compare import check_page, compare, write_page
from pocketvision.measure import conditions
from pocketvision.measure.latency import LatencyProtocol, Run
from pocketvision.progress import Advance
from pocketvision.record.timing import Latency
from pocketvision.report.side_by_side import SideBySide
from pocketvision.storage import from_json, to_json


def test_figures_are_the_published_and_the_counted_ones() -> None:
    found = compare(["mobilenet_v3_large", "mobilenet_v2"])
    large, v2 = found.networks
    assert (large.network, large.macs, large.parameters) == (
        "mobilenet_v3_large x1 @224",
        216_589_760,
        5_483_032,
    )
    assert (large.published.top1, large.published.source) == (0.752, "published")
    assert (v2.name, v2.width, v2.resolution) == ("mobilenet_v2", 1.0, 224)
    assert (v2.peak_activation_bytes, v2.published.top1) == (6_021_120, 0.718)
    assert found.machine is None
    assert large.files == v2.files == ()


def test_every_name_meets_every_width_and_resolution_once() -> None:
    found = compare(
        ["mobilenet_v2", "mobilenet_v1", "MobileNetV2"], widths=(0.5, 1.0), resolutions=(96, 160)
    )
    assert [side.network for side in found.networks] == [
        "mobilenet_v2 x0.5 @96",
        "mobilenet_v2 x0.5 @160",
        "mobilenet_v2 x1 @96",
        "mobilenet_v2 x1 @160",
        "mobilenet_v1 x0.5 @96",
        "mobilenet_v1 x0.5 @160",
        "mobilenet_v1 x1 @96",
        "mobilenet_v1 x1 @160",
    ]


def test_other_spellings_bring_their_width() -> None:
    found = compare(["mobilenetv2_035", "mobilenetv2_100", "mobilenet_v2"])
    assert [side.network for side in found.networks] == [
        "mobilenet_v2 x0.35 @224",
        "mobilenet_v2 x1 @224",
    ]
    assert found.networks[0].published.top1 == 0.603


def test_a_comparison_survives_json() -> None:
    found = compare(["mobilenet_v2"])
    assert from_json(SideBySide, to_json(found), source="text") == found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": []}, "there is no network to compare; give at least one name"),
        ({"names": ["mobilenet_v22"]}, "'mobilenet_v22' is unknown.*Did you mean 'mobilenet_v2'"),
        ({"widths": [0.0]}, "width=0.0 is out of range"),
        ({"resolutions": [8]}, "resolution=8 is not allowed"),
        ({"threads": 0}, "threads=0 is out of range"),
        ({"batch": 0}, "batch=0 is out of range; expected 1 to 1024"),
        ({"precisions": ["int8"]}, "say what is timed; ask for the latency too"),
        ({"runtimes": ["openvino"]}, "say what is timed; ask for the latency too"),
        ({"latency": True, "runtimes": ["onnx"]}, "runtime='onnx' is unknown"),
        ({"latency": True, "precisions": ["int4"]}, "precision='int4' is unknown"),
        (
            {"latency": True, "precisions": ["bf16"]},
            r"precision=\['bf16'\] is not offered here; expected \['f32', 'int8', 'w8'\]",
        ),
    ],
)
def test_what_cannot_be_compared_is_said_at_once(options: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"names": ["mobilenet_v2"]} | options
    with pytest.raises(ConfigError, match=message):
        compare(**arguments)  # type: ignore[arg-type]


class Told:
    """Remembers the sentences and the titles of the progress."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.titles: list[str] = []

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)

    @contextlib.contextmanager
    def progress(self, title: str) -> Iterator[Advance]:
        self.titles.append(title)
        yield lambda done, total, note: None


def test_all_files_are_timed_against_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """One image and batches, all sessions in one call each; the figures reach their files."""
    turns: list[tuple[int, list[tuple[int, ...]]]] = []

    def measured(
        sessions: Mapping[str, Run], protocol: LatencyProtocol, threads: int, **options: object
    ) -> dict[str, Latency]:
        batch = options["batch"]
        assert isinstance(batch, int)
        turns.append((batch, [np.asarray(run()).shape for run in sessions.values()]))
        return {
            name: Latency(
                median_ms=batch * (1.0 + number),
                p95_ms=9.0,
                low_ms=0.5,
                high_ms=9.0,
                runs=1,
                threads=threads,
                batch=batch,
            )
            for number, name in enumerate(sessions)
        }

    monkeypatch.setattr(module, "measure_latency", measured)
    told = Told()
    found = compare(
        ["mobilenet_v1"],
        widths=(0.25,),
        resolutions=(32, 64),
        latency=True,
        precisions=["f32"],
        batch=3,
        reporter=told,
    )
    assert turns == [(1, [(1, 1000)] * 2), (3, [(3, 1000)] * 2)]
    assert told.sentences == [
        "Will export 2 untrained networks and time 2 files in turns, 1 image and 3 images at a "
        "time: about 9 s per network, 18 s in all."
    ]
    assert told.titles == ["Writing files", "Timing 1 image", "Timing 3 images"]
    files = [file for side in found.networks for file in side.files]
    assert [(file.runtime, file.precision) for file in files] == [("onnxruntime", "f32")] * 2
    assert [file.latency.median_ms for file in files] == [1, 2]
    assert [file.images_per_s for file in files] == [1000, 500]
    assert all(file.size_bytes > 4 * found.networks[0].parameters for file in files)
    assert found.machine is not None
    assert from_json(SideBySide, to_json(found), source="text") == found


def test_figures_taken_while_threads_had_to_wait_are_noisy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quiet = Latency(median_ms=1, p95_ms=1, low_ms=1, high_ms=1, runs=9, threads=1)
    same = lambda runs, *_, **__: dict.fromkeys(runs, quiet)  # noqa: E731
    monkeypatch.setattr(module, "measure_latency", same)
    monkeypatch.setattr(conditions, "_shares", lambda *_: (0.0, 1.0))
    options = {"widths": (0.25,), "resolutions": (32,), "precisions": ["f32"]}
    found = compare(["mobilenet_v1"], latency=True, **options)  # type: ignore[arg-type]
    (file,) = found.networks[0].files
    for latency in (file.latency, file.batched):
        assert latency.noise.startswith("its threads had to wait: ")


def test_a_page_is_written_once(tmp_path: Path) -> None:
    page = tmp_path / "deep" / "comparison.html"
    found = compare(["mobilenet_v2", "mobilenet_v1"])
    write_page(found, page)
    text = page.read_text()
    assert "mobilenet_v2 x1 @224" in text
    with pytest.raises(DataError, match=r"comparison\.html' exists; give a file that does not"):
        write_page(found, page)
    assert page.read_text() == text


def test_a_page_has_the_ending_of_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'table.txt' is no page; .* ends in .html"):
        check_page(Path("table.txt"))


@pytest.mark.slow
def test_a_timed_comparison_runs() -> None:
    found = compare(["mobilenet_v2", "shufflenet_v2"], resolutions=(64,), latency=True, batch=2)
    for side in found.networks:
        f32, int8 = side.files
        assert 0 < f32.latency.low_ms <= f32.latency.median_ms <= f32.latency.high_ms
        assert f32.images_per_s == 2000 / f32.batched.median_ms
        assert f32.size_bytes > int8.size_bytes
    assert json.loads(to_json(found))["machine"]["cpu"]

"""`models`, `describe` and `compare` as a person meets them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Answer, Run

from pocketvision.cli import display
from pocketvision.fitting import compare
from pocketvision.measure.device import machine
from pocketvision.models import registry
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.report.side_by_side import SideBySide, TimedFile


@pytest.fixture
def ask(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run`, on a wide terminal."""
    monkeypatch.setattr(display.out, "_width", 200)
    return run


def lines(answer: Answer) -> list[str]:
    """Lines with single spaces."""
    assert answer.code == 0
    return [" ".join(line.split()) for line in answer.out.splitlines()]


def test_models_shows_accuracy_place_and_spelling(ask: Run) -> None:
    found = lines(ask("models"))
    assert sum(line.split(" ")[0] in registry.MODELS for line in found) == len(registry.MODELS)
    v2 = next(line for line in found if line.startswith("mobilenet_v2 "))
    assert v2 == "mobilenet_v2 71.8% x1 @224 yes 0.35, 0.5, 0.75, 1.0, 1.3, 1.4 mobilenetv2_100"
    full = next(line for line in found if line.startswith("mobilenet_v1_full "))
    assert "71.7% x1 @224 asked" in full


@pytest.mark.parametrize("alias", ["seresnet50", "mobilenetv3_small_050", "MobileNetV2-140"])
def test_models_knows_other_spellings(ask: Run, alias: str) -> None:
    assert alias in ask("models", alias).out


def test_models_without_a_usual_point_shows_its_first(
    ask: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pocketvision.models import published

    points = (published.Point(0.5, 160, 76_524_800, 0.591),)
    monkeypatch.setitem(published.PUBLISHED, "mobilenet_v1", points)
    assert any("mobilenet_v1 59.1% x0.5 @160" in line for line in lines(ask("models", "*v1")))


def test_describe_prints_the_papers_rows(ask: Run) -> None:
    found = lines(ask("describe", "mobilenet_v2"))
    assert "7-10 28x28x32 inverted residual t=6, k=3, relu6 64 4 2 38,497,536 183,872" in found
    assert "head 7x7x1280 classifier dropout=0.2 1000 1,280,000 1,281,000" in found


def test_describe_prints_shares_and_totals(ask: Run) -> None:
    found = lines(ask("describe", "mobilenet_v1"))
    assert "1x1 13 94.86% 74.47% 74.59%" in found
    assert "fully connected 1 0.18% 24.22% 24.33%" in found
    assert any(line.startswith("Forward/backward pass size 40.35 MB") for line in found)
    assert any(line.startswith("Estimated total size 57.88 MB") for line in found)
    assert not any(line.startswith(("Layers", "M(G)")) for line in found)


def test_describe_layers_prints_every_convolution(ask: Run) -> None:
    found = lines(ask("describe", "mobilenet_v1", "--layers"))
    layers = found[found.index("Layers") + 2 :]
    assert len(layers) == 28
    assert layers[1] == "1 depthwise 112x112x32 112x112x32 3x3 32 3,612,672 352"


def test_describe_memory_names_the_floor_and_the_two_passes(ask: Run) -> None:
    found = lines(ask("describe", "mobilenet_v2", "--memory"))
    (peak,) = (line for line in found if line.startswith("M(G)"))
    assert peak.startswith("M(G) 3,562 ")
    assert peak.endswith(" 1,355")
    assert found[-1].endswith("No block needs a second pass.")
    gated = lines(ask("describe", "mobilenet_v2", "--attention", "se", "--memory"))
    assert "two passes over block 1, block 2" in gated[-1]


def test_describe_takes_the_attention_and_the_width_of_a_name(ask: Run) -> None:
    assert "SE 2 sigmoid bias=no" in ask("describe", "mobilenet_v2", "--attention", "se").out
    assert "mobilenet_v2 x0.35 @224" in ask("describe", "mobilenetv2_035").out
    wrong = ask("describe", "mobilenet_v2", "--attention", "sse")
    assert wrong.code == 2
    assert "attention='sse' is unknown" in wrong.err


def test_describe_json_holds_what_is_shown_and_the_specification(ask: Run) -> None:
    words = ("describe", "mobilenet_v2", "--json", "--layers", "--memory")
    found = json.loads(ask(*words).out)
    assert found["totals"]["macs"] == 300_774_272
    assert sum(row["n"] for row in found["rows"]) == len(found["spec"]["blocks"]) + 1
    assert len(found["layers"]) == 53
    assert found["memory"]["bytes_per_element"] == 2
    assert found["shares"][0]["type"] == "1x1"
    plain = json.loads(ask("describe", "mobilenet_v2", "--json").out)
    assert not {"layers", "memory"} & set(plain)


@pytest.mark.parametrize("name", registry.list_models())
def test_describe_prints_every_network(ask: Run, name: str) -> None:
    answer = ask("describe", name, "--layers", "--memory", "--resolution", "64")
    assert answer.code == 0
    assert f"{name} x1 @64" in answer.out


def test_compare_prints_one_line_per_network(ask: Run) -> None:
    found = lines(ask("compare", "mobilenet_v1", "mobilenetv2_035", "mobilenet_v1"))
    assert found[1:3] == [
        "mobilenet_v1 x1 @224 70.9% published 568,740,352 4,231,976 4.82 MB",
        "mobilenet_v2 x0.35 @224 60.3% published 59,285,808 1,677,128 3.01 MB",
    ]
    assert len(found) == 4


def test_compare_prints_json(ask: Run) -> None:
    answer = ask("compare", "mobilenet_v1", "--resolution", 128, "--width", 0.5, "--json")
    (side,) = json.loads(answer.out)["networks"]
    assert (side["network"], side["published"]["top1"]) == ("mobilenet_v1 x0.5 @128", 0.563)


def test_compare_writes_a_page_once(ask: Run, tmp_path: Path) -> None:
    page = tmp_path / "comparison.html"
    words = ("compare", "mobilenet_v1", "mobilenet_v2", "--out", page)
    answer = ask(*words)
    assert answer.code == 0
    assert "Wrote" in answer.err
    assert "mobilenet_v2 x1 @224" in page.read_text()
    again = ask(*words)
    assert again.code == 2
    assert "exists; give a file that does not, or remove it" in again.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mobilenet_v22"], "Did you mean 'mobilenet_v2'?"),
        ([], "Missing argument"),
        (["mobilenet_v2", "--batch", "0"], "batch=0 is out of range"),
        (["mobilenet_v2", "--runtime", "openvino"], "ask for the latency too"),
        (["mobilenet_v2", "--out", "page.txt"], "'page.txt' is no page"),
    ],
)
def test_compare_answers_mistakes_in_a_sentence(ask: Run, words: list[str], message: str) -> None:
    answer = ask("compare", *words)
    assert answer.code == 2
    assert message in answer.err


def test_compare_shows_latency_size_and_throughput(
    ask: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (side,) = compare.compare(["mobilenet_v1"]).networks
    files = (timed_file("f32", 5.47), timed_file("int8", 3.5, noise="stop other programs"))
    found = SideBySide(
        networks=(replace(side, files=files),), threads=2, batch=4, machine=machine()
    )
    asked: dict[str, object] = {}

    def answered(names: list[str], **options: object) -> SideBySide:
        asked.update(options, names=names)
        return found

    monkeypatch.setattr(compare, "compare", answered)
    words = ("--latency", "--precision", "f32", "--precision", "int8", "--runtime", "onnxruntime")
    shown = lines(ask("compare", "mobilenet_v1", *words, "--threads", 2, "--batch", 4))
    assert shown[0].endswith("runtime precision size latency 95 % interval images/s")
    assert shown[1].endswith("4.82 MB onnxruntime f32 16.9 MB 5.47 ms 5.4 to 5.6 731.3")
    assert shown[2] == "onnxruntime int8 16.9 MB too noisy 5.4 to 5.6 too noisy"
    assert shown[4].startswith(
        "latency: median of 1 image; images/s: batches of 4; timed in turns, 2 threads, "
    )
    assert shown[5] == "mobilenet_v1 x1 @224, onnxruntime int8: stop other programs"
    del asked["reporter"]
    assert asked == {
        "names": ["mobilenet_v1"],
        "widths": (),
        "resolutions": (224,),
        "latency": True,
        "runtimes": ["onnxruntime"],
        "precisions": ["f32", "int8"],
        "threads": 2,
        "batch": 4,
    }


def timed_file(precision: Precision, median_ms: float, noise: str = "") -> TimedFile:
    latency = Latency(
        median_ms=median_ms,
        p95_ms=6.0,
        low_ms=5.4,
        high_ms=5.6,
        runs=20,
        threads=2,
        noise=noise,
    )
    return TimedFile(
        runtime="onnxruntime",
        precision=precision,
        size_bytes=16_900_000,
        latency=latency,
        batched=replace(latency, median_ms=4 * median_ms, batch=4),
        images_per_s=4000 / median_ms,
    )

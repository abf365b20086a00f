from pathlib import Path

import numpy as np
import pytest
from quick import export_quickly

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.measure.profile import layer_times, profile_layers
from pocketvision.models.registry import spec
from pocketvision.runtimes.profiling import WARMUP_RUNS, _from_events
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import FileCard, OperatorRuns, Runtime

PIXELS = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = spec("mobilenet_v1", width=0.25, resolution=32, num_classes=3).build(seed=0)
    card = FileCard(
        name="mobilenet_v1",
        classes=("ant", "bee", "cat"),
        preprocessing=Preprocessing.for_resolution(32),
    )
    path = tmp_path_factory.mktemp("exported") / "float.onnx"
    export_quickly(network, path, card)
    return path


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return get_runtime(request.param)


@pytest.fixture(scope="module")
def file(runtime: Runtime, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(runtime.name) / runtime.file_name("model")
    runtime.convert(exported, path)
    return path


def test_every_convolution_of_a_network_is_timed(runtime: Runtime, file: Path) -> None:
    layers = profile_layers(runtime, file, "f32", 1, PIXELS)
    convolutions = [one for one in layers if "conv" in one.operator.lower()]
    assert len(convolutions) == 27  # MobileNetV1: the stem, 13 depthwise, 13 pointwise
    assert len({one.name for one in layers}) == len(layers)
    assert sum(one.share for one in layers) == pytest.approx(1)
    assert all(one.median_ms >= 0 for one in layers)


def test_profiling_leaves_no_file_behind(
    runtime: Runtime, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(file.parent.iterdir())
    runtime.profile(file, "f32", 1, PIXELS, 1)
    assert list(tmp_path.iterdir()) == []
    assert sorted(file.parent.iterdir()) == before


def test_what_does_not_fit_is_refused(runtime: Runtime, file: Path) -> None:
    with pytest.raises(ConfigError, match="pixels"):
        runtime.profile(file, "f32", 1, PIXELS[:, :16], 1)
    with pytest.raises(ArtefactError, match="cannot be run as int8"):
        runtime.profile(file, "int8", 1, PIXELS, 1)


def operator(name: str, *times_ms: float) -> OperatorRuns:
    return OperatorRuns(name=name, operator="Conv", times_ms=times_ms)


def test_an_outlier_does_not_move_a_layer() -> None:
    slow, quick = layer_times((operator("slow", 3, 3, 300), operator("quick", 1, 1, 1)))
    assert (slow.median_ms, slow.share) == (3, 0.75)
    assert (quick.median_ms, quick.share) == (1, 0.25)


def test_operators_too_quick_to_time_have_no_share() -> None:
    assert layer_times((operator("quick", 0, 0),))[0].share == 0
    assert layer_times(()) == ()


def test_events_of_a_profile_become_operators_without_the_first_runs() -> None:
    def event(name: str, microseconds: int, cat: str = "Node") -> dict[str, object]:
        arguments = {"op_name": "QLinearConv", "node_index": "7"}
        return {"cat": cat, "name": name, "dur": microseconds, "args": arguments}

    events = []
    for number in range(WARMUP_RUNS + 2):
        events += [event("model_run", 9, "Session"), event("stem_kernel_time", 1000 * (number + 1))]
        events += [event("stem_fence_before", 1), event("_kernel_time", 2)]
    stem, unnamed = _from_events(events)
    assert stem == OperatorRuns(name="stem", operator="QLinearConv", times_ms=(4.0, 5.0))
    assert (unnamed.name, unnamed.times_ms) == ("QLinearConv 7", (0.002, 0.002))

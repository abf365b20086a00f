"""NetAdapt on networks that tell places: narrowed to the latency, taught by the seed, shipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from shapes import NAMES, write_boxes, write_masks
from small_runs import Told
from target_tables import table_of, timed, write_table

from pocketvision.budget import Budget
from pocketvision.compress.netadapt import narrowest
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.fitting.config import FitConfig
from pocketvision.measure.count import count
from pocketvision.measure.table import TimedDense
from pocketvision.models import registry
from pocketvision.models.detector import ssdlite
from pocketvision.models.networks import AnySpec, DenseSpec
from pocketvision.models.segmenter import lr_aspp, r_aspp
from pocketvision.models.weights import load, save
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.runtimes.runtime import Runtime
from pocketvision.searching import fastest, shrink, shrink_start
from pocketvision.searching.shrink import run_shrink
from pocketvision.searching.shrink_config import ShrinkConfig, ShrinkState
from pocketvision.storage import from_json

SIDE = 64
BODY = registry.spec("mobilenet_v3_small", width=0.35, resolution=SIDE, reduced_tail=True)
NETWORKS: dict[str, DenseSpec] = {
    "lr_aspp": lr_aspp(BODY, 3),
    "r_aspp": r_aspp(BODY, 3),
    "ssdlite": ssdlite(BODY, 3),
}
NS = 1e-6  # a millisecond for a million multiply-accumulates


class WorkTable:
    """A machine whose latency is its work."""

    def __init__(self, runtime: Runtime, precision: Precision, threads: int) -> None: ...

    def ensure(self, specs: Iterable[AnySpec]) -> None:
        pass

    def latency_ms(self, spec: AnySpec) -> float:
        return NS * count(spec).macs

    def meet(self, spec: AnySpec, latency: Latency) -> None:
        pass

    def timed_whole(self, spec: AnySpec) -> Latency:
        ms = self.latency_ms(spec)
        return Latency(median_ms=ms, p95_ms=ms, low_ms=ms, high_ms=ms, runs=9, threads=1)


@pytest.fixture(scope="module", autouse=True)
def ideal() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (shrink_start, fastest):
            patch.setattr(module, "ScaledTable", WorkTable)
        patch.setattr(fastest, "best_in_turns", lambda spec, offers, threads: offers[0])
        yield


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """An untrained network, and pictures of its classes."""

    spec: DenseSpec
    config: ShrinkConfig


@pytest.fixture(
    scope="module", params=["lr_aspp", "ssdlite", pytest.param("r_aspp", marks=pytest.mark.slow)]
)
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Begun:
    folder, spec = tmp_path_factory.mktemp("begun"), NETWORKS[request.param]
    is_detector = request.param == "ssdlite"
    data = (write_boxes if is_detector else write_masks)(folder / "data")
    save(
        spec.build(seed=0),
        folder / "network",
        classes=NAMES[1:] if is_detector else NAMES,
        preprocessing=Preprocessing.of_whole(SIDE),
    )
    config = ShrinkConfig(
        source=str(folder / "network"),
        images=str(data),
        budget=Budget(latency_ms=0.75 * NS * count(spec).macs),
        runtime="onnxruntime",
        precision="f32",
        step=0.1,
        brief_steps=1,
        augmentation=Augmentation(min_scale=0.8),
        epochs=2,
        max_drop_points=100,
    )
    return Begun(spec=spec, config=config)


def state_of(out: Path) -> ShrinkState:
    path = out / "shrinking" / "shrink.json"
    return from_json(ShrinkState, path.read_bytes(), source=str(path))


def test_steps_lead_to_the_latency(
    begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(shrink, "run_fit", lambda config, *_, **__: asked.append(config))
    run_shrink(begun.config, tmp_path / "out", told := Told())
    state = state_of(tmp_path / "out")
    assert state.done
    latencies = [step.latency.median_ms for step in state.steps if step.latency]
    assert latencies == sorted(latencies, reverse=True)
    assert latencies[-1] <= begun.config.latency_ms
    assert all(0 <= one.accuracy <= 1 for step in state.steps for one in step.proposals)
    kind = "mAP" if begun.spec.name.startswith("ssdlite") else "mIoU"
    assert any(f"expected {kind} of the images held out" in line for line in told.sentences)
    (config,) = asked
    assert isinstance(config, FitConfig)
    assert config.weights is not None
    network, file = load(Path(config.weights))
    assert network.spec == state.steps[-1].network
    assert type(network.spec) is type(begun.spec)
    assert file.preprocessing == Preprocessing.of_whole(SIDE)


@pytest.mark.slow
def test_narrowed_network_is_shipped(begun: Begun, tmp_path: Path) -> None:
    artefact = run_shrink(begun.config, tmp_path / "out")
    assert artefact.network.spec == state_of(tmp_path / "out").steps[-1].network
    assert artefact.record.narrowing is not None
    assert artefact.record.task == ("detect" if "ssdlite" in begun.spec.name else "segment")
    assert (tmp_path / "out" / "report.html").exists()


def test_table_of_another_device_leads_to_the_latency_there(
    begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(shrink, "run_fit", lambda config, *_, **__: asked.append(config))
    seed = begun.spec
    whole = TimedDense(network=seed, latency=timed(seed).latency)
    table = replace(table_of([seed, narrowest(seed)]), dense=(whole,))
    config = replace(
        begun.config,
        target=write_table(tmp_path / "table.json", table),
        runtime=None,
        precision=None,
        budget=Budget(latency_ms=0.85 * whole.latency.median_ms),
    )
    run_shrink(config, tmp_path / "out")
    found = [step.latency for step in state_of(tmp_path / "out").steps if step.latency]
    assert all(latency.is_by_table for latency in found)
    assert found[0].median_ms == whole.latency.median_ms
    assert found[-1].high_ms <= config.latency_ms < found[-2].high_ms
    assert [one.target for one in asked] == [config.target]


def test_table_that_holds_a_network_whole_alone_is_refused(begun: Begun, tmp_path: Path) -> None:
    whole = TimedDense(network=begun.spec, latency=timed(begun.spec).latency)
    table = write_table(tmp_path / "table.json", replace(table_of([]), dense=(whole,)))
    config = replace(begun.config, target=table, budget=Budget(latency_ms=0.1))
    with pytest.raises(ConfigError, match=r"no conv of this form .*; profile the device agai"):
        run_shrink(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_void_is_of_masks_alone(begun: Begun, tmp_path: Path) -> None:
    if begun.spec.name.startswith("ssdlite"):
        with pytest.raises(ConfigError, match=r"void=\(7,\) is of masks"):
            run_shrink(replace(begun.config, void=(7,)), tmp_path / "out")


def test_images_of_other_classes_name_the_way_out(begun: Begun, tmp_path: Path) -> None:
    is_detector = begun.spec.name.startswith("ssdlite")
    other = (write_boxes if is_detector else write_masks)(tmp_path / "other")
    names = ("red", "green") if is_detector else ("ground", "red", "green")
    (other / "classes.txt").write_text("\n".join(names))
    way_out = r"apart: give images of these\.$" if is_detector else "with the --void that it was"
    with pytest.raises(ConfigError, match=way_out):
        run_shrink(replace(begun.config, images=str(other)), tmp_path / "out")


def test_network_without_preprocessing_is_refused(begun: Begun, tmp_path: Path) -> None:
    save(begun.spec.build(seed=0), tmp_path / "bare")
    with pytest.raises(ArtefactError, match="names no preprocessing; give a folder of fit"):
        run_shrink(replace(begun.config, source=str(tmp_path / "bare")), tmp_path / "out")

"""Which network another one can learn from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pocketvision.errors import ConfigError
from pocketvision.fitting.teaching import teacher_of
from pocketvision.models import registry
from pocketvision.models.detector import DetectorSpec, ssdlite
from pocketvision.models.networks import AnySpec, task_of
from pocketvision.models.segmenter import lr_aspp
from pocketvision.models.weights import save
from pocketvision.nn.ssdlite import AnchorSpec

BODY = registry.spec("mobilenet_v3_small", width=0.35, resolution=64, num_classes=2)
CLASSES = ("red", "blue")
SPECS: dict[str, AnySpec] = {
    "classify": BODY,
    "segment": lr_aspp(BODY, 2),
    "detect": ssdlite(BODY, 3),
}


def run_of(spec: AnySpec, teacher: Path | None, classes: tuple[str, ...] = CLASSES) -> Any:
    """What `teacher_of` looks at in a run."""
    return SimpleNamespace(
        config=SimpleNamespace(teacher=None if teacher is None else str(teacher)),
        samples=SimpleNamespace(classes=classes),
        spec=spec,
    )


def saved(spec: AnySpec, folder: Path) -> Path:
    save(spec.build(seed=0), folder, classes=CLASSES)
    return folder


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_teacher_is_read_in_eval_mode(spec: AnySpec, tmp_path: Path) -> None:
    assert teacher_of(run_of(spec, None)) is None
    found = teacher_of(run_of(spec.at(96), saved(spec, tmp_path)))
    assert found is not None
    assert found.spec == spec
    assert not found.training


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_teacher_for_another_task_or_of_other_classes_is_refused(
    spec: AnySpec, tmp_path: Path
) -> None:
    other = next(one for one in SPECS.values() if task_of(one) != task_of(spec))
    folder = saved(other, tmp_path / "other")
    with pytest.raises(ConfigError, match=r"teacher='.*' is of .*, which is for another task than"):
        teacher_of(run_of(spec, folder))
    folder = saved(spec, tmp_path / "same")
    with pytest.raises(ConfigError, match="tells other classes apart: red, blue; the images have"):
        teacher_of(run_of(spec, folder, ("red", "green")))


def test_detector_of_other_anchors_is_refused(tmp_path: Path) -> None:
    spec = SPECS["detect"]
    assert isinstance(spec, DetectorSpec)
    other = ssdlite(spec.backbone, 3, anchors=AnchorSpec(ratios=(2.0,)))
    with pytest.raises(ConfigError, match="has other anchors than ssdlite_mobilenet_v3_small"):
        teacher_of(run_of(spec, saved(other, tmp_path)))

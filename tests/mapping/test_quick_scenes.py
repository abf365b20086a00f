"""The shortcut of these tests gives what the exporter gives."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from quick_scenes import Traces

from pocketvision.data.scene.bands import BandReduction
from pocketvision.models.hybridsn import hybridsn
from pocketvision.models.mobile_patch import mobile_patch
from pocketvision.models.patch import PatchSpec
from pocketvision.runtimes.scene_export import SceneCard, traced
from pocketvision.runtimes.scene_graph import FromSpectra
from pocketvision.scene_record import Form

BANDS, CLASSES = 20, ("corn", "hay", "oats")
HYBRID = hybridsn(bands=13, window=9, num_classes=len(CLASSES))
MOBILE = mobile_patch(bands=6, window=9, num_classes=len(CLASSES))


def from_spectra(spec: PatchSpec, form: Form, seed: int) -> tuple[FromSpectra, SceneCard]:
    """A network with weights that nothing trained."""
    generator = np.random.default_rng(seed)
    mean = generator.normal(size=BANDS).astype(np.float32)
    reduction = BandReduction(
        method="pca",
        whiten=True,
        mean=mean.astype(np.float64),
        matrix=generator.normal(size=(BANDS, spec.bands)),
        explained=None,
        fitted_on=0,
    )
    card = SceneCard(
        name=spec.label,
        form=form,
        window=spec.window,
        classes=CLASSES,
        class_ids=(1, 2, 3),
        colours=((0, 0, 0),) * 3,
        fill=tuple(mean.tolist()),
    )
    network = spec.build(seed=seed).eval()
    torch.manual_seed(seed)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return FromSpectra(network, torch.from_numpy(mean), reduction, form), card


def content(model: onnx.ModelProto) -> tuple[list[onnx.NodeProto], dict[str, bytes]]:
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return list(model.graph.node), {name: array.tobytes() for name, array in tensors.items()}


@pytest.mark.parametrize(
    ("spec", "form"),
    [
        (MOBILE, "patch"),
        pytest.param(MOBILE, "dense", marks=pytest.mark.slow),
        pytest.param(HYBRID, "patch", marks=pytest.mark.slow),
        pytest.param(HYBRID, "dense", marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_trace_that_is_known_holds_the_weights_of_the_network(
    spec: PatchSpec, form: Form
) -> None:
    asked: list[str] = []

    def trace(one: FromSpectra, card: SceneCard) -> onnx.ModelProto:
        asked.append(card.form)
        return traced(one, card)

    quick = Traces(trace)
    quick(*from_spectra(spec, form, 0))
    other = from_spectra(spec, form, 1)
    found = content(quick(*other))
    assert asked == [form]
    assert found == content(traced(*other))

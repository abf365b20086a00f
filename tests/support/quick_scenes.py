"""The exporter's work once for all networks of one structure: only their numbers differ."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from pocketvision.runtimes import scene_export
from pocketvision.runtimes.scene_export import SceneCard
from pocketvision.runtimes.scene_graph import FromSpectra

Trace = Callable[[FromSpectra, SceneCard], onnx.ModelProto]
State = Mapping[str, NDArray[np.generic]]


class Traces:
    """As `traced`, which is asked once for a structure.

    Networks are alike where they print alike, have tensors of the same shapes, and the same of
    these hold zeros alone: the exporter leaves out what adds nothing.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.known: dict[Hashable, tuple[bytes, dict[str, str]]] = {}

    def __call__(self, from_spectra: FromSpectra, card: SceneCard) -> onnx.ModelProto:
        state = {name: tensor.numpy() for name, tensor in from_spectra.state_dict().items()}
        shapes = tuple((name, array.shape, bool(array.any())) for name, array in state.items())
        key = (str(from_spectra), card.form, card.window, shapes)
        if key not in self.known:
            model = self.trace(from_spectra, card)
            origins = origins_of(model, state)
            if origins is None:
                return model
            self.known[key] = (model.SerializeToString(), origins)
        content, origins = self.known[key]
        model = onnx.load_from_string(content)
        for tensor in model.graph.initializer:
            if (origin := origins.get(tensor.name)) is not None:
                tensor.raw_data = np.ascontiguousarray(state[origin]).tobytes()
        return model


def origins_of(model: onnx.ModelProto, state: State) -> dict[str, str] | None:
    """Initializer -> the tensor of the state that it holds, in whatever shape; None: one was
    computed from them, or cannot be told from another.
    """
    origins = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        named = {tensor.name: state[tensor.name]} if tensor.name in state else state
        equal = [
            name for name, held in named.items() if np.array_equal(held.ravel(), array.ravel())
        ]
        if len(equal) == 1:
            origins[tensor.name] = equal[0]
        elif array.dtype == np.float32 and array.size > 1:
            return None
    return origins


@contextmanager
def quick_scene_files() -> Iterator[None]:
    """Files of networks for scenes, with few calls of the exporter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene_export, "traced", Traces(scene_export.traced))
        yield

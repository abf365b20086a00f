"""Peak memory of files as they ship: laid out like model/, run by their own run.py."""

from __future__ import annotations

import tempfile
from pathlib import Path

from onnx import TensorProto, helper

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.fitting.standalone import standalone_script
from pocketvision.measure.memory import REPEATS, ProcessPeak, measure_process
from pocketvision.record.words import Precision
from pocketvision.runtimes.onnxfile import INPUT, OUTPUT, set_metadata, write_model
from pocketvision.runtimes.runtime import FileCard, Runtime

EMPTY_SIDE = 32  # pixels


class Footprints:
    """Measures files against an empty session of their runtime, which is measured once."""

    def __init__(self, threads: int, repeats: int = REPEATS) -> None:
        self.threads = threads
        self.repeats = repeats
        self._empty: dict[str, ProcessPeak] = {}

    def measure(self, runtime: Runtime, path: Path, precision: Precision, card: FileCard) -> int:
        """Peak bytes of one file beyond an empty session: the highest of the repeats.

        Raises: ConfigError: no Linux. ArtefactError: the file cannot be run.
        """
        if runtime.name not in self._empty:
            self._empty[runtime.name] = self._empty_session(runtime)
        found = self._process(runtime, path, precision, card)
        return found.beyond(self._empty[runtime.name])

    def _empty_session(self, runtime: Runtime) -> ProcessPeak:
        card = FileCard(name="empty", preprocessing=Preprocessing.for_resolution(EMPTY_SIDE))
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "source.onnx"
            target = Path(folder) / runtime.file_name("empty")
            write_empty_model(source, card)
            runtime.convert(source, target)
            return self._process(runtime, target, "f32", card)

    def _process(
        self, runtime: Runtime, path: Path, precision: Precision, card: FileCard
    ) -> ProcessPeak:
        side = card.preprocessing.resolution
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / runtime.file_name("model")
            links = runtime.files(model)
            for file, link in zip(runtime.files(path), links, strict=True):
                link.symlink_to(file.absolute())
            script = standalone_script(runtime.name, precision, self.threads, card)
            model.with_name("run.py").write_text(script, encoding="utf-8")
            return measure_process(Path(folder), (side, side, 3), self.repeats)


def write_empty_model(path: Path, card: FileCard) -> None:
    """A file like an exported one that only takes the mean of each channel."""
    side = card.preprocessing.resolution
    pixels = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", side, side, 3])
    means = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 3])
    nodes = [
        helper.make_node("Cast", [INPUT], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], [OUTPUT], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "empty", [pixels], [means])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    set_metadata(model, card.to_metadata())
    write_model(model, path)

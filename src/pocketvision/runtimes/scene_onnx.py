"""Networks for scenes in ONNX Runtime: static INT8, and sessions that take raw spectra.

INT8: uint8 activations, int8 weights with one scale per output channel. The band reduction stays
in float, as 8 bits cannot hold raw spectra and the small directions that it whitens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from pocketvision.data.scene.scene import Scene
from pocketvision.errors import ArtefactError, ConfigError, check_shape, choice
from pocketvision.record.words import Precision
from pocketvision.runtimes.int8.static import static_int8
from pocketvision.runtimes.onnxfile import INPUT, drop_unused_constants, read_model, write_model
from pocketvision.runtimes.onnxruntime import in_batches, is_quantized
from pocketvision.runtimes.onnxsession import open_session, session_options
from pocketvision.runtimes.runtime import Int8Config, Logits
from pocketvision.runtimes.scene_export import SceneCard, check_exported_scene

Spectra = NDArray[np.float32]  # (N, h, w, B), raw as in the cube

BATCH_PIXELS = 8 * 25 * 25  # per calibration batch: all its activations are in memory at once
WAVELENGTH_TOLERANCE_NM = 5.0  # half a usual band; calibrations of one sensor differ by less
PRECISIONS: tuple[Precision, ...] = ("f32", "int8")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SceneCalibration:
    """Spectra that set the ranges of integer activations, and how.

    spectra: float32 (N, h, w, B), N >= 1, raw: windows for the patch form, windows or larger parts
    of a scene for the dense one.
    Raises: ConfigError: other spectra.
    """

    spectra: Spectra
    config: Int8Config = field(default_factory=Int8Config)

    def __post_init__(self) -> None:
        check_shape("calibration spectra", self.spectra.shape, (None, None, None, None))
        if self.spectra.dtype != np.float32:
            raise ConfigError(f"calibration spectra are {self.spectra.dtype}; expected float32.")
        if len(self.spectra) == 0:
            raise ConfigError("calibration needs at least one window; got none.")


class SceneSession:
    """An exported network for scenes, opened by ONNX Runtime. card: what the file says of itself.

    Made by `open_scene_session`.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        card: SceneCard,
        precision: Precision,
        threads: int,
    ) -> None:
        self._session = session
        self.card = card
        self._options = {**session_options(precision, threads), "form": card.form}

    def run(self, spectra: Spectra) -> Logits:
        """(N, h, w, B) float32 -> logits: (N, K), or (N, h - window + 1, w - window + 1, K) dense.

        The patch form takes h = w = window, the dense form any sides from there up.
        Raises: ConfigError: other spectra.
        """
        check_spectra(spectra, self.card)
        logits: Logits = self._session.run(None, {INPUT: spectra})[0]
        return logits

    def describe(self) -> dict[str, str]:
        """The options in force: runtime, version, precision, threads, form."""
        return dict(self._options)


def quantize_scene(float_onnx: Path, target: Path, calibration: SceneCalibration) -> None:
    """Write the INT8 file of an exported float one, with its card, atomically.

    Raises: ArtefactError: not a file of `export_scene`. ConfigError: spectra it does not take.
    """
    source = read_model(float_onnx)
    check_spectra(calibration.spectra, check_exported_scene(source, float_onnx))
    _, height, width, _ = calibration.spectra.shape
    model = static_int8(
        float_onnx,
        target.parent,
        in_batches(calibration.spectra, BATCH_PIXELS // (height * width)),
        calibration.config,
        float_nodes=_reduction(source.graph),
    ).model
    drop_unused_constants(model.graph)
    write_model(model, target)


def open_scene_session(path: Path, precision: Precision, threads: int) -> SceneSession:
    """Open an exported file, float or INT8.

    Raises: ArtefactError: a foreign file, or one of another precision. ConfigError: an unknown
    precision, impossible threads.
    """
    choice("precision", precision, PRECISIONS)
    model = read_model(path)
    card = check_exported_scene(model, path)
    stored: Precision = "int8" if is_quantized(model) else "f32"
    if stored != precision:
        raise ArtefactError(f"{path} is a file in {stored}; it cannot be run as {precision}.")
    return SceneSession(open_session(model, path, threads), card, precision, threads)


def check_bands(bands: int, card: SceneCard) -> None:
    """Raises: ConfigError: a cube of another number of bands."""
    if bands != card.bands:
        raise ConfigError(
            f"the cube has {bands} bands, this network takes {card.bands}; give a cube of the same "
            "sensor with the same bands removed."
        )


def check_sensor(scene: Scene, card: SceneCard) -> None:
    """Raises: ConfigError: a cube of other bands, by their number or by their wavelengths."""
    check_bands(scene.cube.shape[2], card)
    if not (scene.wavelengths_nm and card.wavelengths_nm):
        return
    check_shape("the cube's wavelengths", (len(scene.wavelengths_nm),), (card.bands,))
    apart_nm = np.abs(np.subtract(scene.wavelengths_nm, card.wavelengths_nm))
    worst = int(apart_nm.argmax())
    if apart_nm[worst] > WAVELENGTH_TOLERANCE_NM:
        raise ConfigError(
            f"band {worst + 1} lies at {scene.wavelengths_nm[worst]:g} nm in the cube and at "
            f"{card.wavelengths_nm[worst]:g} nm for this network; give a cube of the same sensor "
            "with the same bands removed, or correct its wavelengths."
        )


def check_spectra(spectra: Spectra, card: SceneCard) -> None:
    """Raises: ConfigError: unless a file with this card takes these spectra."""
    if spectra.dtype != np.float32:
        raise ConfigError(f"spectra are {spectra.dtype}; expected float32, raw as in the cube.")
    check_shape("spectra", spectra.shape, (None, None, None, None))
    count, height, width, bands = spectra.shape
    check_bands(bands, card)
    if count == 0:
        raise ConfigError("spectra hold no window; expected at least one.")
    side = card.window
    if card.form == "patch":
        check_shape("spectra", spectra.shape, (None, side, side, bands))
    if min(height, width) < side:
        raise ConfigError(f"spectra of {height}x{width} pixels; expected at least {side}x{side}.")


def _reduction(graph: onnx.GraphProto) -> list[str]:
    """The nodes of the band reduction: the difference from the mean, and the product."""
    difference = next(node for node in graph.node if INPUT in node.input and node.op_type == "Sub")
    product = next(node for node in graph.node if difference.output[0] in node.input)
    return [difference.name, product.name]

"""INT8 of HybridSN on a scene: what is lost on the test pixels, beside two peers.

    pocketvision sample indian-pines pines
    pocketvision fit pines --task hyperspectral --split random --train-share 0.3 --repeats 1 \
        --time 8m --out fitted
    python recipes/int8_scene.py fitted pines > recipes/int8_scene.md

The network that `fit` trained is exported patch by patch, from raw spectra to logits. Ours leaves
the reduction of the bands in float; peers quantize the same file on the same windows of training
pixels, as `int8_peers.py` says. Pixels are split at random, so that windows of test pixels hold
training pixels: levels say little, differences between the files can be seen.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from int8_peers import nncf_logits, onnx_logits, plain_file
from int8_tables import lost
from plotting import machine_line, table

from pocketvision.mapping.artefact import SceneArtefact
from pocketvision.mapping.files import CALIBRATION_WINDOWS
from pocketvision.mapping.gates import sample_places
from pocketvision.mapping.reading import labels_of, read_scene, split_scene
from pocketvision.mapping.tiles import windows_at
from pocketvision.measure.accuracy import compare
from pocketvision.runtimes.scene_export import SceneCard, export_scene
from pocketvision.runtimes.scene_onnx import SceneCalibration, quantize_scene


def page(fitted: str, data: str, work: Path) -> list[str]:
    """The page, line by line."""
    artefact = SceneArtefact(fitted)
    config, network, reduction = artefact.state.config, artefact.network, artefact.reduction
    scene = read_scene(config, data)
    window = network.spec.window
    split = split_scene(config, scene, window)[0]

    def spectra(places: np.ndarray) -> np.ndarray:
        return windows_at(scene, places, window, reduction.mean)

    calibration = spectra(sample_places(split.train, CALIBRATION_WINDOWS, config.seed))
    places = np.argwhere(split.test)
    tested, labels = spectra(places), labels_of(scene)[places[:, 0], places[:, 1]] - 1
    source, ours = work / "float.onnx", work / "ours.onnx"
    card = SceneCard.for_scene(
        scene, name=network.spec.label, form="patch", window=window, reduction=reduction
    )
    export_scene(network, reduction, source, card)
    quantize_scene(source, ours, SceneCalibration(spectra=calibration))
    plain = plain_file(source, work / "plain.onnx", calibration)
    reference = onnx_logits(source, tested)
    logits = {
        "ours": onnx_logits(ours, tested),
        "ONNX Runtime, plain": onnx_logits(plain, tested),
        "NNCF, default": nncf_logits(source, calibration, tested),
    }
    rows = []
    for name, found in logits.items():
        compared = compare(found, reference, labels, subject=name, reference="float", split="test")
        rows.append((name, f"{compared.accuracy.value:.2%}", lost(compared)))
    right = float((reference.argmax(1) == labels).mean())
    return [
        "# INT8 of HybridSN on Indian Pines, beside two peers",
        "",
        "```",
        artefact.record.command,
        "python recipes/int8_scene.py FITTED PINES > recipes/int8_scene.md",
        "```",
        "",
        *table(("file", "OA, test", "lost, agreement"), [("float", f"{right:.2%}", ""), *rows]),
        f"Lost: points of overall accuracy on the n = {len(labels):,} test pixels against the "
        "float file, in pairs, with the 95 % interval; then agreement with float. "
        f"{artefact.record.network.label}, {len(calibration)} windows of training pixels set the "
        "ranges. Pixels are split at random: the level is not that of another scene.",
        "",
        machine_line(("torch", "onnxruntime", "openvino", "nncf"), 1),
    ]


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description="INT8 of HybridSN on a scene, beside two peers.")
    parser.add_argument("fitted", help="what `fit --task hyperspectral` wrote")
    parser.add_argument("data", help="folder of the scene")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = page(asked.fitted, asked.data, Path(folder))
    print("\n".join(lines))


if __name__ == "__main__":
    main()

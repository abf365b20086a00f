"""The latency table of the networks for a scene: timed here, or by a bundle on another device."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx

from pocketvision.budget import count_of
from pocketvision.compress.netadapt import forms_between
from pocketvision.data.scene.reading import check_values
from pocketvision.data.scene.scene import Scene
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.errors import ConfigError
from pocketvision.fitting.device_profile import (
    Bundle,
    LayerBundleFile,
    SceneBundleFile,
    check_free,
    make_bundle,
)
from pocketvision.fitting.folder import storage_told
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.mapping.config import SceneConfig
from pocketvision.mapping.layer_table import LayerTable, layer_model
from pocketvision.mapping.making import noise
from pocketvision.mapping.networks import network_spec, ordered_networks, window_of, with_methods
from pocketvision.mapping.reading import read_scene, split_scene
from pocketvision.mapping.untrained import write_untrained
from pocketvision.measure.conditions import judged, watch_conditions
from pocketvision.measure.device import machine
from pocketvision.measure.latency import PLANNING, Run, measure_latency
from pocketvision.measure.table import DeviceTable, TimedLayer, TimedScene
from pocketvision.models.patch import PatchSpec
from pocketvision.models.patch_layers import LayerForm, layer_forms
from pocketvision.record.words import Precision
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.scene_onnx import open_scene_session
from pocketvision.storage import to_json, write_atomic


def run_scene_profile(
    config: SceneConfig, out: Path, reporter: Reporter | None = None
) -> DeviceTable:
    """Time the networks that `fit` would choose from on this machine, and write the table to `out`.

    config: its scene, what makes the networks, the threads and one precision.

    Raises: ConfigError: `out` exists or cannot be written; more than one precision; options that
    contradict. DataError: an unusable scene. StorageError: a disk that is full.
    """
    reporter = reporter or Silent()
    check_free(out)
    profile = _Profile.of(config, reporter)
    reporter.say(f"Timing {profile.described}.")
    with storage_told(out):
        with tempfile.TemporaryDirectory() as folder, reporter.progress("Timing whole networks"):
            table = _timed(profile, Path(folder))
        write_atomic(out, to_json(table, indent=None))
    return table


def write_scene_bundle(config: SceneConfig, out: Path, reporter: Reporter | None = None) -> Path:
    """A folder with their files and the script that times them on another device.

    Raises: as `run_scene_profile`.
    """
    reporter = reporter or Silent()
    check_free(out)
    profile = _Profile.of(config, reporter)
    reporter.say(f"Writing {profile.described}.")

    def write(folder: Path) -> Bundle:
        rows: list[SceneBundleFile] = []
        with tempfile.TemporaryDirectory(dir=folder) as part:
            for number, (spec, path) in enumerate(profile.files(Path(part))):
                name = f"{number:04d}.onnx"
                path.rename(folder / name)
                shape = (1, spec.window, spec.window, profile.bands)
                rows.append(
                    SceneBundleFile(file=name, network=spec, bands=profile.bands, shape=shape)
                )
        layers = [
            _write_layer(form, folder, f"{number:04d}.onnx", profile.precision)
            for number, form in enumerate(profile.layers, len(rows))
        ]
        return Bundle(precision=profile.precision, threads=config.threads, files=(*rows, *layers))

    return make_bundle(out, write, reporter)


def _write_layer(form: LayerForm, folder: Path, name: str, precision: Precision) -> LayerBundleFile:
    onnx.save(layer_model(form, integers=precision == "int8"), folder / name)
    return LayerBundleFile(file=name, form=form, shape=form.in_shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Profile:
    """What is timed: the networks that `fit` would choose from on a scene, in one precision."""

    config: SceneConfig
    scene: Scene
    split: SceneSplit
    specs: tuple[PatchSpec, ...]

    @classmethod
    def of(cls, config: SceneConfig, reporter: Reporter) -> _Profile:
        """Read the scene. Raises: as `run_scene_profile`."""
        if len(config.precisions) != 1:
            raise ConfigError(
                f"precisions={list(config.precisions)}: a table is of one precision; give one."
            )
        with reporter.progress("Reading the scene"):
            scene = read_scene(config, config.data)
            check_values(scene)
        split = split_scene(config, scene, window_of(config))[0]
        bands = int(scene.cube.shape[2])
        settled, left_out = with_methods(config, bands)
        if left_out:
            reporter.say(left_out)
        specs = tuple(
            network_spec(settled, name, bands, len(scene.classes))
            for name in ordered_networks(settled)
        )
        return cls(config=settled, scene=scene, split=split, specs=specs)

    @property
    def precision(self) -> Precision:
        (precision,) = self.config.precisions
        return "int8" if precision == "int8" else "f32"

    @property
    def bands(self) -> int:
        """Of the raw spectra."""
        return int(self.scene.cube.shape[2])

    @property
    def described(self) -> str:
        """'2 networks for the 200 bands and 16 classes of Indian Pines, in int8'."""
        return (
            f"{count_of(len(self.specs), 'network')} for the {self.bands} bands and "
            f"{len(self.scene.classes)} classes of {self.scene.name}, in {self.precision}"
        )

    @property
    def layers(self) -> list[LayerForm]:
        """Of the networks and of narrower forms, as `shrink` makes them."""
        forms = (form for spec in self.specs for form in forms_between(spec))
        return list(dict.fromkeys(layer for form in forms for layer in layer_forms(form)))

    def files(self, folder: Path) -> Iterator[tuple[PatchSpec, Path]]:
        """Every network as an untrained file."""
        for number, spec in enumerate(self.specs):
            part = folder / str(number)
            found = write_untrained(self.config, self.scene, self.split, spec, part)
            yield spec, found[self.precision]


def _timed(profile: _Profile, folder: Path) -> DeviceTable:
    threads = profile.config.threads
    specs, runs = list[PatchSpec](), dict[str, Run]()
    for spec, path in profile.files(folder):
        session = open_scene_session(path, profile.precision, threads)
        runs[str(len(specs))] = partial(session.run, noise(spec.window, profile.bands))
        specs.append(spec)
    layers = LayerTable(profile.precision, threads)
    with watch_conditions(threads) as seen:
        found = measure_latency(runs, PLANNING, threads)
        layers.time(profile.layers)
    return DeviceTable(
        machine=machine(),
        runtime=OnnxRuntime.name,
        precision=profile.precision,
        threads=threads,
        carriers=(),
        scenes=tuple(
            TimedScene(
                network=spec, bands=profile.bands, latency=judged(found[str(number)], seen[0])
            )
            for number, spec in enumerate(specs)
        ),
        layers=tuple(TimedLayer(form=form, latency=layers.known[form]) for form in profile.layers),
    )

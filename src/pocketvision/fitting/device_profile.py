"""The latency table of a space, or of named networks, on a device: timed here, or by a bundle of
files on another one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pocketvision.budget import format_size, format_time
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.fitting.folder import check_writable, storage_told
from pocketvision.fitting.forecast import planning_seconds
from pocketvision.fitting.profile_config import (
    Networks,
    ProfileConfig,
    counted_networks,
    networks_of,
)
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.measure import on_device
from pocketvision.measure.local_table import SECONDS_PER_CARRIER, LocalTable
from pocketvision.measure.table import (
    CHECKING,
    SCHEMA_VERSION,
    DeviceTable,
    TableCheck,
    check_table,
    of_places,
)
from pocketvision.measure.untrained import build_files, write_untrained
from pocketvision.models.networks import AnySpec
from pocketvision.models.patch import PatchSpec
from pocketvision.models.patch_layers import LayerForm
from pocketvision.progress import Advance, counted
from pocketvision.record.words import Precision
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import Runtime
from pocketvision.storage import from_json, to_json, write_atomic, write_into

SCRIPT = "measure.py"

Kind = Literal["carriers", "wholes", "dense"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleFile:
    """One file of a bundle; `kind` is the list of the table that its figures go to."""

    file: str
    kind: Kind
    network: AnySpec


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneBundleFile:
    """One that takes raw spectra. bands, shape: of these; a window around one pixel."""

    file: str
    network: PatchSpec
    bands: int
    shape: tuple[int, int, int, int]
    kind: Literal["scenes"] = "scenes"


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerBundleFile:
    """One layer of networks for scenes. shape: of what it takes."""

    file: str
    form: LayerForm
    shape: tuple[int, int, int, int]
    kind: Literal["layers"] = "layers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """bundle.json, which the script reads."""

    schema_version: int = SCHEMA_VERSION
    precision: Precision
    threads: int
    files: tuple[BundleFile | SceneBundleFile | LayerBundleFile, ...]


def run_profile(
    config: ProfileConfig, out: Path, reporter: Reporter | None = None
) -> tuple[DeviceTable, TableCheck | None]:
    """Time every block on this machine, check the sums, and write the table to `out`.

    What was timed before on this machine is not timed again. The check is None where there are too
    few different whole networks for one.

    Raises: ConfigError: `out` exists or cannot be written. StorageError: a disk that is full, or a
    folder that vanished. MissingExtraError: an absent runtime.
    """
    reporter = reporter or Silent()
    check_free(out)
    runtime = get_runtime(config.runtime)
    runtime.check()
    with storage_told(out):
        table = _time(config, runtime, reporter)
        write_atomic(out, to_json(table, indent=None))
    checked = of_places(table) if table.dense else table
    return table, check_table(checked) if len(checked.wholes) >= CHECKING else None


def _time(config: ProfileConfig, runtime: Runtime, reporter: Reporter) -> DeviceTable:
    table, networks = LocalTable(runtime, config.precision, config.threads), networks_of(config)
    blocks, dense = len(table.unknown(networks.carriers)), table.unknown_dense(networks.dense)
    cost = TASKS[config.task].candidate_cost
    seconds = SECONDS_PER_CARRIER[config.precision] * (blocks + 2 * len(networks.wholes))
    seconds += planning_seconds(len(dense), [config.runtime], cost=cost)
    reporter.say(
        f"{counted_networks(config, networks)} on {table.sums.table.described}; "
        f"{blocks + len(dense)} are new: about {format_time(seconds)}."
    )
    with reporter.progress("Timing blocks") as advance:
        table.ensure_carriers(networks.carriers, counted(advance))
    with reporter.progress("Timing whole networks") as advance:
        table.check(networks.wholes, counted(advance))
        table.ensure_dense(dense, counted(advance))
    return table.part(networks.carriers, networks.wholes, networks.dense)


def write_bundle(config: ProfileConfig, out: Path, reporter: Reporter | None = None) -> Path:
    """A folder with the files of every block and a script that times them on another device.

    The script needs Python, numpy and onnxruntime alone; what it writes is read by `read_table`.

    Raises: ConfigError: `out` exists or cannot be written; another runtime than ONNX Runtime.
    StorageError: as `run_profile`.
    """
    reporter = reporter or Silent()
    if config.runtime != "onnxruntime":
        raise ConfigError(
            f"runtime={config.runtime!r} cannot be bundled: the script needs onnxruntime alone; "
            "leave --runtime away."
        )
    check_free(out)
    networks, runtime = networks_of(config), get_runtime(config.runtime)
    reporter.say(f"Writing {counted_networks(config, networks)}.")

    def write(folder: Path) -> Bundle:
        with reporter.progress("Writing files") as advance:
            rows = _write_files(networks, runtime, config.precision, folder, advance)
        return Bundle(precision=config.precision, threads=config.threads, files=tuple(rows))

    return make_bundle(out, write, reporter)


def make_bundle(out: Path, write: Callable[[Path], Bundle], reporter: Reporter) -> Path:
    """The folder of a bundle, whole or not at all. write: its files into a folder.

    Raises: StorageError: as `run_profile`.
    """
    with storage_told(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".bundle.") as part:
            folder = Path(part) / "bundle"
            folder.mkdir()
            write_into(folder / "bundle.json", to_json(write(folder), indent=None))
            shutil.copyfile(on_device.__file__, folder / SCRIPT)
            folder.rename(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    reporter.say(f"Wrote {out}, {format_size(size)}. On the device: python {SCRIPT}")
    return out


def read_table(path: Path) -> DeviceTable:
    """A table that `profile`, or the script of a bundle, wrote.

    Raises: ConfigError: no such file. ArtefactError: no table, or one of a later version.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"target={str(path)!r} cannot be read ({error.strerror}); give the table that "
            f"`pocketvision profile`, or {SCRIPT} of a bundle, wrote."
        ) from error
    table = from_json(DeviceTable, text, source=str(path))
    if table.schema_version > SCHEMA_VERSION:
        raise ArtefactError(
            f"{path} has schema version {table.schema_version}; this pocketvision reads up to "
            f"{SCHEMA_VERSION}: update pocketvision."
        )
    return table


def _write_files(
    networks: Networks, runtime: Runtime, precision: Precision, folder: Path, advance: Advance
) -> list[BundleFile]:
    rows: list[BundleFile] = []
    kinds: dict[Kind, Sequence[AnySpec]] = {
        "carriers": networks.carriers,
        "wholes": networks.wholes,
        "dense": networks.dense,
    }
    for kind, specs in kinds.items():
        for spec in specs:
            advance(len(rows), sum(map(len, kinds.values())), "")
            row = BundleFile(file=f"{len(rows):04d}.onnx", kind=kind, network=spec)
            with tempfile.TemporaryDirectory(dir=folder) as place:
                written = Path(place) / "float.onnx"
                write_untrained(spec, written)
                built = build_files(runtime, written, Path(place) / "built", (precision,))
                built[precision].rename(folder / row.file)
            rows.append(row)
    return rows


def check_free(out: Path) -> None:
    """Raises: ConfigError: `out` exists, or cannot be written."""
    if out.exists():
        raise ConfigError(f"{out} exists already; give another --out, or remove it.")
    check_writable(out)

"""The latency table of a space, or of named networks, on a device: timed here, or by a bundle of
files on another one."""

from __future__ import annotations

import random
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from pocketvision.budget import format_size, format_time
from pocketvision.errors import ArtefactError, ConfigError, in_range
from pocketvision.fitting.candidates import list_candidates, select_names
from pocketvision.fitting.folder import check_writable, storage_told
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.measure import on_device
from pocketvision.measure.local_table import SECONDS_PER_CARRIER, LocalTable
from pocketvision.measure.table import (
    CHECKING,
    SCHEMA_VERSION,
    DeviceTable,
    TableCheck,
    check_table,
    terms,
)
from pocketvision.measure.untrained import build_files, write_untrained
from pocketvision.models.arch import ArchSpec
from pocketvision.models.registry import find_models
from pocketvision.models.space import SearchSpace
from pocketvision.models.spaces import find_space
from pocketvision.progress import Advance, counted
from pocketvision.record import Precision
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import MAX_THREADS, Runtime
from pocketvision.storage import from_json, to_json, write_atomic, write_into

WHOLES = 20  # members of the space and networks, drawn at random, that check the table
DRAWS = 1000  # of members, at most: few of a small space are new
CLASSES = (10, 1000)  # heads of other sizes lie on the line through these
WHOLE_CLASSES = (10, 100, 1000)  # of whole networks that are named: one alone makes three
SCRIPT = "measure.py"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileConfig:
    """What to time. space: None: networks alone. models: name patterns of networks, in all widths
    that `fit` tries. resolutions: pixels, of the space's if there is one; empty: its smallest.

    Raises: ConfigError: a field outside what is allowed.
    """

    space: str | None = "v3_large"
    models: tuple[str, ...] = ()
    resolutions: tuple[int, ...] = ()
    runtime: str = "onnxruntime"
    precision: Precision = "int8"
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        in_range("threads", self.threads, 1, MAX_THREADS)
        for pattern in self.models:
            find_models(pattern)
        self._check_resolutions()
        offered = get_runtime(self.runtime).precisions
        if self.precision not in offered:
            raise ConfigError(
                f"precision={self.precision!r} is not offered by {self.runtime}; expected one of "
                f"{', '.join(offered)}."
            )

    def _check_resolutions(self) -> None:
        if self.space is None:
            if not (self.models and self.resolutions):
                raise ConfigError(
                    "without a space, give the networks and their resolutions, such as --models "
                    "mobilenet_v3_small --resolution 96."
                )
            for resolution in self.resolutions:
                in_range("resolution", resolution, 32, 1024)
            return
        found = find_space(self.space).resolutions
        for resolution in self.resolutions:
            if resolution not in found:
                raise ConfigError(
                    f"resolution={resolution} is not in the space {self.space}; expected one of "
                    f"{', '.join(map(str, found))}."
                )

    @property
    def searched(self) -> SearchSpace | None:
        """The space at the resolutions asked for."""
        if self.space is None:
            return None
        space = find_space(self.space)
        return replace(space, resolutions=self.resolutions or (min(space.resolutions),))

    @property
    def described(self) -> str:
        """'v3_large', 'mobilenet_v3_small' or both."""
        return " and ".join([*([self.space] if self.space else []), *self.models])


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleFile:
    """One file of a bundle; `kind` is the list of the table that its figures go to."""

    file: str
    kind: Literal["carriers", "wholes"]
    network: ArchSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """bundle.json, which the script reads."""

    schema_version: int = SCHEMA_VERSION
    precision: Precision
    threads: int
    files: tuple[BundleFile, ...]


class _Networks(NamedTuple):
    """What a table needs: carriers of all blocks, and whole members that check it."""

    carriers: list[ArchSpec]
    wholes: list[ArchSpec]


def networks_of(config: ProfileConfig) -> _Networks:
    """The carriers of every block, and different whole networks drawn with the seed."""
    space, generator = config.searched, random.Random(config.seed)
    specs: list[ArchSpec] = []
    wholes: list[ArchSpec] = []
    if space is not None:
        specs += [space.spec(m, classes) for m in space.covering() for classes in CLASSES]
        wholes += _drawn(space, generator)
    if config.models:
        sides = config.resolutions if space is None else space.resolutions
        specs += _named(config.models, sides, CLASSES)
        known = _named(config.models, sides, WHOLE_CLASSES)
        wholes += generator.sample(known, min(WHOLES, len(known)))
    carriers = list(dict.fromkeys(carrier for spec in specs for carrier in terms(spec)))
    return _Networks(carriers, wholes)


def _drawn(space: SearchSpace, generator: random.Random) -> list[ArchSpec]:
    """Members that differ, as WHOLES asks for; fewer where the space has no more."""
    found: dict[ArchSpec, None] = {}
    for _ in range(DRAWS):
        if len(found) == WHOLES:
            break
        found[space.spec(space.sample(generator), CLASSES[0])] = None
    return list(found)


def _named(
    patterns: tuple[str, ...], sides: tuple[int, ...], classes: tuple[int, ...]
) -> list[ArchSpec]:
    """What `fit` plans with under these names."""
    names = select_names(patterns)
    return [c.classifier for count in classes for c in list_candidates(names, (), sides, count)]


def run_profile(
    config: ProfileConfig, out: Path, reporter: Reporter | None = None
) -> tuple[DeviceTable, TableCheck | None]:
    """Time every block on this machine, check the sums, and write the table to `out`.

    What was timed before on this machine is not timed again. The check is None where the space has
    too few different members for one.

    Raises: ConfigError: `out` exists or cannot be written. StorageError: a disk that is full, or a
    folder that vanished. MissingExtraError: an absent runtime.
    """
    reporter = reporter or Silent()
    _check_free(out)
    runtime = get_runtime(config.runtime)
    runtime.check()
    with storage_told(out):
        table = _time(config, runtime, reporter)
        write_atomic(out, to_json(table, indent=None))
    return table, check_table(table) if len(table.wholes) >= CHECKING else None


def _time(config: ProfileConfig, runtime: Runtime, reporter: Reporter) -> DeviceTable:
    table, networks = LocalTable(runtime, config.precision, config.threads), networks_of(config)
    missing = len(table.unknown(networks.carriers))
    seconds = SECONDS_PER_CARRIER[config.precision] * (missing + 2 * len(networks.wholes))
    reporter.say(
        f"{len(networks.carriers)} blocks of {config.described} and {len(networks.wholes)} whole "
        "networks on "
        f"{table.sums.table.described}; {missing} are new: about {format_time(seconds)}."
    )
    with reporter.progress("Timing blocks") as advance:
        table.ensure_carriers(networks.carriers, counted(advance))
    with reporter.progress("Timing whole networks") as advance:
        table.check(networks.wholes, counted(advance))
    return table.part(networks.carriers, networks.wholes)


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
    _check_free(out)
    networks, runtime = networks_of(config), get_runtime(config.runtime)
    reporter.say(
        f"Writing {len(networks.carriers)} blocks of {config.described} and "
        f"{len(networks.wholes)} whole networks."
    )
    with storage_told(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".bundle.") as part:
            folder = Path(part) / "bundle"
            folder.mkdir()
            with reporter.progress("Writing files") as advance:
                rows = _write_files(networks, runtime, config.precision, folder, advance)
            bundle = Bundle(precision=config.precision, threads=config.threads, files=tuple(rows))
            write_into(folder / "bundle.json", to_json(bundle, indent=None))
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
        raise ConfigError(f"target={str(path)!r} cannot be read: {error.strerror}.") from error
    table = from_json(DeviceTable, text, source=str(path))
    if table.schema_version > SCHEMA_VERSION:
        raise ArtefactError(
            f"{path} has schema version {table.schema_version}; this pocketvision reads up to "
            f"{SCHEMA_VERSION}: update pocketvision."
        )
    return table


def _write_files(
    networks: _Networks, runtime: Runtime, precision: Precision, folder: Path, advance: Advance
) -> list[BundleFile]:
    rows: list[BundleFile] = []
    kinds: dict[Literal["carriers", "wholes"], list[ArchSpec]] = {
        "carriers": networks.carriers,
        "wholes": networks.wholes,
    }
    count = len(networks.carriers) + len(networks.wholes)
    for kind, specs in kinds.items():
        for spec in specs:
            advance(len(rows), count, "")
            row = BundleFile(file=f"{len(rows):04d}.onnx", kind=kind, network=spec)
            with tempfile.TemporaryDirectory(dir=folder) as place:
                written = Path(place) / "float.onnx"
                write_untrained(spec, written)
                built = build_files(runtime, written, Path(place) / "built", (precision,))
                built[precision].rename(folder / row.file)
            rows.append(row)
    return rows


def _check_free(out: Path) -> None:
    if out.exists():
        raise ConfigError(f"{out} exists already; give another --out, or remove it.")
    check_writable(out)

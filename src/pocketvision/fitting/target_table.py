"""A latency table of a device that is not here, which budgets are held against."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pocketvision.budget import format_latency
from pocketvision.errors import ConfigError, MissingExtraError
from pocketvision.fitting.device_profile import read_table
from pocketvision.measure.table import (
    CHECKING,
    DeviceTable,
    LatencyTable,
    check_table,
    dense_form,
    of_places,
)
from pocketvision.models.arch import ArchSpec
from pocketvision.models.networks import AnySpec, DenseSpec
from pocketvision.models.width_groups import says_narrowed
from pocketvision.record.files import Quantization
from pocketvision.record.timing import Latency, OnTarget
from pocketvision.runtimes.registry import RUNTIMES, get_runtime
from pocketvision.runtimes.runtime import Runtime
from pocketvision.storage import sha256_file

SPREAD_UNCHECKED = 0.1  # of a sum, where too few whole networks say how far sums are off


class Target:
    """A table of a device that is not here, and where it came from.

    path: the file, for messages. sha256: of its content.

    Raises: ConfigError: it holds latencies that are no times.
    """

    def __init__(self, table: DeviceTable, path: str, sha256: str = "") -> None:
        self.table, self.path, self.sha256 = table, path, sha256
        latencies = [one.latency for one in (*table.carriers, *table.wholes)]
        latencies += [one.latency for one in table.dense]
        latencies += [one.latency for one in table.scenes]
        latencies += [one.latency for one in table.layers]
        if not all(0 < latency.median_ms < math.inf for latency in latencies):
            raise ConfigError(
                f"target={path!r} ({table.described}) holds latencies that are no times; profile "
                "the device again."
            )

    @property
    def described(self) -> str:
        """'onnxruntime int8, 1 thread, on Cortex-A76'."""
        return self.table.described

    def told(self, latency: Latency | None) -> OnTarget | None:
        """For the record. latency: by this table; None: of a file that it does not tell of."""
        return None if latency is None else OnTarget(table=self.described, latency=latency)

    def in_words(self, there: Latency, here: Latency) -> str:
        """'5 ms by the table of ..., not measured there (3 ms measured on this machine)'."""
        return (
            f"{format_latency(there.median_ms)} by the table of {self.described}, not measured "
            f"there ({format_latency(here.median_ms)} measured on this machine)"
        )

    def refuse_other(
        self, runtimes: tuple[str, ...], precisions: tuple[str, ...], threads: int
    ) -> None:
        """Raises: ConfigError: asked for is something else than the table is of.

        runtimes, precisions: empty: as the table has it.
        """
        table = self.table
        asked = [
            *(f"--runtime {name}" for name in runtimes if name != table.runtime),
            *(f"--precision {name}" for name in precisions if name != table.precision),
            *([f"--threads {threads}"] if threads != table.threads else []),
        ]
        if asked:
            raise ConfigError(
                f"target={self.path!r} is of {self.described}, and {' '.join(asked)} was asked "
                f"for; ask for --runtime {table.runtime} --precision {table.precision} --threads "
                f"{table.threads}, or give a table of what you want."
            )

    def refuse_another(self, runtime: str | None, precision: str | None, threads: int) -> None:
        """As `refuse_other`, for one of each; None: as the table has it."""
        self.refuse_other(
            () if runtime is None else (runtime,),
            () if precision is None else (precision,),
            threads,
        )

    def refuse_changed(self, sha256: str, path: str | None, out: Path) -> None:
        """Raises: ConfigError: the unfinished run in `out` began with another content of the table.

        sha256, path: of the table that it began with; at another path it is another run.
        """
        if path == self.path and sha256 != self.sha256:
            raise ConfigError(
                f"{out} holds an unfinished run, and {self.path} has changed since it began; put "
                "the table back, give another --out, or remove the folder."
            )


class TargetTable(Target):
    """Latencies of networks on the device of a table; nothing is ever timed.

    spread: share of a sum that sums over this table are off, as a rule.

    Raises: as `Target`; ConfigError: the table holds neither blocks nor segmenters or detectors, or
    not the blocks of its own whole networks.
    """

    def __init__(self, table: DeviceTable, path: str, sha256: str = "") -> None:
        if not (table.carriers or table.dense):
            what = "networks for scenes alone" if table.scenes else "no blocks"
            raise ConfigError(
                f"target={path!r} ({table.described}) holds {what}; profile the device again."
            )
        super().__init__(table, path, sha256)
        self.dense = {dense_form(timed.network): timed.latency for timed in table.dense}
        self.outputs = {timed.network.num_classes for timed in table.dense}
        if table.dense and table.carriers:
            table = of_places(table)  # one table is of one task
        self.sums = LatencyTable(table)
        checkable = len(table.wholes) >= CHECKING
        self.spread = check_table(table).median_error if checkable else SPREAD_UNCHECKED

    @property
    def runtime(self) -> Runtime:
        """What runs the table's files."""
        return get_runtime(self.table.runtime)

    def ensure(self, specs: Iterable[AnySpec]) -> None:
        """Nothing: what the table lacks cannot be timed here."""

    def meet(self, spec: AnySpec, latency: Latency) -> None:
        """Nothing: the scale is that of the table's own whole networks."""

    def latency_ms(self, spec: AnySpec) -> float:
        """The sum of the blocks, scaled.

        Raises: ConfigError: the table lacks a block of this form, or segmenters or detectors with
        so many outputs; or a sum that no network takes.
        """
        if not isinstance(spec, ArchSpec) and spec.num_classes not in self.outputs:
            raise self._lacks(spec)
        found = self.sums.latency_ms(spec)
        if not found > 0:
            raise ConfigError(
                f"target={self.path!r} gives {found:.3g} ms for {spec.label}, which no network "
                "takes: its figures are noise. Profile the device again while it is quiet."
            )
        return found

    def timed_whole(self, spec: AnySpec) -> Latency:
        """The sum as a latency of no runs; of a segmenter or detector what it took as a whole, or,
        where it was narrowed, the sum.

        Raises: as `latency_ms`; ConfigError: the table lacks this segmenter or detector.
        """
        if not isinstance(spec, ArchSpec):
            if (found := self.dense.get(dense_form(spec))) is not None:
                return replace(found, runs=0, noise="")
            if not (self.table.carriers and says_narrowed(spec.backbone.variant)):
                raise self._lacks(spec)
        median_ms = self.latency_ms(spec)
        high_ms = median_ms * (1 + self.spread)
        return Latency(
            median_ms=median_ms,
            p95_ms=high_ms,
            low_ms=median_ms * max(0.0, 1 - self.spread),
            high_ms=high_ms,
            runs=0,
            threads=self.table.threads,
        )

    def _lacks(self, spec: DenseSpec) -> ConfigError:
        return ConfigError(
            f"target={self.path!r} ({self.described}) does not hold {spec.label} with "
            f"{spec.num_classes} outputs a place, in this form; profile the device again for "
            "it, or begin with other --weights."
        )

    def is_whole(self, spec: AnySpec) -> bool:
        """True for a segmenter or detector that was timed there whole."""
        return not isinstance(spec, ArchSpec) and dense_form(spec) in self.dense

    def covers(self, spec: AnySpec) -> bool:
        """True if the table has a block of every form that `spec` has, or all of it."""
        try:
            self.timed_whole(spec)
        except ConfigError:
            return False
        return True


def open_target(path: str | None) -> TargetTable | None:
    """The table at `path`, whose files can be made and run here; None without a path.

    Raises: ConfigError: no such file, or a runtime or precision that this machine does not run.
    ArtefactError: no table, or one of a later version. MissingExtraError: its runtime is not
    installed.
    """
    if path is None:
        return None
    table, sha256 = usable_table(path)
    return TargetTable(table, path, sha256)


def usable_table(path: str) -> tuple[DeviceTable, str]:
    """The table at `path`, whose files can be made and run here, and the SHA-256 of its content.

    Raises: as `open_target`.
    """
    table = read_table(Path(path))
    if table.runtime not in RUNTIMES:
        raise ConfigError(
            f"target={path!r} is of {table.described}, and {table.runtime!r} is no runtime of "
            f"this pocketvision; expected one of {', '.join(RUNTIMES)}."
        )
    runtime = get_runtime(table.runtime)
    try:
        runtime.check()
    except MissingExtraError as error:
        raise MissingExtraError(
            f"target={path!r} is of {table.described}, whose files cannot be made here. {error}"
        ) from error
    if table.precision not in runtime.precisions:
        raise ConfigError(
            f"target={path!r} is of {table.described}, and this machine cannot run "
            f"{table.precision} on {table.runtime} to judge the file; give a table of one of "
            f"{', '.join(runtime.precisions)}."
        )
    return table, sha256_file(Path(path))


def threads_asked(threads: int | None, target: str | None) -> int:
    """Threads of the runtime: those asked for, else those of the table, else one.

    Raises: ConfigError, ArtefactError: the table cannot be read.
    """
    if threads is not None:
        return threads
    return 1 if target is None else read_table(Path(target)).threads


def left_in_float(quantization: Quantization | None) -> int:
    """Layers of the INT8 file that compute in float, which no table of INT8 blocks knows of."""
    if quantization is None or not quantization.rungs[-1].passed:
        return 0
    return len(quantization.rungs[-1].float_layers)

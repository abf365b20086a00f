"""The latency table of a device that is not here, for networks on scenes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pocketvision.errors import ConfigError
from pocketvision.fitting.target_table import SPREAD_UNCHECKED, Target, usable_table
from pocketvision.mapping.config import PRECISIONS, SceneConfig
from pocketvision.measure.layer_sums import LayerSums
from pocketvision.measure.table import DeviceTable
from pocketvision.models.patch import PatchSpec
from pocketvision.models.width_groups import says_narrowed
from pocketvision.record.timing import Latency

PROFILING = "pocketvision profile --scene SCENE --bundle FOLDER"


class SceneTarget(Target):
    """Latencies of one pixel from its window: of networks for scenes as they took there, untrained;
    of narrower forms of these as sums over their layers.

    Raises: as `Target`; ConfigError: the table has no network for scenes.
    """

    def __init__(self, table: DeviceTable, path: str, sha256: str = "") -> None:
        super().__init__(table, path, sha256)
        if not table.scenes:
            raise ConfigError(
                f"target={path!r} ({self.described}) holds no networks for scenes; make a table of "
                f"those for yours: {PROFILING}."
            )
        self.sums = LayerSums(table) if table.layers else None

    def latency_of(self, spec: PatchSpec, bands: int) -> Latency:
        """What it takes there, as a latency of no runs. bands: of the raw spectra.

        Raises: ConfigError: the table lacks this network, and all that it could be narrowed from.
        """
        for timed in self.table.scenes:
            if (timed.network, timed.bands) == (spec, bands):
                return replace(timed.latency, runs=0, noise="")
        if self.sums is not None and self._has_wider(spec, bands):
            return self._by_layers(spec)
        raise ConfigError(
            f"target={self.path!r} ({self.described}) does not hold {spec.label} for {bands} bands "
            f"and {spec.num_classes} classes in this form; make a table of the networks for your "
            f"scene, with the same --window, --components and --attention: {PROFILING}."
        )

    def _has_wider(self, spec: PatchSpec, bands: int) -> bool:
        """Whether there is a network that this one was narrowed from."""
        return says_narrowed(spec.variant) and any(
            timed.bands == bands and _but_widths(timed.network) == _but_widths(spec)
            for timed in self.table.scenes
        )

    def _by_layers(self, spec: PatchSpec) -> Latency:
        median_ms = self.latency_ms(spec)
        high_ms = median_ms * (1 + SPREAD_UNCHECKED)
        return Latency(
            median_ms=median_ms,
            p95_ms=high_ms,
            low_ms=median_ms * (1 - SPREAD_UNCHECKED),
            high_ms=high_ms,
            runs=0,
            threads=self.table.threads,
        )

    def ensure(self, specs: Iterable[PatchSpec]) -> None:
        """Nothing: what the table lacks cannot be timed here."""

    def meet(self, spec: PatchSpec, latency: Latency) -> None:
        """Nothing: the scale is that of the table's own networks."""

    def latency_ms(self, spec: PatchSpec) -> float:
        """The sum of the layers, scaled. Raises: ConfigError: the table has none like these."""
        if self.sums is None:
            raise ConfigError(
                f"target={self.path!r} ({self.described}) holds networks for scenes whole alone, "
                f"and narrowing needs their layers; make the table again: {PROFILING}."
            )
        return self.sums.latency_ms(spec)

    def settled(self, config: SceneConfig) -> SceneConfig:
        """The run in the table's precision and threads. Raises: ConfigError: others were asked for.

        All precisions are what is asked for where nothing is.
        """
        asked = () if config.precisions == PRECISIONS else config.precisions
        self.refuse_other((), asked, config.threads)
        return replace(config, precisions=(self.table.precision,))


def _but_widths(spec: PatchSpec) -> tuple[str, int, int, int]:
    """What a narrower form has in common with the network."""
    return spec.name, spec.bands, spec.window, spec.num_classes


def open_scene_target(path: str | None) -> SceneTarget | None:
    """The table at `path`; None without a path.

    Raises: as `open_target` of photos; ConfigError: it holds no networks for scenes.
    """
    if path is None:
        return None
    table, sha256 = usable_table(path)
    return SceneTarget(table, path, sha256)

"""The latency table of a device that is not here, for networks on scenes."""

from __future__ import annotations

from dataclasses import replace

from pocketvision.errors import ConfigError
from pocketvision.fitting.target_table import Target, usable_table
from pocketvision.mapping.config import PRECISIONS, SceneConfig
from pocketvision.measure.table import DeviceTable
from pocketvision.models.patch import PatchSpec
from pocketvision.record.timing import Latency

PROFILING = "pocketvision profile --scene SCENE --bundle FOLDER"


class SceneTarget(Target):
    """Latencies of one pixel from its window, as networks for scenes took them there, untrained.

    Raises: as `Target`; ConfigError: the table has no network for scenes.
    """

    def __init__(self, table: DeviceTable, path: str, sha256: str = "") -> None:
        super().__init__(table, path, sha256)
        if not table.scenes:
            raise ConfigError(
                f"target={path!r} ({self.described}) holds no networks for scenes; make a table of "
                f"those for yours: {PROFILING}."
            )

    def latency_of(self, spec: PatchSpec, bands: int) -> Latency:
        """What it took there, as a latency of no runs. bands: of the raw spectra.

        Raises: ConfigError: the table lacks this network.
        """
        for timed in self.table.scenes:
            if (timed.network, timed.bands) == (spec, bands):
                return replace(timed.latency, runs=0, noise="")
        raise ConfigError(
            f"target={self.path!r} ({self.described}) does not hold {spec.label} for {bands} bands "
            f"and {spec.num_classes} classes in this form; make a table of the networks for your "
            f"scene, with the same --window, --components and --attention: {PROFILING}."
        )

    def settled(self, config: SceneConfig) -> SceneConfig:
        """The run in the table's precision and threads. Raises: ConfigError: others were asked for.

        All precisions are what is asked for where nothing is.
        """
        asked = () if config.precisions == PRECISIONS else config.precisions
        self.refuse_other((), asked, config.threads)
        return replace(config, precisions=(self.table.precision,))


def open_scene_target(path: str | None) -> SceneTarget | None:
    """The table at `path`; None without a path.

    Raises: as `open_target` of photos; ConfigError: it holds no networks for scenes.
    """
    if path is None:
        return None
    table, sha256 = usable_table(path)
    return SceneTarget(table, path, sha256)

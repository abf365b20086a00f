"""Latency of a patch classifier as the sum of its layers, each timed by itself on some device.

What stands between layers (slices, sums, gates) is left out; whole networks set the scale.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from pocketvision.errors import ConfigError
from pocketvision.measure.table import DeviceTable
from pocketvision.models.patch import PatchSpec
from pocketvision.models.patch_layers import LayerForm, layer_forms


class LayerSums:
    """Sums over the layers of a table, scaled by its whole networks, one at least; a layer that was
    not timed lies between those that were.

    Raises: ConfigError: as `latency_ms`, for its own networks.
    """

    def __init__(self, table: DeviceTable) -> None:
        self.described = table.described
        self.known_ms = {timed.form: timed.latency.median_ms for timed in table.layers}
        self._alike: dict[Hashable, list[tuple[int, float]]] = {}
        for form, median_ms in self.known_ms.items():
            self._alike.setdefault(form.alike, []).append((form.macs, median_ms))
        ratios = [one.latency.median_ms / self.sum_ms(one.network) for one in table.scenes]
        self.scale = float(np.median(ratios))

    def latency_ms(self, spec: PatchSpec) -> float:
        """The sum, scaled. Raises: ConfigError: a layer whose like was never timed."""
        return self.scale * self.sum_ms(spec)

    def sum_ms(self, spec: PatchSpec) -> float:
        """The plain sum. Raises: as `latency_ms`."""
        return sum(self._median_ms(form) for form in layer_forms(spec))

    def _median_ms(self, form: LayerForm) -> float:
        """As measured, or between the nearest with less and with more work. Less work than any that
        was timed takes no less; more takes more in proportion.
        """
        if form in self.known_ms:
            return self.known_ms[form]
        alike = self._alike.get(form.alike)
        if alike is None:
            raise ConfigError(
                f"the table ({self.described}) holds no layer like {form}; profile the device "
                "again for this network."
            )
        work, times_ms = np.array(sorted(alike)).T
        beyond = max(1.0, form.macs / work[-1])
        return float(beyond * np.interp(form.macs, work, times_ms))

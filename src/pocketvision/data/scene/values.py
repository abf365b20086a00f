"""Values that mark pixels without a measurement, declared or not, found while a cube is read."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.scene import Mask, Scene, equals


class ValueTally:
    """Counts of pixels with suspect values, over the rows of a cube.

    partial: pixels with the no-data value in some of their bands; partial_bands: (B,) in which.
    zero: pixels that are 0 in every band, where that is not the no-data value.
    """

    def __init__(self, scene: Scene) -> None:
        height, width, bands = scene.cube.shape
        self.partial = 0
        self.partial_bands: Mask = np.zeros(bands, np.bool_)
        self.zero = 0
        self._pixels = height * width
        self._no_data = scene.no_data
        self._not_finite = 0
        self._constant: Counter[float] = Counter()  # negative values: pixels all of that value

    def add(self, spectra: NDArray[Any]) -> None:
        """Spectra (rows, W, B)."""
        finite = np.isfinite(spectra).all(axis=-1)
        self._not_finite += int((~finite).sum())
        declared = equals(spectra, self._no_data)
        whole = declared.all(axis=-1)
        partial = declared.any(axis=-1) & ~whole & finite
        self.partial += int(partial.sum())
        self.partial_bands |= declared[partial].any(axis=0)
        first = spectra[..., 0]
        same = (first <= 0) & (spectra == first[..., None]).all(axis=-1) & finite & ~whole
        self.zero += int((same & (first == 0)).sum())
        values, counts = np.unique(first[same & (first < 0)], return_counts=True)
        self._constant.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def faults(self) -> list[str]:
        """Sentences on values that mark missing pixels without being declared."""
        found = []
        if self._not_finite and self._no_data is None:
            found.append(
                f"{self._not_finite:,} of {self._pixels:,} pixels have NaN or infinite values; if "
                f"they are without a measurement, say so with --no-data nan."
            )
        if self._constant:
            value, count = max(self._constant.items(), key=lambda pair: (pair[1], pair[0]))
            found.append(
                f"{count:,} of {self._pixels:,} pixels have {value:.17g} in every band; "
                f"{self.advice(value)}"
            )
        return found

    def advice(self, value: float) -> str:
        """What to do about pixels that have one value in every band."""
        if self._no_data is None or np.isnan(self._no_data):
            return f"if they are without a measurement, say so with --no-data {value:.17g}."
        return (
            f"the declared no-data value is {self._no_data:.17g}: if they are without a "
            "measurement, give them that value."
        )

"""Wavelengths of bands in nm, whatever the unit that a file has them in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

NANOMETRES = {  # in one of each unit
    "nanometers": 1.0,
    "nanometres": 1.0,
    "nm": 1.0,
    "micrometers": 1000.0,
    "micrometres": 1000.0,
    "microns": 1000.0,
    "um": 1000.0,
    "µm": 1000.0,
    "μm": 1000.0,
}
UNKNOWN_UNITS = ("", "unknown")
SMALLEST_NM = 100.0  # no optical band lies below, so smaller numbers without a unit are µm

NUMBER_AND_UNIT = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(NANOMETRES)})\b", re.IGNORECASE)


def in_nm(values: Sequence[float], unit: str) -> tuple[float, ...]:
    """Wavelengths of all bands; empty in a unit that is no length."""
    unit = unit.lower()
    if unit in UNKNOWN_UNITS and values:
        factor = 1.0 if max(values) >= SMALLEST_NM else NANOMETRES["microns"]
    elif unit in NANOMETRES:
        factor = NANOMETRES[unit]
    else:
        return ()
    return tuple(round(value * factor, 6) for value in values)


def from_tags(bands: Sequence[Mapping[str, str]]) -> tuple[float, ...]:
    """Of the tags that each band has in a file of GDAL's; empty unless all bands have them alike.

    wavelength, wavelength_units: as GDAL keeps those of ENVI files. CENTRAL_WAVELENGTH_UM: of its
    domain IMAGERY. description: with a number and a unit in it, such as "400.5 Nanometers".
    """
    for key, unit_key, unit in (
        ("wavelength", "wavelength_units", ""),
        ("CENTRAL_WAVELENGTH_UM", "", "um"),
    ):
        values = [_number(tags.get(key, "")) for tags in bands]
        known = [value for value in values if value is not None]
        if len(known) == len(bands):
            return in_nm(known, bands[0].get(unit_key, unit))
    found = [NUMBER_AND_UNIT.search(tags.get("description", "")) for tags in bands]
    described = [in_nm([float(match[1])], match[2])[0] for match in found if match]
    return tuple(described) if len(described) == len(bands) else ()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None

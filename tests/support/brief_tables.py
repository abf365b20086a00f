"""Latency tables that are timed in no time, for tests of what is done with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketvision.compress import netadapt
from pocketvision.fitting import profile_config
from pocketvision.measure import local_table
from pocketvision.measure.latency import LatencyProtocol


def brief_tables(patch: pytest.MonkeyPatch, cache: Path, wholes: int) -> None:
    """Two rounds of one run, `wholes` networks that check a table, and a cache of its own; of
    segmenters and detectors, no narrower forms."""
    brief = LatencyProtocol(rounds=2, min_runs=1, seconds=0.0, retries=0)
    patch.setattr(local_table, "CARRIERS", brief)
    patch.setattr(local_table, "WHOLES", brief)
    patch.setattr(local_table, "ANCHORING", brief)
    patch.setattr(profile_config, "WHOLES", wholes)
    patch.setattr(netadapt, "NARROWED", ())
    patch.setenv("POCKETVISION_CACHE", str(cache))

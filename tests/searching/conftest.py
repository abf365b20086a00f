"""Files of searches are made quickly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from quick import quick_files


@pytest.fixture(scope="session", autouse=True)
def _quick_files() -> Iterator[None]:
    with quick_files():
        yield

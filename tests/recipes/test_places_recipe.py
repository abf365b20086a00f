"""The recipe of segmentation and detection, on pictures of rectangles."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
from shapes import write_boxes, write_masks

RECIPES = Path(__file__).parents[2] / "recipes"


def load(name: str) -> ModuleType:
    """A recipe as a module: its folder is no package, as scripts run from it."""
    sys.path.insert(0, str(RECIPES))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(RECIPES))


places = load("places")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segment", "detect"])
def test_a_page_has_a_row_for_every_network(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = {"segment": write_masks, "detect": write_boxes}[task]
    data, page = writer(tmp_path / "data"), tmp_path / "page.md"
    words = (task, data, "--resolution", "96", "--minutes", "1.5", "--networks")
    rest = ("mobilenet_v3_small", "--work", tmp_path / "work", "--page", page)
    monkeypatch.setattr(sys, "argv", ["places.py", *map(str, (*words, *rest))])
    places.main()
    text = page.read_text()
    assert "mobilenet_v3_small, from scratch" in text
    assert {"segment": "mIoU, INT8", "detect": "AP50"}[task] in text
    assert "**Shortened**" in text
    begun = page.stat().st_mtime_ns
    places.main()  # nothing is fitted again
    assert page.read_text() == text
    assert page.stat().st_mtime_ns > begun

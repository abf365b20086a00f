"""The recipe of segmentation and detection, on pictures of rectangles."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from scripts import load
from shapes import write_boxes, write_masks

places = load("places")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segment", "detect"])
def test_a_page_has_a_row_for_every_network(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = {"segment": write_masks, "detect": write_boxes}[task]
    data, page = writer(tmp_path / "data"), tmp_path / "page.md"
    words = (task, data, "--resolution", "96", "--minutes", "1.5", "--networks")
    rest = ("mobilenet_v3_small", "--narrow", 0.8, "--work", tmp_path / "work", "--page", page)
    monkeypatch.setattr(sys, "argv", ["places.py", *map(str, (*words, *rest))])
    places.main()
    text = page.read_text()
    assert "mobilenet_v3_small, from scratch" in text
    assert "mobilenet_v3_small, narrowed" in text
    assert "NetAdapt narrowed" in text
    assert {"segment": "mIoU, INT8", "detect": "AP50"}[task] in text
    assert "**Shortened**" in text
    begun = page.stat().st_mtime_ns
    places.main()  # nothing is fitted again
    assert page.read_text() == text
    assert page.stat().st_mtime_ns > begun

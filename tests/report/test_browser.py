"""The page in a real browser: no complaint, no sideways scroll, and its script at work."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from records import HOSTILE, full_record, many_classes
from whole_records import missed_record, quantization_record, whole_record

from pocketvision.record.run import Record
from pocketvision.report.html import render_report
from pocketvision.report.quantized_page import render_quantized
from pocketvision.report.rows import class_rows

pytestmark = pytest.mark.slow

RECORDS: dict[str, Callable[[], Record]] = {
    "whole": whole_record,
    "first schema": full_record,
    "nothing shipped": missed_record,
    "hostile names": lambda: whole_record(full_record(classes=HOSTILE)),
    "many classes": lambda: whole_record(full_record(classes=many_classes(300), per_class=10)),
}
SCHEMES = {"light": "1", "dark": "0"}
WIDTHS = (360, 768, 1280, 1600)

# The page lies in frames: a window cannot be as narrow as a phone.
AROUND = """<!doctype html><meta charset="utf-8"><pre id="seen"></pre><script>
const frames = WIDTHS.map((width) => {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width: ${width}px; height: 900px; border: 0`;
  frame.src = "report.html";
  document.body.append(frame);
  return new Promise((done) => frame.addEventListener("load", () => done(frame)));
});
Promise.all(frames).then((all) => {
  document.getElementById("seen").textContent = JSON.stringify(all.map(look));
});
function look(frame) {
  const page = frame.contentDocument, root = page.documentElement;
  const shown = (e) => e.getClientRects().length > 0;
  const mark = [...page.querySelectorAll("[data-tip]")].find(shown);
  mark.dispatchEvent(new frame.contentWindow.Event("pointerover", { bubbles: true }));
  const button = page.querySelector("#classes-table th button");
  if (button) button.click();
  const search = page.querySelector("input[data-search]");
  const rows = [...page.querySelectorAll("#classes-table tbody tr")];
  const table = page.querySelector("#classes-table") || page;
  const first = table.querySelector("tbody th").textContent;
  if (search) { search.value = "ANT 0"; search.dispatchEvent(new Event("input")); }
  return {
    width: root.clientWidth,
    needed: root.scrollWidth,
    paper: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
    script: root.className,
    tip: page.querySelector(".tip").textContent,
    charts: [...page.querySelectorAll(".chart svg[viewBox]")].filter(shown).length,
    images: [...page.images].map((i) => i.naturalWidth),
    small: [...page.querySelectorAll(".chart text")].filter(shown)
      .map((t) => t.getBoundingClientRect()).filter((r) => Math.min(r.width, r.height) < 5).length,
    sorted: button ? button.closest("th").getAttribute("aria-sort") : null,
    first,
    found: search ? rows.filter((row) => !row.hidden).length : null,
    unlabelled: [...page.querySelectorAll("[tabindex]")]
      .filter((e) => !e.hasAttribute("aria-label")).length,
  };
}
</script>"""


def look(page: str, scheme: str, folder: Path) -> list[dict[str, Any]]:
    """What a page looks like in Chromium at every width; fails where it complains."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on PATH")
    (folder / "report.html").write_text(page, encoding="utf-8")
    around = folder / "around.html"
    around.write_text(AROUND.replace("WIDTHS", str(list(WIDTHS)), 1), encoding="utf-8")
    command = [
        chromium,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--allow-file-access-from-files",
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
        "--virtual-time-budget=8000",
        "--dump-dom",
        around.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None
    seen: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    return seen


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", RECORDS)
def test_a_browser_shows_it_without_complaint(name: str, scheme: str, tmp_path: Path) -> None:
    record = RECORDS[name]()
    seen = look(render_report(record), scheme, tmp_path)
    assert [one["width"] for one in seen] == pytest.approx(list(WIDTHS), abs=20)
    for one in seen:
        assert one["needed"] <= one["width"], "the page scrolls sideways"
        assert one["script"] == "js"
        assert one["tip"]
        assert one["charts"] == 4 + sum(
            found is not None
            for found in (
                record.calibration,
                record.quantization,
                record.search,
                record.narrowing,
            )
        )
        assert all(one["images"])
        assert len(one["images"]) == len(record.mistakes)
        assert one["small"] == 0
        assert one["sorted"] == "ascending"
        assert one["first"] == min(record.data.classes, key=str.casefold) or name.startswith("host")
        assert one["unlabelled"] == 0
    red, green, blue = (int(part) for part in re.findall(r"\d+", seen[0]["paper"])[:3])
    assert (red + green + blue > 384) == (scheme == "light")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_browser_shows_the_page_of_quantize(scheme: str, tmp_path: Path) -> None:
    for one in look(render_quantized(quantization_record()), scheme, tmp_path):
        assert one["needed"] <= one["width"], "the page scrolls sideways"
        assert one["script"] == "js"
        assert one["tip"]
        assert (one["charts"], one["small"], one["unlabelled"]) == (1, 0, 0)


def test_the_search_leaves_the_rows_that_hold_the_words(tmp_path: Path) -> None:
    classes = many_classes(300)
    record = full_record(classes=classes, per_class=10)
    held = sum(
        any("ant 0" in name for name in (row.name, row.taken_for)) for row in class_rows(record)
    )
    assert look(render_report(record), "light", tmp_path)[0]["found"] == held

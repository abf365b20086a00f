"""The examples in README and docs run, and their commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from pocketvision.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page share one namespace, as a reader would type them."""
    code = "\n".join(blocks(page, "python"))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page.name, "exec"), {"__name__": "example"})


def commands() -> list[str]:
    lines = [
        line.split("#")[0].strip()
        for page in PAGES
        for block in blocks(page, "console")
        for line in block.splitlines()
    ]
    return [line for line in lines if line.startswith("pocketvision ")]


def test_pages_show_commands() -> None:
    assert len(commands()) >= 7


@pytest.mark.parametrize("line", commands())
def test_commands_parse(line: str) -> None:
    """Every option that a page shows is one that the command takes."""
    words = shlex.split(line)[1:]
    group = typer.main.get_command(app)
    verb = group.commands[words[0]]  # type: ignore[attr-defined]
    verb.make_context(words[0], words[1:])  # parses, and runs nothing


def test_links_between_pages_lead_somewhere() -> None:
    others = [ROOT / "CONTRIBUTING.md", *ROOT.glob("recipes/*.md"), *ROOT.glob("benchmarks/*.md")]
    for page in [*PAGES, *others]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"

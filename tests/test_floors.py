"""A file imports only from lower floors or its own room, and nothing imports in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pocketvision

PACKAGE = Path(pocketvision.__file__).parent

# Rooms from the ground up; those on one line do not see each other.
FLOORS = (
    (
        *("errors", "cpu", "budget", "storage", "progress"),
        *("record", "scene_record", "intervals", "boxes"),
    ),
    ("nn", "data", "report"),
    ("models",),
    ("train", "runtimes"),
    ("measure",),
    ("compress", "workers"),
    ("fitting",),
    ("narrowing",),
    ("mapping", "searching"),
    ("cli",),
    ("__main__",),
)


def files() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def imported_modules(path: Path) -> set[str]:
    """Dotted names of ours that a file imports, lazily or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pocketvision"):
            assert node.module is not None
            for alias in node.names:
                deeper = PACKAGE.joinpath(*node.module.split(".")[1:], alias.name)
                is_module = deeper.with_suffix(".py").exists() or deeper.is_dir()
                found.add(f"{node.module}.{alias.name}" if is_module else node.module)
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("pocketvision")}
        elif isinstance(node, ast.Constant) and _is_module(node.value):
            # A module named in a string is a lazy import through importlib.
            found.add(str(node.value))
    return found


def _is_module(name: object) -> bool:
    if not isinstance(name, str) or not name.startswith("pocketvision."):
        return False
    return PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py").exists()


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def module_name(path: Path) -> str:
    return ".".join(("pocketvision", *path.relative_to(PACKAGE).with_suffix("").parts))


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_file_imports_only_from_lower_floors_or_its_own_room(path: Path) -> None:
    room = room_of(module_name(path))
    for module in imported_modules(path):
        if module == "pocketvision":  # the version
            continue
        other = room_of(module)
        same_ground = floor_of(room) == floor_of(other) == 0
        assert other == room or same_ground or floor_of(other) < floor_of(room), (
            f"{path.name} (floor {floor_of(room)}) imports {module} (floor {floor_of(other)})"
        )


def test_no_two_files_import_each_other_in_a_circle() -> None:
    graph = {module_name(p): imported_modules(p) - {"pocketvision"} for p in files()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"circle: {' -> '.join((*trail, module))}"
        if module in done:
            return
        for other in graph.get(module, set()):
            visit(other, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_every_file_stands_on_a_floor() -> None:
    rooms = {room_of(module_name(p)) for p in files()}
    assert rooms <= {room for floor in FLOORS for room in floor}


def test_rooms_hold_nothing_but_a_docstring_in_their_init() -> None:
    for path in PACKAGE.glob("*/__init__.py"):
        body = ast.parse(path.read_text()).body
        assert len(body) == 1, path
        assert isinstance(body[0], ast.Expr), path

"""The public face: sorted, complete, and cheap to import."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pocketvision

ROOT = Path(__file__).parents[1]


def test_all_is_sorted_and_every_name_loads() -> None:
    assert pocketvision.__all__ == sorted(pocketvision.__all__)
    assert all(getattr(pocketvision, name) is not None for name in pocketvision.__all__)
    assert dir(pocketvision) == pocketvision.__all__


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pocketvision' has no attribute 'nothing'"):
        _ = pocketvision.nothing


def test_rooms_do_not_hide_public_functions() -> None:
    """A submodule of the same name would replace the function once it is imported."""
    rooms = {path.name for path in Path(pocketvision.__file__).parent.iterdir() if path.is_dir()}
    assert not rooms & set(pocketvision.__all__)


@pytest.mark.parametrize(
    "code",
    [
        "import pocketvision",
        "import pocketvision as pv; pv.list_models('mobilenet*'); pv.Budget()",
        "import pocketvision.cli.app",
    ],
)
def test_importing_does_not_import_torch(code: str) -> None:
    check = f"{code}\nimport sys\nassert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_version_is_the_one_in_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert pocketvision.__version__ == project["version"]

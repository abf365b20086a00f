"""Which files make up a scene: by their names, and by the shapes of what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pocketvision.data.scene.envi import envi_shapes, read_envi
from pocketvision.data.scene.envi_header import header_of, is_header
from pocketvision.data.scene.facts import Raster, Shape, sizes
from pocketvision.data.scene.geotiff import geotiff_shapes, read_geotiff
from pocketvision.data.scene.matlab import mat_shapes, read_mat
from pocketvision.data.scene.plain import npy_shapes, png_shapes, read_npy, read_png
from pocketvision.errors import DataError


class Format(NamedTuple):
    """How a file is read: the shapes of what it holds by name, and one of them."""

    shapes: Callable[[Path], dict[str, Shape]]
    read: Callable[[Path, str], Raster]


FORMATS = {  # by ending
    ".npy": Format(npy_shapes, read_npy),
    ".mat": Format(mat_shapes, read_mat),
    ".hdr": Format(envi_shapes, read_envi),
    ".tif": Format(geotiff_shapes, read_geotiff),
    ".tiff": Format(geotiff_shapes, read_geotiff),
    ".png": Format(png_shapes, read_png),
}

LAYOUT = """Expected a cube and labels as .npy, .mat, .hdr (ENVI) or .tif; labels also as .png:
  scene/
    cube.npy       height x width x bands
    labels.npy     height x width: 0 unlabelled, 1, 2, ...
    scene.json     (optional) {"classes": {"1": "corn"}, "no_data": -9999}"""


class Source(NamedTuple):
    """A file that can be read, and the name of what is meant inside; "" where it need not be."""

    path: Path
    variable: str

    def __str__(self) -> str:
        return f"{self.path}:{self.variable}" if self.variable else str(self.path)

    def shapes(self) -> dict[str, Shape]:
        """What the file holds, by name; only the variable that is meant, if one is.

        Raises: DataError: no such variable.
        """
        with readable(self.path):
            found = FORMATS[self.path.suffix.lower()].shapes(self.path)
        if not self.variable:
            return found
        if self.variable not in found:
            raise DataError(
                f"{str(self.path)!r} has no cube or labels called {self.variable!r}; "
                f"it has {_listed(found)}."
            )
        return {self.variable: found[self.variable]}

    def read(self) -> Raster:
        """The raster that is meant."""
        with readable(self.path):
            return FORMATS[self.path.suffix.lower()].read(self.path, self.variable)


@contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """Errors of the file system, and of libraries that raise them, as ours.

    Raises: DataError: naming the file.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{str(error.filename or path)!r} cannot be read ({error.strerror or error}); "
            f"check the file and its permissions."
        ) from error


def in_folder(root: Path) -> tuple[Source, Source | None]:
    """The files of a folder by name, cube.* and labels.*; else by what they hold.

    Raises: DataError: an empty folder, no cube, several, or several label maps.
    """
    if not any(root.iterdir()):
        raise DataError(f"{str(root)!r} is empty; put a cube in it, such as cube.npy or cube.hdr.")
    files = [Source(path, "") for path in sorted(root.iterdir()) if _is_readable(path)]
    cubes = [file for file in files if _stem(file) == "cube"] or [
        file for file in files if file.path.suffix.lower() != ".png" and _cubes(file.shapes())
    ]
    labels = [file for file in files if _stem(file) == "labels"] or [
        file for file in files if file not in cubes and _label_maps(file.shapes())
    ]
    if not cubes:
        raise DataError(f"{str(root)!r} has no file with a cube.\n{LAYOUT}")
    for what, found in (("cube", cubes), ("label map", labels)):
        if len(found) > 1:
            names = ", ".join(file.path.name for file in found)
            raise DataError(
                f"{str(root)!r} has more than one {what}: {names}; name one of them, "
                f"or give the files themselves.\n{LAYOUT}"
            )
    return cubes[0], labels[0] if labels else None


def _is_readable(path: Path) -> bool:
    suffix = path.suffix.lower()
    if not path.is_file() or path.name.startswith(".") or suffix not in FORMATS:
        return False
    return suffix != ".hdr" or is_header(path)


def _stem(source: Source) -> str:
    return source.path.name.partition(".")[0].lower()


def source_of(path: str | Path) -> Source:
    """A file, and the variable that follows a .mat file's name after a colon.

    Raises: DataError: no such file, a folder, or an ending that no format has.
    """
    name, colon, variable = str(path).rpartition(":")
    if not (colon and name.lower().endswith(".mat")):
        name, variable = str(path), ""
    file = Path(name)
    if not file.exists():
        raise DataError(f"{name!r} does not exist; give a cube or label file, or a folder.")
    if file.is_dir():
        raise DataError(f"{name!r} is a folder; give a file.")
    if file.suffix.lower() in FORMATS:
        return Source(file, variable)
    if header := header_of(file):
        return Source(header, variable)
    raise DataError(
        f"{name!r} has an unknown ending, and no ENVI header (.hdr) beside it; "
        f"expected one of {' '.join(FORMATS)}."
    )


def choose_cube(source: Source) -> tuple[Source, Shape]:
    """The cube that is meant, and its shape.

    Raises: DataError: unless the file holds exactly one, or names one of several.
    """
    found = source.shapes()
    cubes = _cubes(found)
    if source.path.suffix.lower() == ".png" or not cubes:
        raise DataError(
            f"{str(source)!r} holds no cube, height x width x bands; it has {_listed(found)}."
        )
    if len(cubes) > 1:
        raise _several(source, "cube", cubes)
    ((variable, shape),) = cubes.items()
    return Source(source.path, variable), shape


def choose_labels(source: Source | None, cube: Source, shape: Shape) -> Source | None:
    """The label map that fits the cube: of its own file, or of the cube's; None without one.

    Raises: DataError: none in a file that was given for it, several, or one that does not fit.
    """
    here = source or Source(cube.path, "")
    found = here.shapes()
    maps = _label_maps(found)
    fitting = {name: size for name, size in maps.items() if size[:2] == shape[:2]}
    if len(fitting) > 1:
        raise _several(here, "label map", fitting)
    if fitting:
        return Source(here.path, next(iter(fitting)))
    if source is None:
        return None
    if not maps:
        raise DataError(
            f"{str(source)!r} holds no label map, height x width with one number for each pixel; "
            f"it has {_listed(found)}."
        )
    raise _misfit(source, maps, shape)


def _misfit(source: Source, maps: dict[str, Shape], shape: Shape) -> DataError:
    height, width, bands = shape
    hint = "give the labels of this cube"
    if (width, height, 1) in maps.values():
        hint = "transposed they would fit"
    elif (width, bands, 1) in maps.values():
        hint = "they would fit if the cube's first axis, its bands it seems, came last"
    return DataError(
        f"The cube is {sizes(shape)}, but the labels in {str(source)!r} are "
        f"{' and '.join(sizes(size[:2]) for size in maps.values())}; {hint}."
    )


def _several(source: Source, what: str, found: dict[str, Shape]) -> DataError:
    return DataError(
        f"{str(source.path)!r} has more than one {what}: {_listed(found)}; "
        f"name one, such as {source.path.name}:{next(iter(found))}."
    )


def _cubes(found: dict[str, Shape]) -> dict[str, Shape]:
    return {name: shape for name, shape in found.items() if shape[2] > 1}


def _label_maps(found: dict[str, Shape]) -> dict[str, Shape]:
    return {name: shape for name, shape in found.items() if shape[2] == 1}


def _listed(found: dict[str, Shape]) -> str:
    """Names and shapes for a message; one band is not worth a mention."""
    entries = [
        f"{name} {sizes(shape if shape[2] > 1 else shape[:2])}".strip()
        for name, shape in found.items()
    ]
    return ", ".join(entries) or "nothing of the kind"

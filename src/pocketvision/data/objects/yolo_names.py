"""The classes of a YOLO folder: `names` in data.yaml, or the lines of classes.txt."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pocketvision.data.objects.places import read_text
from pocketvision.errors import DataError

CLASSES = "classes.txt"
MAX_NAMES_BYTES = 1_000_000

_FORMS = """names may be written in one of these ways:
  names: [cat, 'dog']      names:            names:
                             - cat             0: cat
                             - dog             1: dog"""

# Possessive throughout, so that no text takes long.
_QUOTED = r"""'(?:[^']|'')*+'|"(?:[^"\\]|\\.)*+\""""
_TEXT = re.compile(rf"({_QUOTED})\s*+(?:#.*+)?", re.DOTALL)
_ITEM = re.compile(rf"\s*+(?:(\d+)\s*+:)?+\s*+({_QUOTED}|[^,\[\]{{}}'\"][^,\[\]{{}}]*+)\s*+")
_END = re.compile(r"\s*+[\]}]")
_LINE = re.compile(r"(?:(\d+)\s*+:\s++)?+(.++)")
_SPECIAL = tuple("'\"[]{}#&*!|>%@`,?:-")  # what a plain text of YAML does not begin with
_ESCAPES = {'\\"': '"', "\\\\": "\\"}


def class_names(root: Path, folders: Iterable[Path]) -> tuple[str, ...]:
    """In the order of the file: data.yaml in the root, else classes.txt there or in `folders`.

    Raises: DataError: there is neither, files contradict each other, or one cannot be read.
    """
    file = yaml_file(root)
    if file is not None:
        return parse_yaml(read_text(file, MAX_NAMES_BYTES), str(file))
    lists = [folder / CLASSES for folder in dict.fromkeys((root, *folders))]
    lists = [path for path in lists if path.is_file()]
    if not lists:
        raise DataError(
            f"{str(root)!r} has neither data.yaml nor {CLASSES}, and YOLO's labels are numbers "
            f"alone; add one with the names of the classes. In data.yaml, {_FORMS}"
        )
    names = {path: _lines(path) for path in lists}
    for path in lists[1:]:
        if names[path] != names[lists[0]]:
            raise DataError(
                f"{str(lists[0])!r} and {str(path)!r} name different classes; keep one."
            )
    return names[lists[0]]


def yaml_file(root: Path) -> Path | None:
    """data.yaml, or the only other YAML file. Raises: DataError: there are several others."""
    files = [
        path
        for path in sorted(root.iterdir())
        if path.suffix.lower() in (".yaml", ".yml") and not path.name.startswith(".")
    ]
    named = [path for path in files if path.stem.lower() == "data"] or files
    if len(named) > 1:
        raise DataError(
            f"{str(root)!r} has both {named[0].name!r} and {named[1].name!r}; call the one that "
            f"names the classes data.yaml, or keep it alone."
        )
    return named[0] if named else None


def parse_yaml(text: str, source: str) -> tuple[str, ...]:
    """The `names` of a data.yaml; other keys are not needed, as folders tell the splits.

    Raises: DataError: names that are missing or written otherwise, another number of them than
        `nc`, or splits given by lists of images.
    """
    lines = text.splitlines()
    for line in lines:
        if found := re.match(r"(train|val|test)\s*:\s*(\S[^#]*\.txt)\b", line):
            raise DataError(
                f"{source!r} gives the images of {found[1]} in a list, {found[2]!r}; lists are not "
                f"read. Put the images into images/train/, images/val/ and images/test/."
            )
    starts = [number for number, line in enumerate(lines) if re.match(r"names\s*:", line)]
    if len(starts) != 1:
        raise DataError(f"{source!r} has {len(starts)} keys 'names'; expected one. {_FORMS}")
    first = lines[starts[0]].partition(":")[2].strip()
    rest = lines[starts[0] + 1 :]
    if first[:1] in ("[", "{"):
        names = _flow("\n".join([first, *rest]), source)
    elif first and not first.startswith("#"):
        raise _other_form(first, source)
    else:
        names = _block(rest, source)
    _check(names, source)
    counts = [int(found[1]) for line in lines if (found := re.match(r"nc\s*:\s*(\d{1,9})\b", line))]
    if counts and counts[0] != len(names):
        raise DataError(
            f"{source!r} says nc: {counts[0]}, but has {len(names)} names; correct one of both."
        )
    return tuple(names)


def _lines(path: Path) -> tuple[str, ...]:
    """The names of a classes.txt."""
    text = read_text(path, MAX_NAMES_BYTES).rstrip()
    names = [line.strip() for line in text.splitlines()]
    _check(names, str(path))
    return tuple(names)


def _check(names: list[str], source: str) -> None:
    if not names or "" in names:
        found = "no names of classes" if not names else f"no name for class {names.index('')}"
        raise DataError(f"{source!r} has {found}; expected one for each number from 0 up.")
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        if first.setdefault(name, number) != number:
            raise DataError(
                f"{source!r} calls both class {first[name]} and class {number} {name!r}; rename "
                f"one."
            )


def _flow(text: str, source: str) -> list[str]:
    """[cat, dog] or {0: cat, 1: dog}, over one line or several."""
    place, after = 1, (",", "]" if text[0] == "[" else "}")
    pairs: list[tuple[str | None, str]] = []
    while (end := _END.match(text, place)) is None or not end[0].endswith(after[1]):
        found = _ITEM.match(text, place)
        if found is None or text[found.end() : found.end() + 1] not in after:
            raise _other_form(text[place:], source)
        pairs.append((found[1], _text(found[2], source)))
        place = found.end() + (text[found.end()] == ",")
    return _in_order(pairs, text[0] == "[", source)


def _block(lines: list[str], source: str) -> list[str]:
    """The lines of "- cat" or of "0: cat" below the key, to the next key."""
    pairs: list[tuple[str | None, str]] = []
    are_list = None
    for line in lines:
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        is_item = bare.startswith("- ")
        if not is_item and line[0] not in " \t":
            break
        are_list = is_item if are_list is None else are_list
        found = _LINE.fullmatch(bare.removeprefix("- ").strip())
        if found is None or is_item != are_list:
            raise _other_form(bare, source)
        pairs.append((found[1], _text(found[2], source)))
    return _in_order(pairs, bool(are_list), source)


def _text(written: str, source: str) -> str:
    """A text of YAML: 'in quotes', "in quotes", or plain, without the comment behind it."""
    if quoted := _TEXT.fullmatch(written):
        inner = quoted[1][1:-1]
        if written[0] == "'":
            return inner.replace("''", "'").strip()
        unknown = set(re.findall(r"\\.", inner, re.DOTALL)) - set(_ESCAPES)
        if unknown:
            raise DataError(
                f"{source!r} has {min(unknown)} in the name {inner!r}, which is not read; write "
                f"the name out."
            )
        return re.sub(r"\\.", lambda escape: _ESCAPES[escape[0]], inner).strip()
    plain = re.split(r"\s#", written, maxsplit=1)[0].strip()
    if plain.startswith(_SPECIAL) or plain.endswith(":") or ": " in plain or "\n" in plain:
        raise _other_form(written, source)
    return plain


def _in_order(pairs: list[tuple[str | None, str]], are_list: bool, source: str) -> list[str]:
    """By number where there are numbers, which then must be 0 to n - 1."""
    if are_list:
        if numbered := [f"{key}: {name}" for key, name in pairs if key is not None]:
            raise _other_form(numbered[0], source)
        return [name for _, name in pairs]
    unnumbered = [name for key, name in pairs if key is None]
    if unnumbered:
        raise _other_form(unnumbered[0], source)
    keys = [key or "" for key, _ in pairs]
    if sorted(keys, key=lambda key: (len(key), key)) != [str(n) for n in range(len(keys))]:
        raise DataError(
            f"{source!r} numbers its names {', '.join(keys[:20])}; expected each number from 0 to "
            f"{len(keys) - 1} once."
        )
    return [name for _, name in sorted(pairs, key=lambda pair: int(pair[0] or 0))]


def _other_form(found: str, source: str) -> DataError:
    line = found.strip().partition("\n")[0]
    return DataError(f"{source!r} has names that are not read, at {line[:80]!r}. {_FORMS}")

"""What lies in model/, and what is recorded of it: one way for `fit` and for `quantize`."""

from __future__ import annotations

import shutil
from pathlib import Path

from pocketvision.fitting.standalone import standalone_script
from pocketvision.record.files import Shipped
from pocketvision.record.words import Precision
from pocketvision.runtimes.integers import integer_work
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import FileCard
from pocketvision.storage import sha256_file, write_into

STEM = "model"  # of the files, before their endings


def fill_model(
    source: Path, folder: Path, runtime: str, precision: Precision, threads: int, card: FileCard
) -> dict[str, str]:
    """Copy a file, all it needs, and run.py into an empty folder; gives the SHA-256 of each."""
    found = get_runtime(runtime)
    target = folder / found.file_name(STEM)
    for stored in found.files(source):
        shutil.copyfile(stored, target.with_suffix(stored.suffix))
    write_into(folder / "run.py", standalone_script(runtime, precision, threads, card))
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


def shipped_facts(
    model: Path,
    runtime: str,
    precision: Precision,
    threads: int,
    *,
    files: dict[str, str],
    size_bytes: int,
) -> Shipped:
    """The options in force, and how much of the file runs in integers. Raises: ArtefactError."""
    session = get_runtime(runtime).session(model, precision, threads)
    return Shipped(
        options=session.describe(),
        runtime=runtime,
        precision=precision,
        threads=threads,
        files=files,
        size_bytes=size_bytes,
        integers=integer_work(model, runtime, precision, threads),
    )

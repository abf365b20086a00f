"""Every file of the trained network compared with it, on the images of val."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from pocketvision.data.pixels import centre_crop
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels
from pocketvision.errors import GateError
from pocketvision.fitting.from_files import network_answers, pixels_of_row
from pocketvision.fitting.run import Run, stopwatch
from pocketvision.fitting.workload import forecast_of
from pocketvision.models.networks import AnyNetwork
from pocketvision.record.run import Step
from pocketvision.runtimes.runtime import Session

BATCH = 64
CHECKED_FILES = 64  # of val, read again from their files


def gate(
    run: Run,
    network: AnyNetwork,
    sessions: dict[str, Session],
    pixels: Pixels,
    pre: Preprocessing,
) -> None:
    """Compare every file with the float network on val; one without numbers is left out.

    Raises: GateError: none is left, or files give other pixels than were trained on.
    """
    if run.did("gate"):
        return
    with stopwatch() as seconds, run.reporter.progress("Comparing with the float network"):
        _check_pixels(run, pixels, pre)
        rows = run.samples.indices("val")
        judge = run.task.judge(run.samples, rows)
        parts = np.array_split(rows, -(-len(rows) // BATCH))
        ungated = [file for file in run.state.files if file.comparison is None]
        reference, *answers = _answers(
            [
                partial(network_answers, network, preprocessing=pre),
                *(sessions[file.named].run for file in ungated),
            ],
            pixels.batches(parts),
            pre,
        )
        for file, found_answers in zip(ungated, answers, strict=True):
            name = file.named
            try:
                found = judge.compare(
                    found_answers,
                    reference,
                    subject=name,
                    reference_name="float network",
                    split="val",
                )
            except GateError as error:  # one file without numbers does not stop the others
                run.reporter.say(f"Left out: {error}")
                run.update_file(file, None)
            else:
                run.update_file(file, replace(file, comparison=found))
    if not run.state.files:
        run.save(replace(run.state, status="failed"))
        raise GateError(
            f"No file of {network.spec.label} gives numbers; it cannot be shipped, and the run "
            f"stops. The trained network stays in {run.out}; train another into another --out."
        )
    note = "each file against the float network, on val"
    planned_s = forecast_of(run, "gate")
    run.add_steps(Step(name="gate", seconds=seconds[0], note=note, forecast_s=planned_s))


def _answers(
    predictors: list[Callable[[np.ndarray], np.ndarray]],
    batches: Iterable[np.ndarray],
    pre: Preprocessing,
) -> list[np.ndarray]:
    """(n, ...) answers of each predictor; one batch of pixels is in memory at a time."""
    answers: list[list[np.ndarray]] = [[] for _ in predictors]
    for batch in batches:
        cropped = centre_crop(batch, pre.resolution)
        for predict, found in zip(predictors, answers, strict=True):
            found.append(predict(cropped))
    return [np.concatenate(found) for found in answers]


def _check_pixels(run: Run, stored: Pixels, pre: Preprocessing) -> None:
    """The gate's numbers hold for image files: some of val are read again and compared.

    Raises: GateError: a file gives other pixels than the cache.
    """
    for row in run.samples.indices("val")[:CHECKED_FILES]:
        pixels = pixels_of_row(run.samples, row, pre)
        if not np.array_equal(pixels, centre_crop(stored.take(np.array([row]))[0], pre.resolution)):
            raise GateError(
                f"{run.samples.where(row)} does not give the pixels it was trained on; if the "
                "images have not changed, remove the cache folder and fit again."
            )

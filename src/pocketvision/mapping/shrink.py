"""NetAdapt on a network for a scene: narrower step by step, until the latency asked for; then
`fit`.

Every proposal's score and every step are saved as they are known, in out/shrinking; what was
interrupted goes on from there, to the same networks.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pocketvision.budget import format_latency
from pocketvision.compress.netadapt import STEP, Proposal, Tried, best, proposals_of_a_step
from pocketvision.compress.pace import HURRIED
from pocketvision.fitting.lock import working_in
from pocketvision.fitting.narrowing import NARROWING, steps_told
from pocketvision.fitting.pipeline import parse_budget
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.run import keeping_the_clock
from pocketvision.mapping.artefact import SceneArtefact, save_patch_network
from pocketvision.mapping.narrowing import SceneNarrowing, network_folder
from pocketvision.mapping.pipeline import run_scene_fit
from pocketvision.mapping.shrink_config import STATE, SceneShrinkConfig, SceneShrinkStep
from pocketvision.mapping.shrink_start import open_scene_shrink
from pocketvision.models.patch import PatchSpec
from pocketvision.record.searched import Narrowing, NarrowingProposal
from pocketvision.storage import to_json, write_into


def shrink_scene(
    source: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    latency: str,
    size: str | None = None,
    time: str | None = None,
    labels: str | Path | None = None,
    target: str | Path | None = None,
    step: float = STEP,
    steps: int | None = None,
    max_drop: float = 1.0,
) -> SceneArtefact:
    """Make a network for a scene as fast as asked; the Python face of `pocketvision shrink`.

    source: a folder that `fit_scene` wrote. data: the scene it was fitted to. latency "1ms" for one
    pixel from its window, size "1MB", time "30m"; target: the table of the device that it is for.
    `SceneShrinkConfig` has every option.

    Raises: as `run_scene_shrink`.
    """
    config = SceneShrinkConfig(
        source=str(source),
        data=str(data),
        labels=None if labels is None else str(labels),
        target=None if target is None else str(target),
        budget=parse_budget(latency, size, time),
        step=step,
        steps=steps,
        max_drop_points=max_drop,
    )
    command = f"pocketvision.shrink_scene({str(source)!r}, {str(data)!r}, {str(out)!r}, ...)"
    return run_scene_shrink(config, Path(out), command=command)


def run_scene_shrink(
    config: SceneShrinkConfig, out: Path, reporter: Reporter | None = None, *, command: str = ""
) -> SceneArtefact:
    """Narrow a network for a scene to a latency, train it, and ship it as `fit` does.

    An interrupted run goes on when it is called again.

    Raises: ConfigError, DataError, ArtefactError: unusable input, or `out` holds something else.
    BudgetError: the latency cannot be reached by narrowing. GateError: as `fit_scene`.
    """
    reporter = reporter or Silent()
    with working_in(out, reporter.say):
        work = open_scene_shrink(config, out, reporter)
        with keeping_the_clock(work.folder / STATE, lambda: work.save(work.state)):
            while not work.state.done:
                _advance(work)
            write_into(work.folder / NARROWING, to_json(_narrowing(work)))
    narrowed = str(network_folder(work.state, work.folder))
    return run_scene_fit(
        replace(work.fitting, narrowed=narrowed),
        out,
        reporter,
        command=command,
        spent_s=work.state.narrowed_s,
    )


def _advance(work: SceneNarrowing) -> None:
    """Time the network behind the last step, or take another step."""
    last = work.state.steps[-1]
    if last.latency is None:
        _measure(work, last)
        return
    work.table.meet(last.network, last.latency)
    _step(work)


def _measure(work: SceneNarrowing, last: SceneShrinkStep) -> None:
    state, latency = work.state, work.timed_whole(last.network)
    work.save(
        replace(
            state,
            steps=(*state.steps[:-1], replace(last, latency=latency)),
            done=latency.median_ms <= work.target_ms,
            narrowed_s=round(work.clock.spent_s, 1),
        )
    )
    work.reporter.say(
        f"Step {len(state.steps) - 1}, {last.chosen}: {format_latency(latency.median_ms)}, "
        f"{last.accuracy:.1%} expected accuracy of the training pixels held out (the seed "
        f"{state.steps[0].accuracy:.1%})."
    )


def _step(work: SceneNarrowing) -> None:
    """Propose, score every proposal, and take the best. Raises: as `proposals_of_a_step`."""
    spec = work.network.spec
    latency_ms = work.table.latency_ms(spec)
    proposals = proposals_of_a_step(
        spec,
        work.table,
        seed_ms=work.seed_ms,
        budget_ms=work.target_ms,
        asked_ms=work.config.latency_ms,
        step=HURRIED if work.is_late else work.state.step,
        multiple=work.config.multiple,
    )
    tried = _score(work, proposals, latency_ms)
    chosen = best(tried, work.state.steps[-1].accuracy, latency_ms)
    network = work.tuned(chosen.proposal.spec, tried.index(chosen))
    made = SceneShrinkStep(
        network=chosen.proposal.spec,
        latency=None,
        accuracy=chosen.accuracy,
        chosen=chosen.proposal.group,
        proposals=work.state.pending,
    )
    state = replace(work.state, steps=(*work.state.steps, made), pending=())
    folder = network_folder(state, work.folder)
    folder.mkdir(exist_ok=True)
    save_patch_network(network, folder, classes=work.scene.classes)
    work.network = network
    work.save(state)


def _score(
    work: SceneNarrowing, proposals: list[Proposal[PatchSpec]], latency_ms: float
) -> list[Tried[PatchSpec]]:
    """All proposals with their accuracy; what an interrupted run scored is taken from there."""
    number, before = len(work.state.steps), work.state.steps[-1].accuracy
    scored = [(one.group, one.width) for one in work.state.pending]
    if scored != [(one.group, one.width) for one in proposals[: len(scored)]]:
        work.save(replace(work.state, pending=()))  # layers were timed anew since
    with work.reporter.progress(f"Step {number}") as advance:
        for place in range(len(work.state.pending), len(proposals)):
            proposal = proposals[place]
            network = work.tuned(proposal.spec, place)
            found = NarrowingProposal(
                group=proposal.group,
                width=proposal.width,
                latency_ms=proposal.latency_ms,
                accuracy=work.lessons.expected_accuracy(network, work.state.threads),
            )
            work.save(replace(work.state, pending=(*work.state.pending, found)))
            note = f"{format_latency(latency_ms)}, {before:.1%} expected"
            advance(place + 1, len(proposals), note)
    pairs = zip(proposals, work.state.pending, strict=True)
    return [Tried(proposal=proposal, accuracy=one.accuracy) for proposal, one in pairs]


def _narrowing(work: SceneNarrowing) -> Narrowing:
    """What was done, for the record of the run that comes now."""
    state = work.state
    return Narrowing(
        seed=work.seed.spec.label,
        runtime="onnxruntime",
        precision=state.precision,
        threads=work.fitting.threads,
        target_ms=work.config.latency_ms,
        steps=steps_told(state.steps),
    )

"""NetAdapt on a fitted network: narrower step by step, until the latency asked for; then `fit`.

Every proposal's score and every step are saved as they are known, in out/shrinking; what was
interrupted goes on from there, to the same networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pocketvision.budget import format_latency
from pocketvision.compress.netadapt import STEP, Proposal, Tried, best, proposals_of_a_step
from pocketvision.compress.pace import HURRIED
from pocketvision.data.transforms import Augmentation
from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.lock import working_in
from pocketvision.fitting.narrowing import NARROWING
from pocketvision.fitting.pipeline import parse_budget, run_fit
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.run import keeping_the_clock
from pocketvision.fitting.target_table import TargetTable, threads_asked
from pocketvision.models.networks import AnySpec
from pocketvision.models.weights import save as save_network
from pocketvision.record.searched import NarrowingProposal
from pocketvision.record.words import Precision
from pocketvision.searching.adapting import Adapting, network_folder
from pocketvision.searching.narrowing import STATE, narrowing_of
from pocketvision.searching.shrink_config import ShrinkConfig, ShrinkStep
from pocketvision.searching.shrink_start import open_shrink
from pocketvision.searching.shrink_work import ShrinkWork
from pocketvision.searching.workers import Pool, hanging_s, open_pool
from pocketvision.storage import to_json, write_into
from pocketvision.train.allocator import keep_freed_memory

KEYS_A_STEP = 1000  # no network has so many widths


def shrink(
    source: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    latency: str,
    size: str | None = None,
    memory: str | None = None,
    time: str | None = None,
    runtime: str | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    target: str | Path | None = None,
    step: float = STEP,
    epochs: int | None = None,
    max_drop: float = 1.0,
    augmentation: Augmentation | None = None,
    void: Sequence[int] = (),
    seed: int = 0,
) -> Artefact:
    """Make a fitted network as fast as asked; the Python face of `pocketvision shrink`.

    source: a folder that `fit` wrote. images: as `fit` takes them, of its classes. latency "2ms",
    size "1MB", memory "20MB", time "30m". target: the latency table of another device, that of the
    latency; threads: None: one, or the table's. `ShrinkConfig` has every option.

    Raises: as `run_shrink`.
    """
    config = ShrinkConfig(
        source=str(source),
        images=str(images),
        budget=parse_budget(latency, size, time, memory),
        runtime=runtime,
        precision=precision,
        threads=threads_asked(threads, None if target is None else str(target)),
        target=None if target is None else str(target),
        step=step,
        epochs=epochs,
        max_drop_points=max_drop,
        augmentation=augmentation or Augmentation(),
        void=tuple(void),
        seed=seed,
    )
    command = f"pocketvision.shrink({str(source)!r}, {str(images)!r}, {str(out)!r}, ...)"
    return run_shrink(config, Path(out), command=command)


def run_shrink(
    config: ShrinkConfig, out: Path, reporter: Reporter | None = None, *, command: str = ""
) -> Artefact:
    """Narrow a fitted network to a latency, fine-tune it, and ship it as `fit` does.

    An interrupted run goes on when it is called again.

    Raises: ConfigError, DataError, ArtefactError: unusable input, or `out` holds something else.
    BudgetError: the latency cannot be reached by narrowing. GateError: as `fit`.
    """
    reporter = reporter or Silent()
    with working_in(out, reporter.say):
        adapting = open_shrink(config, out, reporter)
        with (
            open_pool(config.workers, hang_s=hanging_s(adapting.state.score_s)) as pool,
            keeping_the_clock(adapting.folder / STATE, lambda: adapting.save(adapting.state)),
        ):
            _adapt(adapting, pool)
            _leave_record(adapting)
    spent_s = adapting.state.narrowed_s
    return run_fit(_fit_config(adapting), out, reporter, command=command, spent_s=spent_s)


def _adapt(adapting: Adapting, pool: Pool) -> None:
    """Step after step, until a whole network is within the latency."""
    keep_freed_memory()
    while not adapting.state.done:
        last = adapting.state.steps[-1]
        if last.latency is None:
            _measure(adapting, last)
            continue
        adapting.table.meet(last.network, last.latency)
        _step(adapting, pool)


def _leave_record(adapting: Adapting) -> None:
    """Leave what was done for the record of the run that comes now."""
    table = adapting.table
    target = table.described if isinstance(table, TargetTable) else ""
    found = narrowing_of(adapting.state, target, adapting.task.metric)
    write_into(adapting.folder / NARROWING, to_json(found))


def _measure(adapting: Adapting, last: ShrinkStep) -> None:
    """Time the network behind the last step; it is done where that is fast enough."""
    state, latency = adapting.state, adapting.table.timed_whole(last.network)
    adapting.save(
        replace(
            state,
            steps=(*state.steps[:-1], replace(last, latency=latency)),
            done=latency.median_ms <= adapting.target_ms,
            narrowed_s=round(adapting.clock.spent_s, 1),
        )
    )
    adapting.reporter.say(
        f"Step {len(state.steps) - 1}, {last.chosen}: {format_latency(latency.median_ms)}, "
        f"{last.accuracy:.1%} expected {adapting.task.metric} of the images held out (the seed "
        f"{state.steps[0].accuracy:.1%})."
    )


def _step(adapting: Adapting, pool: Pool) -> None:
    """Propose, score every proposal, and take the best. Raises: as `proposals_of_a_step`."""
    state, table, spec = adapting.state, adapting.table, adapting.network.spec
    latency_ms = table.latency_ms(spec)
    proposals = proposals_of_a_step(
        spec,
        table,
        seed_ms=adapting.seed_latency.median_ms,
        budget_ms=adapting.target_ms,
        asked_ms=adapting.config.latency_ms,
        step=HURRIED if adapting.is_late else state.step,
        multiple=adapting.config.multiple,
    )
    tried = _score(adapting, proposals, latency_ms, pool)
    chosen = best(tried, state.steps[-1].accuracy, latency_ms)
    work = _work(adapting)
    adapting.network = work.open().tuned(work.task(chosen.proposal, tried.index(chosen)))
    made = ShrinkStep(
        network=chosen.proposal.spec,
        latency=None,
        accuracy=chosen.accuracy,
        chosen=chosen.proposal.group,
        proposals=adapting.state.pending,
    )
    state = replace(adapting.state, steps=(*state.steps, made), pending=())
    save_network(
        adapting.network,
        network_folder(state, adapting.folder),
        classes=adapting.classes,
        preprocessing=adapting.lessons.preprocessing,
    )
    adapting.save(state)


def _score(
    adapting: Adapting, proposals: list[Proposal[AnySpec]], latency_ms: float, pool: Pool
) -> list[Tried[AnySpec]]:
    """All proposals with their accuracy; what an interrupted run scored is taken from there."""
    number, before = len(adapting.state.steps), adapting.state.steps[-1].accuracy
    scored = [(one.group, one.width) for one in adapting.state.pending]
    if scored != [(one.group, one.width) for one in proposals[: len(scored)]]:
        adapting.save(replace(adapting.state, pending=()))  # blocks were timed anew since
    first = len(adapting.state.pending)
    work = _work(adapting)
    tasks = [work.task(proposal, place) for place, proposal in enumerate(proposals)]
    with adapting.reporter.progress(f"Step {number}") as advance:

        def known(place: int, accuracy: float) -> None:
            proposal = proposals[first + place]
            found = NarrowingProposal(
                group=proposal.group,
                width=proposal.width,
                latency_ms=proposal.latency_ms,
                accuracy=accuracy,
            )
            adapting.save(replace(adapting.state, pending=(*adapting.state.pending, found)))
            note = f"{format_latency(latency_ms)}, {before:.1%} expected"
            advance(first + place + 1, len(proposals), note)

        pool.scores(work, tasks[first:], known)
    pairs = zip(proposals, adapting.state.pending, strict=True)
    return [Tried(proposal=proposal, accuracy=one.accuracy) for proposal, one in pairs]


def _work(adapting: Adapting) -> ShrinkWork:
    """Scoring proposals for the network behind the last step."""
    config, state = adapting.config, adapting.state
    return ShrinkWork(
        network=network_folder(state, adapting.folder),
        teacher=Path(config.teacher or config.source),
        lessons=adapting.lessons,
        brief=adapting.brief,
        steps=state.brief_steps,
        first_key=KEYS_A_STEP * len(state.steps),
    )


def _fit_config(adapting: Adapting) -> FitConfig:
    """The long fine-tuning of the narrowed network, taught by the seed, and all that `fit` does."""
    config, state = adapting.config, adapting.state
    return FitConfig(
        data=config.images,
        task=adapting.task.name,
        budget=config.budget,
        resolutions=(adapting.network.spec.resolution,),
        runtimes=() if config.runtime is None else (config.runtime,),
        precisions=() if config.precision is None else (config.precision,),
        threads=config.threads,
        max_drop_points=config.max_drop_points,
        target=config.target,
        weights=str(network_folder(state, adapting.folder)),
        teacher=config.teacher or config.source,
        epochs=config.epochs,
        learning_rate=config.long_rate,
        batch_size=config.batch_size,
        augmentation=config.augmentation,
        accelerator=config.accelerator,
        devices=config.devices,
        skip_bad=config.skip_bad,
        void=config.void,
        seed=config.seed,
    )

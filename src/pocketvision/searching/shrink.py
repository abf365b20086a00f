"""NetAdapt on a fitted network, in out/shrinking; then `fit`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocketvision.compress.netadapt import STEP
from pocketvision.data.transforms import Augmentation
from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.following import is_follower
from pocketvision.fitting.leading import Lead, leading
from pocketvision.fitting.lock import working_in
from pocketvision.fitting.narrowing import NARROWING
from pocketvision.fitting.pipeline import parse_budget, run_fit
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.run import keeping_the_clock
from pocketvision.fitting.target_table import TargetTable, threads_asked
from pocketvision.narrowing.loop import narrow
from pocketvision.narrowing.state import STATE
from pocketvision.record.words import Precision
from pocketvision.searching.adapting import Adapting
from pocketvision.searching.along import follow_shrink
from pocketvision.searching.narrowing import narrowing_of
from pocketvision.searching.shrink_config import ShrinkConfig
from pocketvision.searching.shrink_start import open_shrink
from pocketvision.storage import to_json, write_into
from pocketvision.train.allocator import keep_freed_memory
from pocketvision.workers.pool import hanging_s, open_pool


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
    config: ShrinkConfig,
    out: Path,
    reporter: Reporter | None = None,
    *,
    command: str = "",
    lead: Lead | None = None,
) -> Artefact:
    """Narrow a fitted network to a latency, fine-tune it, and ship it as `fit` does.

    An interrupted run goes on when it is called again. lead: of the search that this is within.

    Raises: ConfigError, DataError, ArtefactError: unusable input, or `out` holds something else.
    BudgetError: the latency cannot be reached by narrowing. GateError: as `fit`.
    """
    reporter = reporter or Silent()
    if is_follower(config.nodes):
        return follow_shrink(config, out, reporter)
    with leading(config.nodes, out, reporter, lead) as lead:
        with working_in(out, reporter.say):
            adapting = open_shrink(config, out, reporter)
            if lead is not None:
                lead.await_all()
            _narrow(adapting)
        fitting, spent_s = _fit_config(adapting), adapting.state.narrowed_s
        return run_fit(fitting, out, reporter, command=command, spent_s=spent_s, lead=lead)


def _narrow(adapting: Adapting) -> None:
    """All steps that are not taken yet."""
    with (
        open_pool(adapting.config.workers, hang_s=hanging_s(adapting.state.score_s)) as pool,
        keeping_the_clock(adapting.folder / STATE, lambda: adapting.save(adapting.state)),
    ):
        keep_freed_memory()
        narrow(adapting, pool)
        _leave_record(adapting)


def _leave_record(adapting: Adapting) -> None:
    """Leave what was done for the record of the run that comes now."""
    table = adapting.table
    target = table.described if isinstance(table, TargetTable) else ""
    found = narrowing_of(adapting.state, target, adapting.task.metric)
    write_into(adapting.folder / NARROWING, to_json(found))


def _fit_config(adapting: Adapting) -> FitConfig:
    """The long fine-tuning of the narrowed network, taught by the seed, and all that `fit` does."""
    config = adapting.config
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
        weights=str(adapting.network_folder),
        teacher=config.teacher or config.source,
        timed_within=True,
        epochs=config.epochs,
        learning_rate=config.long_rate,
        batch_size=config.batch_size,
        augmentation=config.augmentation,
        accelerator=config.accelerator,
        devices=config.devices,
        nodes=config.nodes,
        skip_bad=config.skip_bad,
        void=config.void,
        seed=config.seed,
    )

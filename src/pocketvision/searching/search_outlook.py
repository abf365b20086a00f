"""What a search that begins can expect: its pace on this machine, and what the time is then for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from pocketvision.budget import count_of, format_time
from pocketvision.data.images import Samples
from pocketvision.fitting.earlier_runs import usual_ratios
from pocketvision.fitting.forecast import Workload
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import stopwatch
from pocketvision.models.space import SearchSpace
from pocketvision.models.supernet import Supernet
from pocketvision.runtimes.registry import get_runtime, installed_runtimes
from pocketvision.searching.search_config import SearchConfig, SearchPlan
from pocketvision.searching.search_plan import (
    AMPLE_EPOCHS,
    SearchPace,
    plan_by_work,
    plan_of,
    seconds_of_an_arm,
    seconds_per_judging,
    seconds_per_step,
)
from pocketvision.searching.search_rivals import Planner
from pocketvision.searching.search_run import Images
from pocketvision.searching.search_space import Table, idle_limit, time_blocks
from pocketvision.train.batches import num_batches


def pace_here(
    config: SearchConfig, images: Images, supernet: Supernet, reporter: Reporter
) -> SearchPace:
    """What a step of the supernet and a scoring take here."""
    source, preprocessing = images.train, images.preprocessing
    crew = config.workers if isinstance(config.workers, int) else 1
    with reporter.progress("Timing training steps"):
        # Where others use the machine, threads that wait for each other can be slower than one.
        steps_s = {
            threads: seconds_per_step(supernet, source, preprocessing, config, threads)
            for threads in (1, torch.get_num_threads())
        }
        threads = min(steps_s, key=steps_s.__getitem__)
        judging_s = seconds_per_judging(
            supernet, source, images.held_out, preprocessing, 1 if config.workers else threads
        )
    return SearchPace(
        step_s=steps_s[threads],
        judging_s=judging_s / crew,
        per_epoch=num_batches(len(source), config.batch_size),
        threads=threads,
    )


def planned_here(
    planner: Planner,
    space: SearchSpace,
    table: Table,
    arms: Sequence[str],
    pace: SearchPace | None,
) -> tuple[SearchPlan, float]:
    """The plan, and the seconds that timing the blocks took, which is for the search alone.

    pace: of the shared weights; None: there are none.

    Raises: TooShort: the time does not hold a search, which is told before blocks are timed.
    """
    config, samples, reporter = planner.config, planner.samples, planner.reporter
    classes, left_s = len(samples.classes), planner.clock.remaining_s
    planning = plan_by_work if pace is None else partial(plan_of, config, pace)
    plan = partial(
        planning,
        arms=len(arms),
        arm_s=None if left_s is None else seconds_of_an_arm(left_s, arms),
        finish_s=_finish_s(config, space, samples),
    )
    plan()
    with stopwatch() as seconds:
        time_blocks(config, space, classes, table, reporter)
    if idle := idle_limit(config, space, classes, table):
        reporter.say(idle)
    planned = plan(spent_s=seconds[0])
    _say_plan(config, planned, arms, reporter)
    if pace and (doubt := ranking_doubt(planned.supernet_steps / pace.per_epoch)):
        reporter.say(doubt)
    return planned, seconds[0]


def _finish_s(config: SearchConfig, space: SearchSpace, samples: Samples) -> float:
    """Exporting, quantizing, verifying and measuring, as `fit` foretells it."""
    work = Workload.fine_tuning_of(
        samples,
        resolution=max(space.resolutions),
        runtimes=[get_runtime(config.runtime)] if config.runtime else installed_runtimes(),
        precisions=() if config.precision is None else (config.precision,),
        batch_size=config.batch_size,
        ratios=usual_ratios("classify"),
    )
    return work.finish_s


def ranking_doubt(epochs: float) -> str:
    """That a supernet of so many epochs ranks its members badly; empty where it need not."""
    if epochs >= AMPLE_EPOCHS:
        return ""
    return (
        f"The supernet gets about {epochs:.2g} epochs; with fewer than {AMPLE_EPOCHS} its scores "
        "tell little of how members compare when each is trained alone. More --time or a smaller "
        "--resolution gives it more; --method work needs none."
    )


def _say_plan(
    config: SearchConfig, plan: SearchPlan, arms: Sequence[str], reporter: Reporter
) -> None:
    begun = "from scratch" if config.weights is None else "from its share of the weights"
    limit = "" if plan.arm_s is None else f" of {format_time(plan.arm_s)}"
    what = (
        f"{plan.supernet_steps} steps of the supernet, about {format_time(plan.supernet_s)}; "
        f"{plan.evaluations} members scored by each way to search, about {plan.judging_s:.2g} s "
        f"each; then {'NetAdapt and ' if plan.netadapt else ''}fine-tuning."
        if plan.supernet_steps
        else f"What does most multiply-accumulates within the latency is trained, {begun}."
    )
    reporter.say(f"{what} {count_of(len(arms), 'arm')}{limit}: {', '.join(arms)}.")

"""NetAdapt on a fitted network: narrower step by step, until the latency asked for; then `fit`.

Every proposal's score and every step are saved as they are known, in out/shrinking; what was
interrupted goes on from there, to the same networks.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pocketvision.budget import Budget, format_latency, parse_latency, parse_time
from pocketvision.compress.netadapt import STEP, Proposal, Tried, best, next_target, propose
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import BudgetError
from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.folder import check_writable, storage_told
from pocketvision.fitting.lock import locked
from pocketvision.fitting.pipeline import run_fit
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.run import keeping_the_clock
from pocketvision.fitting.shrink_config import ScoredProposal, ShrinkConfig, ShrinkStep
from pocketvision.fitting.shrink_start import STATE, Adapting, network_folder, open_shrink
from pocketvision.models.arch import Network
from pocketvision.models.narrow import narrow
from pocketvision.models.weights import save as save_network
from pocketvision.record import Precision
from pocketvision.train.brief import expected_accuracy, fine_tune_briefly

KEYS_A_STEP = 1000  # no network has so many widths
SMALLEST_STEP = 0.001  # of the seed's latency


def shrink(
    source: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    latency: str,
    time: str | None = None,
    runtime: str | None = None,
    precision: Precision | None = None,
    threads: int = 1,
    step: float = STEP,
    epochs: int | None = None,
    max_drop: float = 1.0,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> Artefact:
    """Make a fitted network as fast as asked; the Python face of `pocketvision shrink`.

    source: a folder that `fit` wrote. images: class folders of its classes. latency "2ms", time
    "30m". `ShrinkConfig` has every option.

    Raises: as `run_shrink`.
    """
    config = ShrinkConfig(
        source=str(source),
        images=str(images),
        latency_ms=parse_latency(latency),
        time_s=None if time is None else parse_time(time),
        runtime=runtime,
        precision=precision,
        threads=threads,
        step=step,
        epochs=epochs,
        max_drop_points=max_drop,
        augmentation=augmentation or Augmentation(),
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
    with storage_told(out):
        check_writable(out)
        with locked(out, reporter.say):
            adapting = open_shrink(config, out, reporter)
            with keeping_the_clock(adapting.folder / STATE, lambda: adapting.save(adapting.state)):
                _adapt(adapting)
    return run_fit(_fit_config(adapting), out, reporter, command=command)


def _adapt(adapting: Adapting) -> None:
    """Step after step, until a whole network measures within the latency."""
    while not adapting.state.done:
        last = adapting.state.steps[-1]
        if last.latency is None:
            _measure(adapting, last)
            continue
        adapting.table.meet(last.network, last.latency)
        _step(adapting)


def _measure(adapting: Adapting, last: ShrinkStep) -> None:
    """Time the network behind the last step; it is done where that is fast enough."""
    state, latency = adapting.state, adapting.table.timed_whole(last.network)
    left_s = adapting.clock.remaining_s
    adapting.save(
        replace(
            state,
            steps=(*state.steps[:-1], replace(last, latency=latency)),
            done=latency.median_ms <= adapting.target_ms,
            # Kept, so that a run that is interrupted later is asked for the same.
            left_s=None if left_s is None else max(1.0, round(left_s)),
        )
    )
    adapting.reporter.say(
        f"Step {len(state.steps) - 1}, {last.chosen}: {format_latency(latency.median_ms)}, "
        f"{last.accuracy:.1%} expected accuracy (the seed {state.steps[0].accuracy:.1%})."
    )


def _step(adapting: Adapting) -> None:
    """Propose, score every proposal, and take the best. Raises: as `_proposals`."""
    state, table = adapting.state, adapting.table
    number, latency_ms = len(state.steps), table.latency_ms(adapting.network.spec)
    proposals = _proposals(adapting, latency_ms)
    tried, networks = _score(adapting, proposals, latency_ms)
    chosen = best(tried, state.steps[-1].accuracy, latency_ms)
    place = tried.index(chosen)
    adapting.network = networks.get(place) or _tuned(adapting, chosen.proposal, number, place)
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
        preprocessing=adapting.preprocessing,
    )
    adapting.save(state)


def _proposals(adapting: Adapting, latency_ms: float) -> list[Proposal]:
    """Those that cut a whole step; where no width alone can, half a step, and so on.

    Raises: BudgetError: no width can be narrowed any more.
    """
    state, spec = adapting.state, adapting.network.spec
    step = state.step
    while step >= SMALLEST_STEP:
        seed_ms = adapting.seed_latency.median_ms
        target_ms = next_target(latency_ms, seed_ms, adapting.target_ms, step)
        found = propose(spec, adapting.table, target_ms, adapting.config.multiple)
        if found:
            return found
        step /= 2
    raise BudgetError(
        f"{spec.label} takes {format_latency(latency_ms)} and cannot be narrowed further in "
        f"multiples of {adapting.config.multiple}. Ask for --latency {1.1 * latency_ms:.2g}ms."
    )


def _score(
    adapting: Adapting, proposals: list[Proposal], latency_ms: float
) -> tuple[list[Tried], dict[int, Network]]:
    """All proposals with their accuracy, and the best network so far by its place.

    What an interrupted run scored before is taken from there; then its network is not at hand.
    """
    number, before = len(adapting.state.steps), adapting.state.steps[-1].accuracy
    tried: list[Tried] = []
    networks: dict[int, Network] = {}
    scored = [(one.group, one.width) for one in adapting.state.pending]
    if scored != [(one.group, one.width) for one in proposals[: len(scored)]]:
        adapting.save(replace(adapting.state, pending=()))  # blocks were timed anew since
    with adapting.reporter.progress(f"Step {number}") as advance:
        for place, proposal in enumerate(proposals):
            advance(place, len(proposals), f"{format_latency(latency_ms)}, {before:.1%} expected")
            if place < len(adapting.state.pending):
                accuracy = adapting.state.pending[place].accuracy
            else:
                networks[place] = _tuned(adapting, proposal, number, place)
                accuracy = _judged(adapting, networks[place])
                known = ScoredProposal(
                    group=proposal.group,
                    width=proposal.width,
                    latency_ms=proposal.latency_ms,
                    accuracy=accuracy,
                )
                adapting.save(replace(adapting.state, pending=(*adapting.state.pending, known)))
            tried.append(Tried(proposal=proposal, accuracy=accuracy))
            leading = tried.index(best(tried, before, latency_ms))
            networks = {kept: network for kept, network in networks.items() if kept == leading}
        advance(len(proposals), len(proposals), "")
    return tried, networks


def _tuned(adapting: Adapting, proposal: Proposal, number: int, place: int) -> Network:
    """The network of a proposal behind its short fine-tuning; the same whenever it is made."""
    network = narrow(adapting.network, proposal.spec)
    fine_tune_briefly(
        network,
        adapting.train,
        adapting.preprocessing,
        adapting.brief,
        teacher=adapting.seed,
        key=KEYS_A_STEP * number + place,
    )
    return network


def _judged(adapting: Adapting, network: Network) -> float:
    return expected_accuracy(
        network, adapting.held_out, adapting.preprocessing, adapting.state.threads
    )


def _fit_config(adapting: Adapting) -> FitConfig:
    """The long fine-tuning of the narrowed network, taught by the seed, and all that `fit` does."""
    config, state = adapting.config, adapting.state
    return FitConfig(
        data=config.images,
        budget=Budget(latency_ms=config.latency_ms, time_s=state.left_s),
        resolutions=(adapting.network.spec.resolution,),
        runtimes=() if config.runtime is None else (config.runtime,),
        precisions=() if config.precision is None else (config.precision,),
        threads=config.threads,
        max_drop_points=config.max_drop_points,
        weights=str(network_folder(state, adapting.folder)),
        teacher=config.source,
        epochs=config.epochs,
        batch_size=config.batch_size,
        augmentation=config.augmentation,
        skip_bad=config.skip_bad,
        seed=config.seed,
    )

"""Begin a run on a scene, or go on with one that was interrupted: read, split, plan, folder."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pocketvision.budget import format_time
from pocketvision.data.scene.leakage import leakage
from pocketvision.data.scene.reading import check_values
from pocketvision.data.scene.scene import Scene
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.fitting.artefact import RUN
from pocketvision.fitting.folder import is_free, make_folder, taken
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock, stopwatch
from pocketvision.mapping.artefact import read_scene_state
from pocketvision.mapping.config import SceneConfig, SceneState
from pocketvision.mapping.networks import (
    FROM_SCRATCH,
    check_weights,
    new_network,
    window_of,
    with_methods,
)
from pocketvision.mapping.plan import choose_network, plan_run, to_come_s
from pocketvision.mapping.reading import (
    cube_sha256,
    labels_of,
    read_scene,
    split_scene,
    split_sha256,
)
from pocketvision.mapping.run import SceneRun
from pocketvision.mapping.scene_target import SceneTarget, open_scene_target
from pocketvision.measure.device import machine
from pocketvision.record.run import Step
from pocketvision.storage import remove_parts, to_json


def open_run(
    config: SceneConfig, out: Path, reporter: Reporter, command: str, spent_s: float = 0.0
) -> SceneRun:
    """The run that `out` holds unfinished, or a new one, planned; its folder exists afterwards.

    spent_s: of the time of a new one, already.

    Raises: ConfigError: `out` holds something else, options that contradict. DataError: an unusable
    scene. BudgetError: nothing meets the budget; then `out` is not made.
    """
    clock = Clock(config.budget.time_s)
    clock.earlier_s = spent_s
    target = open_scene_target(config.target)
    if target is not None:
        config = target.settled(config)
    state = _unfinished_state(out, config, target)
    window = window_of(config) if state is None else state.spec.window
    with reporter.progress("Reading the scene"):
        scene = read_scene(config, config.data)
        check_values(scene)
    splits = split_scene(config, scene, window)
    settled, left_out = with_methods(config, scene.cube.shape[2])
    if state is None:
        if left_out:
            reporter.say(left_out)
        begun = _begin(settled, scene, splits, reporter, clock, command, target)
        state = replace(begun, config=config)
        make_folder(out, RUN, to_json(state))
    else:
        _check_unchanged(state, out, scene, splits)
        reporter.say(f"Going on with the unfinished run in {out}.")
        remove_parts(out)
        clock.earlier_s = state.spent_s
    return SceneRun(
        config=settled,
        out=out,
        scene=scene,
        splits=splits,
        reporter=reporter,
        clock=clock,
        state=state,
        target=target,
    )


def _unfinished_state(
    out: Path, config: SceneConfig, target: SceneTarget | None
) -> SceneState | None:
    """The state to go on from, None where `out` is free. Raises: ConfigError: it is taken."""
    if is_free(out):
        return None
    try:
        state = read_scene_state(out)
    except (OSError, ArtefactError):
        state = None
    if state is not None and state.status == "unfinished" and target is not None:
        target.refuse_changed(state.target_sha256, state.config.target, out)
    # As text: a no-data value may be NaN, which does not equal itself.
    if state is None or state.status != "unfinished" or to_json(state.config) != to_json(config):
        raise taken(out, state.status if state else None)
    return state


def _check_unchanged(
    state: SceneState, out: Path, scene: Scene, splits: tuple[SceneSplit, ...]
) -> None:
    """Raises: ConfigError: the scene or the split is another than that of the unfinished run."""
    if state.fingerprint != scene.fingerprint:
        changed = f"another scene than {state.config.data} has now"
    elif state.split_sha256 != split_sha256(*splits):
        changed = "another split than the labels and the mask give now"
    else:
        return
    raise ConfigError(
        f"{out} holds an unfinished run on {changed}; give another --out, or remove the folder."
    )


def _begin(
    config: SceneConfig,
    scene: Scene,
    splits: tuple[SceneSplit, ...],
    reporter: Reporter,
    clock: Clock,
    command: str,
    target: SceneTarget | None,
) -> SceneState:
    """The frozen plan, before the first training step."""
    _say_scene(scene, splits, reporter)
    if target is not None:
        how = "sums over layers" if config.narrowed else "each timed there untrained"
        reporter.say(f"Latencies are by the table of {target.described}, {how}.")
    cube = cube_sha256(scene)
    seen = check_weights(config, cube, splits)
    with stopwatch() as seconds:
        spec = choose_network(config, scene, splits[0], reporter, target)
        _, start = new_network(config, spec, scene.classes, config.seed)
        if config.weights is not None and start == FROM_SCRATCH:
            reporter.say(
                f"The network of {config.weights} does not fit {config.budget}; {spec.label} "
                "starts from scratch."
            )
        with reporter.progress("Timing training steps"):
            train, costs = plan_run(config, scene, splits[0], spec, clock)
    total_s = config.repeats * sum(costs.train_s.values())
    all_s = clock.spent_s + total_s + to_come_s(costs, config.methods * config.repeats)
    reporter.say(
        f"Training takes about {format_time(total_s)}, all of it about {format_time(all_s)}."
    )
    return SceneState(
        task="hyperspectral",
        status="unfinished",
        config=config,
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=machine().versions,
        fingerprint=scene.fingerprint,
        split_sha256=split_sha256(*splits),
        cube_sha256=cube,
        seen={**seen, cube: split_sha256(splits[0])},
        spec=spec,
        train=train,
        costs=costs,
        start=start,
        steps=(Step(name="plan", seconds=seconds[0], note=f"{spec.label} {start}"),),
        spent_s=round(clock.spent_s, 3),
        target_sha256="" if target is None else target.sha256,
    )


def _say_scene(scene: Scene, splits: tuple[SceneSplit, ...], reporter: Reporter) -> None:
    height, width, bands = scene.cube.shape
    labelled = int((labels_of(scene) > 0).sum())
    reporter.say(
        f"{scene.name}: {height}x{width} pixels, {bands} bands, {len(scene.classes)} classes, "
        f"{labelled:,} labelled pixels."
    )
    for split in splits:
        found = leakage(split)
        reporter.say(
            f"Split {split.kind}, seed {split.seed}: {int(split.train.sum()):,} pixels to train, "
            f"{int(split.test.sum()):,} to test. {found.centre:.1%} of the test windows hold a "
            f"training centre, {found.window:.1%} share pixels with a training window."
        )
    for note in dict.fromkeys(note for split in splits for note in split.notes):
        reporter.say(note)
    if splits[0].kind == "random":
        reporter.say(
            "A random split leaks: its accuracy compares with papers and says little of new scenes."
        )

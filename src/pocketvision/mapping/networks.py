"""Which patch network is trained: built by name, or taken from a folder fitted to another scene."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pocketvision.data.scene.bands import BandReduction, fit_bands
from pocketvision.data.scene.scene import Scene
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.errors import ConfigError
from pocketvision.mapping.artefact import (
    SceneArtefact,
    fitted_spec,
    load_patch_network,
    read_patch_description,
    read_scene_state,
)
from pocketvision.mapping.config import COMPONENTS, METHODS, SceneConfig
from pocketvision.mapping.reading import split_sha256
from pocketvision.models.hybridsn import (
    PLANE_CHANNELS,
    SMALLEST_BANDS,
    SMALLEST_WINDOW,
    hybridsn,
)
from pocketvision.models.mobile_patch import CHANNELS, mobile_patch
from pocketvision.models.patch import PatchNetwork, PatchSpec
from pocketvision.nn.attention import Attention, CbamSpec, SqueezeExciteSpec

WINDOW = 25  # of the HybridSN paper
REDUCTION = 4  # channels to hidden width of attention
FROM_SCRATCH = "from scratch"

BUILDERS: dict[str, tuple[Callable[..., PatchSpec], int]] = {  # and the channels attention sees
    "hybridsn": (hybridsn, PLANE_CHANNELS),
    "mobile_patch": (mobile_patch, CHANNELS),
}
ATTENTION_NAMES = {"squeeze_excite": "se", "cbam": "cbam"}
UNNAMED = re.compile(r"class \d+")  # what a class is called where its files do not say


def with_methods(config: SceneConfig, bands: int) -> tuple[SceneConfig, str]:
    """`config` with the methods named that a scene of `bands` allows, and what is left out.

    Raises: ConfigError: HybridSN was asked for by name, and bands or window are too few for it.
    """
    methods = config.methods or METHODS
    components, window = components_of(config, bands), window_of(config)
    enough = components >= SMALLEST_BANDS and window >= SMALLEST_WINDOW
    if enough or "hybridsn" not in methods:
        return replace(config, methods=methods), ""
    reason = (
        f"HybridSN needs {SMALLEST_BANDS} bands after reduction and a window of "
        f"{SMALLEST_WINDOW}, and has {components} and {window}"
    )
    if config.methods:
        raise ConfigError(
            f"{reason}; give more --components or a larger --window, or take --models mobile_patch."
        )
    methods = tuple(method for method in METHODS if method != "hybridsn")
    return replace(config, methods=methods), f"{reason}: it is left out."


def check_weights(config: SceneConfig, cube: str, splits: tuple[SceneSplit, ...]) -> dict[str, str]:
    """The cubes that the weights have learned from, by SHA-256, with that of their split.

    cube: the SHA-256 of this scene's.
    Raises: ConfigError: they learned from this cube by another split, and so perhaps from pixels
    that would be tested.
    """
    if config.weights is None:
        return {}
    seen = read_scene_state(Path(config.weights)).seen
    if any(split_sha256(split) != seen.get(cube, split_sha256(split)) for split in splits):
        raise ConfigError(
            f"{config.weights} was fitted to this very cube by another split: its weights may have "
            "learned the pixels that would be tested. Leave --weights away, give those of another "
            "scene, or split as that run did, without --repeats."
        )
    return seen


def weights_spec(config: SceneConfig) -> PatchSpec | None:
    """The network that the weights are of; None from scratch.

    Raises: ArtefactError: they are not in a folder fitted to a scene. ConfigError: their network
    is not among those asked for.
    """
    if config.weights is None:
        return None
    spec = fitted_spec(Path(config.weights))
    if spec.name not in config.networks:
        raise ConfigError(
            f"{config.weights} holds {spec.label}, which --models rules out; leave --models away."
        )
    return spec


def ordered_networks(config: SceneConfig) -> tuple[str, ...]:
    """The networks in order of preference; that of the weights first."""
    source = weights_spec(config)
    if source is None:
        return config.networks
    return (source.name, *(name for name in config.networks if name != source.name))


def window_of(config: SceneConfig) -> int:
    """The window asked for, or that of the weights. Raises: ConfigError: they contradict."""
    source = weights_spec(config)
    if source is not None:
        _check_same(config, "window", config.window, source.window)
        return source.window
    return WINDOW if config.window is None else config.window


def components_of(config: SceneConfig, bands: int) -> int:
    """Bands after reduction, for a scene of `bands`. Raises: ConfigError: as `window_of`."""
    source = weights_spec(config)
    if config.bands == "standardise":
        if config.components is not None:
            raise ConfigError(
                "components goes with --bands pca or select; standardise keeps every band."
            )
        if source is not None and source.bands != bands:
            raise ConfigError(
                f"--bands standardise keeps all {bands} bands, but {config.weights} takes "
                f"{source.bands}; reduce them with --bands pca or select."
            )
        return bands
    if source is not None:
        _check_same(config, "components", config.components, source.bands)
        return source.bands
    return min(COMPONENTS, bands) if config.components is None else config.components


def fit_reduction(config: SceneConfig, scene: Scene, split: SceneSplit) -> BandReduction:
    """The reduction of the scene's bands, fitted to the split's training pixels."""
    return fit_bands(
        scene,
        split.train,
        method=config.bands,
        components=components_of(config, scene.cube.shape[2]),
        whiten=config.whiten,
    )


def network_spec(config: SceneConfig, method: str, bands: int, num_classes: int) -> PatchSpec:
    """The network of one method for a scene: that of the weights, or one like it.

    Raises: ConfigError: sizes it cannot have, or that contradict the weights.
    """
    source = weights_spec(config)
    if config.narrowed is not None and source is not None and source.name == method:
        return read_patch_description(Path(config.narrowed)).spec
    attention: str | None = config.attention
    if source is not None:
        found = source.head.attention
        name = ATTENTION_NAMES[found.kind] if found else None
        _check_same(config, "attention", attention, name)
        attention = name
    builder, channels = BUILDERS[method]
    return builder(
        bands=components_of(config, bands),
        window=window_of(config),
        num_classes=num_classes,
        attention=_attention(attention, channels),
    )


def new_network(
    config: SceneConfig, spec: PatchSpec, classes: tuple[str, ...], seed: int
) -> tuple[PatchNetwork, str]:
    """The network to train, and in words what it starts from.

    From weights it keeps everything but the last layer, and that too where the classes are the same
    by name; numbers alone, "class 1", are names of nothing. Bands and their number may differ
    between the scenes: both are reduced to as many. A network that the weights are not of is a
    comparison, and starts from scratch.
    """
    network = spec.build(seed)
    asked = weights_spec(config)
    if config.weights is None or asked is None or asked.name != spec.name:
        return network, FROM_SCRATCH
    source = SceneArtefact(config.weights)
    if config.narrowed is not None:
        narrowed, _ = load_patch_network(Path(config.narrowed))
        return narrowed, f"narrowed from {source.record.network.label}"
    same = source.classes == classes and not all(map(UNNAMED.fullmatch, classes))
    kept = {
        name: tensor
        for name, tensor in source.network.state_dict().items()
        if same or not name.startswith("head.classifier.")
    }
    network.load_state_dict(kept, strict=False)
    head = "" if same else ", with a new last layer"
    return network, f"from {source.record.network.label} of {source.record.scene.name}{head}"


def teacher_of(config: SceneConfig, method: str) -> PatchNetwork | None:
    """The network that a narrowed one learns from; None for any other."""
    if config.narrowed is None or config.weights is None:
        return None
    source = SceneArtefact(config.weights).network
    return source if source.spec.name == method else None


def _check_same(
    config: SceneConfig, name: str, asked: int | str | None, found: int | str | None
) -> None:
    """Raises: ConfigError: an option says something else than the weights."""
    if asked not in (None, found):
        raise ConfigError(
            f"{name}={asked}, but {config.weights} has {found or 'none'}; leave it away."
        )


def _attention(name: str | None, channels: int) -> Attention | None:
    if name is None:
        return None
    squeezed = channels // REDUCTION
    if name == "se":
        return SqueezeExciteSpec(squeezed=squeezed, gate="sigmoid")
    return CbamSpec(squeezed=squeezed)

"""The networks by name. Reading the names imports no torch; building one does."""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pocketvision.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from pocketvision.models.arch import ArchSpec


class Entry(NamedTuple):
    """A network: the file and function that build it, and with which options.

    widths: multipliers that the planner may try, ascending. planned: the main job considers it
    unasked; the others only where a name or pattern asks for them.
    """

    file: str
    builder: str
    widths: tuple[float, ...] = (1.0,)
    options: Mapping[str, Any] = {}
    planned: bool = True


_V1_WIDTHS = (0.25, 0.5, 0.75, 1.0)
_V2_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
_V3_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.25)
_MINIMALISTIC_WIDTHS = (0.5, 0.75, 1.0)
_SENET_WIDTHS = (0.25, 0.5, 0.75, 1.0)
_MNASNET_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.4)
_SHUFFLENET_WIDTHS = (0.25, 0.5, 1.0, 1.5, 2.0)
_RESNETS = (  # prefix, attention, the depths that have a published figure
    ("", "none", (18, 34, 50, 101, 152)),
    ("se_", "se", (18, 34, 50, 101, 152)),
    ("cbam_", "cbam", (18, 34, 50, 101)),
)

MODELS = {
    "mobilenet_v1": Entry("mobilenet_v1", "mobilenet_v1", _V1_WIDTHS),
    "mobilenet_v1_full": Entry(
        "mobilenet_v1", "mobilenet_v1", _V1_WIDTHS, {"separable": False}, planned=False
    ),
    "mobilenet_v1_shallow": Entry(
        "mobilenet_v1", "mobilenet_v1", _V1_WIDTHS, {"shallow": True}, planned=False
    ),
    "mobilenet_v2": Entry("mobilenet_v2", "mobilenet_v2", _V2_WIDTHS),
    "mobilenet_v3_large": Entry("mobilenet_v3", "mobilenet_v3_large", _V3_WIDTHS),
    "mobilenet_v3_large_minimalistic": Entry(
        "mobilenet_v3", "mobilenet_v3_large", _MINIMALISTIC_WIDTHS, {"minimalistic": True}
    ),
    "mobilenet_v3_small": Entry("mobilenet_v3", "mobilenet_v3_small", _V3_WIDTHS),
    "mobilenet_v3_small_minimalistic": Entry(
        "mobilenet_v3", "mobilenet_v3_small", _MINIMALISTIC_WIDTHS, {"minimalistic": True}
    ),
    **{
        f"{prefix}resnet{depth}": Entry(
            "resnet",
            "resnet",
            _SENET_WIDTHS,
            {"depth": depth, "attention": attention},
            planned=False,
        )
        for prefix, attention, depths in _RESNETS
        for depth in depths
    },
    "bn_inception": Entry("inception", "bn_inception", _SENET_WIDTHS, planned=False),
    "se_inception": Entry(
        "inception", "bn_inception", _SENET_WIDTHS, {"attention": "se"}, planned=False
    ),
    "mnasnet_a1": Entry("mnasnet", "mnasnet_a1", _MNASNET_WIDTHS),
    **{
        f"shufflenet_v1_g{groups}": Entry(
            "shufflenet_v1",
            "shufflenet_v1",
            _SHUFFLENET_WIDTHS,
            {"groups": groups},
            planned=groups == 3,
        )
        for groups in (1, 2, 3, 4, 8)
    },
    "shufflenet_v2_x0_5": Entry("shufflenet_v2", "shufflenet_v2", options={"complexity": 0.5}),
    "shufflenet_v2_x1_0": Entry("shufflenet_v2", "shufflenet_v2", options={"complexity": 1.0}),
    "shufflenet_v2_x1_5": Entry("shufflenet_v2", "shufflenet_v2", options={"complexity": 1.5}),
    "shufflenet_v2_x2_0": Entry("shufflenet_v2", "shufflenet_v2", options={"complexity": 2.0}),
}

# timm's names: the network here, and the options that make it theirs. (torchvision's names are
# ours, or differ in underscores only.)
ALIASES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "mobilenetv1_100": ("mobilenet_v1", {"act": "relu6"}),
    "mobilenetv2_035": ("mobilenet_v2", {"width": 0.35}),
    "mobilenetv2_050": ("mobilenet_v2", {"width": 0.5}),
    "mobilenetv2_075": ("mobilenet_v2", {"width": 0.75}),
    "mobilenetv2_100": ("mobilenet_v2", {}),
    "mobilenetv2_140": ("mobilenet_v2", {"width": 1.4}),
    "mobilenetv3_large_075": ("mobilenet_v3_large", {"width": 0.75, "width_rule": "timm"}),
    "mobilenetv3_large_100": ("mobilenet_v3_large", {}),
    "mobilenetv3_small_050": ("mobilenet_v3_small", {"width": 0.5, "width_rule": "timm"}),
    "mobilenetv3_small_075": ("mobilenet_v3_small", {"width": 0.75, "width_rule": "timm"}),
    "mobilenetv3_small_100": ("mobilenet_v3_small", {}),
    **{
        f"seresnet{depth}": (
            f"se_resnet{depth}",
            {"attention_bias": True, "squeezed_multiple": 8},
        )
        for depth in (18, 34, 50, 101, 152)
    },
    "semnasnet_050": ("mnasnet_a1", {"width": 0.5}),
    "semnasnet_075": ("mnasnet_a1", {"width": 0.75}),
    "semnasnet_100": ("mnasnet_a1", {}),
    "semnasnet_140": ("mnasnet_a1", {"width": 1.4}),
    "shufflenet_v1": ("shufflenet_v1_g3", {}),
    "shufflenet_v2": ("shufflenet_v2_x1_0", {}),
}


def list_models(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern such as "mobilenet_v3*", sorted; none: an empty list."""
    return sorted(fnmatch.filter(MODELS, pattern))


def find_models(pattern: str = "*") -> list[str]:
    """As `list_models`, for a pattern a person typed; a name in timm's spelling is found too.

    Raises: ConfigError: nothing matches; where names are listed, and the nearest one.
    """
    names = list_models(pattern)
    if names:
        return names
    resolve(pattern)
    return [pattern]  # as it was typed: the spelling may imply a width


def resolve(name: str) -> tuple[str, dict[str, Any]]:
    """The network's name here, and the options that a name of timm's implies.

    Case, hyphens and underscores do not matter, except between "se_resnet50" and timm's
    "seresnet50". A tag behind a dot ("mobilenetv3_large_100.ra_in1k") says which weights, not which
    network; it is not looked at here.

    Raises: ConfigError: an unknown name; where names are listed, and the nearest one.
    """
    if name in MODELS:
        return name, {}
    bare = name.partition(".")[0].lower().replace("-", "_")
    names = (*MODELS, *ALIASES)
    exact = [known for known in names if known == bare]
    close = [known for known in names if known.replace("_", "") == bare.replace("_", "")]
    for known in (*exact, *close):
        ours, options = ALIASES.get(known, (known, {}))
        return ours, dict(options)
    raise ConfigError(
        f"model {name!r} is unknown; expected a name that `pocketvision models` lists, its "
        "spelling in torchvision or timm, or a pattern such as 'mobilenet_v3*'."
        f"{did_you_mean(bare, [*MODELS, *ALIASES])}"
    )


def widths(name: str) -> tuple[float, ...]:
    """Multipliers worth trying, ascending; the one that a name of timm's implies.

    Raises: ConfigError: an unknown name.
    """
    ours, implied = resolve(name)
    return (implied["width"],) if "width" in implied else MODELS[ours].widths


def spec(
    name: str,
    *,
    width: float | None = None,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float | None = None,
    attention: str | None = None,
    reduced_tail: bool = False,
) -> ArchSpec:
    """The network as data, from a name of ours, of torchvision's or of timm's.

    width: multiplier; None: the name's, which is 1 unless timm's says otherwise. dropout: None
    takes the paper's. attention: "se", "cbam" or "none" in place of the network's own (see
    `models.editing.with_attention`); None leaves it. reduced_tail: half the channels in the last
    stage, as under SSDLite, of networks whose paper has that (MobileNetV3); others stay.

    Raises: ConfigError: an unknown name, an option outside what is allowed.
    """
    ours, implied = resolve(name)
    entry = MODELS[ours]
    options = {**entry.options, **implied}
    if width is not None:
        options["width"] = width
    if dropout is not None:
        options["dropout"] = dropout
    if reduced_tail and entry.file == "mobilenet_v3":
        options["reduced_tail"] = True
    module = importlib.import_module(f"pocketvision.models.{entry.file}")
    arch: ArchSpec = getattr(module, entry.builder)(
        resolution=resolution, num_classes=num_classes, in_chans=in_chans, **options
    )
    if attention is None:
        return arch
    from pocketvision.models.editing import with_attention

    return with_attention(arch, attention)

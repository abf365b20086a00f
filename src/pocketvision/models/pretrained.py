"""Weights that torchvision and timm publish for networks of the registry (no torch).

Source: the weights' metadata in torchvision 0.28, the pretrained configurations in timm 1.0.31 and,
for timm's accuracies, its results-imagenet.csv. Only files whose name carries the beginning of
their SHA-256 are listed, so that what is downloaded can be verified. timm's tf_ networks are left
out: they pad at one side only, and so answer differently here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

from pocketvision.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from pocketvision.errors import ConfigError, did_you_mean
from pocketvision.models import registry

Triple = tuple[float, float, float]


class Pretrained(NamedTuple):
    """A published file of weights for the 1000 classes of ImageNet.

    model, tag: the library's names of the network and of the weights. top1: on ImageNet's
    validation images, %; None where it is not known. side: of the resize before the centre crop.
    place: of the file, an entry of `PLACES`. mean, std: of pixels 0..255.
    """

    model: str
    tag: str
    file: str
    top1: float | None
    side: int
    library: str = "torchvision"
    place: str = "torch"
    interpolation: str = "bilinear"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    resolution: int = 224
    classes: str = "imagenet-1k"

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"{PLACES[self.place]}/{self.file}"

    @property
    def sha256(self) -> str:
        """How the file's SHA-256 begins."""
        return self.file.rpartition("-")[2].partition(".")[0]

    @property
    def licence(self) -> str:
        """Of the weights."""
        return LICENCES[self.library]

    @property
    def network(self) -> tuple[str, float]:
        """The registry's name and multiplier."""
        name, options = registry.resolve(self.model)
        return name, options.get("width", 1.0)

    @property
    def preprocessing(self) -> Preprocessing:
        """What the weights were evaluated with, apart from the interpolation."""
        return Preprocessing(
            resolution=self.resolution, side=self.side, mean=self.mean, std=self.std
        )


LICENCES = {"torchvision": "BSD-3-Clause", "timm": "Apache-2.0"}
_GITHUB = "https://github.com"
_TIMM = f"{_GITHUB}/rwightman/pytorch-image-models/releases/download"
PLACES = {
    "torch": "https://download.pytorch.org/models",
    "timm": f"{_TIMM}/v0.1-weights",
    "miil": f"{_TIMM}/v0.1-tresnet",
    "rsb": f"{_GITHUB}/huggingface/pytorch-image-models/releases/download/v0.1-rsb-weights",
    "rsb-first": f"{_TIMM}/v0.1-rsb-weights",
}
_BLACK, _WHITE = (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)

P = Pretrained
T = partial(Pretrained, library="timm", place="timm", interpolation="bicubic")
R = partial(T, top1=None, side=235, place="rsb")

# Of each network, the library's default first. (timm's for ResNet-50 and deeper is of 176 px.)
# fmt: off
TORCHVISION = (
    # model                  tag              file                               top1    side
    P("mobilenet_v2",        "IMAGENET1K_V2", "mobilenet_v2-7ebf99e0.pth",        72.154, 232),
    P("mobilenet_v2",        "IMAGENET1K_V1", "mobilenet_v2-b0353104.pth",        71.878, 256),
    P("mobilenet_v3_large",  "IMAGENET1K_V2", "mobilenet_v3_large-5c1a4163.pth",  75.274, 232),
    P("mobilenet_v3_large",  "IMAGENET1K_V1", "mobilenet_v3_large-8738ca79.pth",  74.042, 256),
    P("mobilenet_v3_small",  "IMAGENET1K_V1", "mobilenet_v3_small-047dcff4.pth",  67.668, 256),
    P("shufflenet_v2_x0_5",  "IMAGENET1K_V1", "shufflenetv2_x0.5-f707e7126e.pth", 60.552, 256),
    P("shufflenet_v2_x1_0",  "IMAGENET1K_V1", "shufflenetv2_x1-5666bf0f80.pth",   69.362, 256),
    P("shufflenet_v2_x1_5",  "IMAGENET1K_V1", "shufflenetv2_x1_5-3c479a10.pth",   72.996, 232),
    P("shufflenet_v2_x2_0",  "IMAGENET1K_V1", "shufflenetv2_x2_0-8be3c8ee.pth",   76.230, 232),
    P("resnet18",            "IMAGENET1K_V1", "resnet18-f37072fd.pth",            69.758, 256),
    P("resnet34",            "IMAGENET1K_V1", "resnet34-b627a593.pth",            73.314, 256),
    P("resnet50",            "IMAGENET1K_V2", "resnet50-11ad3fa6.pth",            80.858, 232),
    P("resnet50",            "IMAGENET1K_V1", "resnet50-0676ba61.pth",            76.130, 256),
    P("resnet101",           "IMAGENET1K_V2", "resnet101-cd907fc2.pth",           81.886, 232),
    P("resnet101",           "IMAGENET1K_V1", "resnet101-63fe2227.pth",           77.374, 256),
    P("resnet152",           "IMAGENET1K_V2", "resnet152-f82ba261.pth",           82.284, 232),
    P("resnet152",           "IMAGENET1K_V1", "resnet152-394f9c45.pth",           78.312, 256),
)
TIMM = (
    # model                    tag          file                                       top1   side
    T("mobilenetv2_050",       "lamb_in1k", "mobilenetv2_050-3d30d450.pth",             None, 256),
    T("mobilenetv2_100",       "ra_in1k",   "mobilenetv2_100_ra-b33bc2c4.pth",          72.91, 256),
    T("mobilenetv2_140",       "ra_in1k",   "mobilenetv2_140_ra-21a4e913.pth",          None, 256),
    T("mobilenetv3_large_100", "ra_in1k",   "mobilenetv3_large_100_ra-f55367f5.pth",    75.78, 256),
    T("mobilenetv3_large_100", "miil_in21k_ft_in1k",
      "mobilenetv3_large_100_1k_miil_78_0-66471c13.pth", 77.92, 256,
      place="miil", interpolation="bilinear", mean=_BLACK, std=_WHITE),
    T("mobilenetv3_small_050", "lamb_in1k", "mobilenetv3_small_050_lambc-4b7bbe87.pth", 57.92, 256),
    T("mobilenetv3_small_075", "lamb_in1k", "mobilenetv3_small_075_lambc-384766db.pth", 65.28, 256),
    T("mobilenetv3_small_100", "lamb_in1k", "mobilenetv3_small_100_lamb-266a294c.pth",  67.64, 256),
    T("semnasnet_075",         "rmsp_in1k", "semnasnet_075-18710866.pth",               None, 256),
    T("semnasnet_100",         "rmsp_in1k", "mnasnet_a1-d9418771.pth",                  None, 256),
    R("resnet18",              "a1_in1k",   "resnet18_a1_0-d63eafa0.pth"),
    R("resnet34",              "a1_in1k",   "resnet34_a1_0-46f8f793.pth"),
    R("resnet50",              "a1_in1k",   "resnet50_a1_0-14fe96d1.pth", place="rsb-first"),
    R("resnet101",             "a1_in1k",   "resnet101_a1_0-cdcb52a9.pth"),
    R("resnet152",             "a1_in1k",   "resnet152_a1_0-2eee8a7a.pth"),
    R("seresnet50",            "a1_in1k",   "seresnet50_a1_0-ffa00869.pth"),
    T("seresnet50",            "ra2_in1k",  "seresnet50_ra_224-8efdb4bb.pth",           80.26, 256),
)
# fmt: on
PRETRAINED = TORCHVISION + TIMM
LIBRARIES = tuple(LICENCES)


def is_published(weights: str) -> bool:
    """True if `weights` names a published file ("torchvision", "timm:ra_in1k"), and no path."""
    library, tag = _library_and_tag(weights)
    return bool(library or tag)


def find(model: str, width: float, weights: str) -> Pretrained:
    """The published file that `weights` names for a network.

    model: the network's name, ours or the library's; timm's may end in a tag behind a dot. weights:
    "torchvision" or "timm" (the library's default), "torchvision:IMAGENET1K_V1", a tag alone, or a
    full name of timm's ("mobilenetv3_large_100.ra_in1k").

    Raises: ConfigError: nothing of that name is published for this network, with what is.
    """
    library, tag = _library_and_tag(weights)
    tag = tag or model.partition(".")[2]
    wanted = (registry.resolve(model)[0], width)
    own = [row for row in PRETRAINED if row.network == wanted]
    fitting = [row for row in own if library in ("", row.library)]
    fitting = [row for row in fitting if tag in ("", row.tag)]
    if fitting:
        return fitting[0]
    known = [f"{row.library}:{row.tag}" for row in own]
    raise ConfigError(
        f"weights={weights!r} are not published for {wanted[0]} x{width:g}; expected "
        f"{f'one of {known}' if known else 'a file of weights: none are listed'}."
        f"{did_you_mean(tag, [row.tag for row in own])}"
    )


def published(weights: str) -> tuple[Pretrained, ...]:
    """All files that `weights` may mean, one of each network.

    Raises: ConfigError: none has that tag, with the tags that are known.
    """
    library, tag = _library_and_tag(weights)
    chosen: dict[tuple[str, float], Pretrained] = {}
    for row in PRETRAINED:
        if library in ("", row.library) and tag in ("", row.tag):
            chosen.setdefault(row.network, row)
    if chosen:
        return tuple(chosen.values())
    known = _tags(library)
    raise ConfigError(
        f"weights={weights!r} are not published; expected one of {known}."
        f"{did_you_mean(weights, known)}"
    )


def not_there(weights: str | Path) -> ConfigError:
    """The error to raise for `weights` that are no published name and no file on this machine."""
    named = str(weights)
    if not named:
        fault = "is empty"
    elif Path(named).expanduser().is_dir():
        fault = "is a folder without network.safetensors"
    else:
        fault = "does not exist"
    full = [f"{row.model}.{row.tag}" for row in TIMM]
    names = {*LIBRARIES, *(row.tag for row in PRETRAINED), *_tags(""), *full}
    return ConfigError(
        f"weights={named!r} {fault}; give a .safetensors or .pth file, a folder that holds "
        "network.safetensors, an address (https://...), or the name of published weights: "
        f"{' or '.join(map(repr, LIBRARIES))}, alone or with a tag ({_tags('')[0]!r})."
        f"{did_you_mean(named, names)}"
    )


def _tags(library: str) -> list[str]:
    """Libraries and tags as `find` takes them, of one library or (empty) of all."""
    rows = [row for row in PRETRAINED if library in ("", row.library)]
    return list(dict.fromkeys(f"{row.library}:{row.tag}" for row in rows))


def by_file(file_name: str) -> Pretrained | None:
    """The published file of that name; None for any other."""
    return next((row for row in PRETRAINED if row.file == file_name), None)


def _library_and_tag(weights: str) -> tuple[str, str]:
    """What `weights` names of both; two empty texts: neither, so it is a path."""
    library, _, tag = weights.partition(":")
    if library in LIBRARIES:
        return library, tag
    tag = weights.rpartition(".")[2]
    full = {f"{row.model}.{row.tag}": row for row in TIMM}
    if weights in full:
        return "timm", tag
    return "", weights if weights in {row.tag for row in PRETRAINED} else ""

"""Tensors out of a file of weights: safetensors or PyTorch, bare or wrapped by a script."""

from __future__ import annotations

import io
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pocketvision.errors import ArtefactError

# Where training scripts put the tensors, the first one found is taken: averaged weights are those
# that their authors evaluated.
AVERAGED = ("state_dict_ema", "model_ema")
WRAPPERS = (*AVERAGED, "state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")  # of data parallelism and of torch.compile
SHOWN = 3  # differences that a message lists of each kind
COUNTER = "n_averaged"  # what torch.optim.swa_utils.AveragedModel adds

CONVERT = """\
    import torch
    c = torch.load({path!r}, map_location="cpu", weights_only=False)
    c = c.state_dict() if hasattr(c, "state_dict") else c
    for key in {wrappers!r}:
        c = c.get(key, c)
    torch.save({{k: v for k, v in c.items() if torch.is_tensor(v)}}, {converted!r})"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Tensors by name, as the file has them, without wrappers.

    taken: the entry of the file that they come from; empty: the file itself.
    """

    path: Path
    state: dict[str, Tensor]
    taken: str = ""

    @property
    def averaged(self) -> bool:
        """True if the file held averaged weights, which were taken in place of the last ones."""
        return self.taken in AVERAGED


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a .safetensors, .pt or .pth file.

    Wrappings that training scripts add are taken off ({"state_dict": ...}, "module." before every
    name); of averaged and last weights the averaged ones are taken.

    Raises: ArtefactError: a file that is missing, damaged, a web page, holds more than tensors by
        name, or sparse, quantised or empty ones.
    """
    data = read_bytes(path)
    if data[8:9] == b"{":  # the length of a JSON header, then the header
        return _unwrapped(_from_safetensors(data, path), path)
    if data[:2] == b"PK" or data[:1] == b"\x80":  # a zip archive, or a bare pickle
        return _unwrapped(_from_pytorch(data, path), path)
    raise ArtefactError(f"{path} {_what_it_is(data)}")


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises: ArtefactError: it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ArtefactError(
            f"{path} does not exist; expected a folder with network.json and network.safetensors, "
            "or a file of weights."
        ) from error
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}.") from error


def _what_it_is(data: bytes) -> str:
    if not data:
        return "is empty; download it again."
    if data.lstrip()[:1] == b"<":
        return (
            "is a web page, not weights: its address wants a login or is wrong. Download the file "
            "itself."
        )
    if data.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not weights; fetch the file itself with `git lfs pull`."
    return "is neither a safetensors file nor a PyTorch checkpoint; expected one of them."


def _from_safetensors(data: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ArtefactError(
            f"{path} is a damaged safetensors file: {error}. Cut off? Then download it again."
        ) from error


def _from_pytorch(data: bytes, path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickles that are refused anyway
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        converted = str(path.with_name(f"{path.stem}-tensors.pth"))
        lines = CONVERT.format(path=str(path), wrappers=WRAPPERS, converted=converted)
        raise ArtefactError(
            f"{path} holds more than tensors, or is damaged; files that could run code are "
            f"refused. Where you trust its source, convert it once:\n{lines}"
        ) from error
    except Exception as error:  # what a damaged archive raises is not defined
        raise ArtefactError(
            f"{path} is a damaged PyTorch checkpoint: {error}. Cut off? Then download it again."
        ) from error


def _unwrapped(content: Any, path: Path) -> Checkpoint:
    taken = ""
    if isinstance(content, dict):
        taken = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), "")
        content = content[taken] if taken else content
    if not isinstance(content, dict) or not content:
        raise _no_tensors(path)
    state = {name: value for name, value in content.items() if name != COUNTER}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise _no_tensors(path)
    for name, value in state.items():
        _check_tensor(name, value, path)
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return Checkpoint(path=path, state=state, taken=taken)


def _no_tensors(path: Path) -> ArtefactError:
    return ArtefactError(
        f"{path} is not a dictionary of tensors; save `network.state_dict()` alone, or "
        f"under one of {list(WRAPPERS)}."
    )


def _check_tensor(name: object, value: Tensor, path: Path) -> None:
    """Raises: ArtefactError: no name, values that do not lie there one by one, or none at all."""
    if not isinstance(name, str):
        raise ArtefactError(
            f"{path} has {name!r} where the name of a tensor belongs; save `network.state_dict()`."
        )
    strided = value.layout is torch.strided and not value.is_nested
    if not strided or value.is_quantized or value.is_meta:
        raise ArtefactError(
            f"{path} holds {name!r} sparse, nested, quantised or without values; save plain "
            "tensors (`tensor.to_dense()`, `tensor.dequantize()`)."
        )
    if not value.numel():
        raise ArtefactError(
            f"{path} is of no network: {name!r} is {_describe(value)}; expected sizes from 1 up."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How a state dict differs from the expected one; shapes and types as "16x3x3x3 float32"."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    changed: dict[str, str]

    @classmethod
    def between(cls, state: dict[str, Tensor], expected: dict[str, Tensor]) -> Difference:
        """What has to happen to `state` for it to fit where `expected` comes from."""
        return cls(
            missing=tuple(name for name in expected if name not in state),
            extra=tuple(sorted(name for name in state if name not in expected)),
            changed={
                name: f"{name} is {_describe(state[name])}, expected {_describe(tensor)}"
                for name, tensor in expected.items()
                if name in state and _describe(state[name]) != _describe(tensor)
            },
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Of all tensors that differ."""
        return (*self.missing, *self.extra, *self.changed)

    def only_in(self, prefix: str) -> bool:
        """True if nothing differs, or tensors whose names begin with `prefix`."""
        return all(name.startswith(prefix) for name in self.names)

    def __str__(self) -> str:
        kinds = {
            "missing": self.missing,
            "extra": self.extra,
            "different": tuple(self.changed.values()),
        }
        return "; ".join(
            f"{len(names)} {kind} ({', '.join(names[:SHOWN])}{', ...' * (len(names) > SHOWN)})"
            for kind, names in kinds.items()
            if names
        )


def _describe(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    return f"{shape} {str(tensor.dtype).removeprefix('torch.')}"

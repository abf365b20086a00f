"""Networks as files: network.json says what it is, network.safetensors holds its weights."""

from __future__ import annotations

import io
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.storage import from_json, to_json, write_atomic

NETWORK_FILE = "network.json"
WEIGHTS_FILE = "network.safetensors"
HEAD = "head."
SHOWN = 3  # differences that a message lists of each kind


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkFile:
    """What network.json holds.

    classes: names in the order of the logits; empty where they are not known.
    preprocessing: from an image to the network's input; None where it is not known.

    Raises: ConfigError: another number of names than logits, preprocessing for another resolution.
    """

    spec: ArchSpec
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None

    def __post_init__(self) -> None:
        if self.classes and len(self.classes) != self.spec.num_classes:
            raise ConfigError(
                f"{len(self.classes)} class names for {self.spec.num_classes} logits; "
                "expected as many names as logits, or none."
            )
        if self.preprocessing and self.preprocessing.resolution != self.spec.resolution:
            raise ConfigError(
                f"preprocessing is for resolution {self.preprocessing.resolution}, the network for "
                f"{self.spec.resolution}; expected the same (see ArchSpec.at)."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsReport:
    """What `load_weights` did.

    replaced: names of the head's tensors that did not fit and stay as they were, newly initialised.
    loaded: number of tensors taken from the file.
    """

    replaced: tuple[str, ...]
    loaded: int


def save(
    network: Network,
    folder: Path,
    *,
    classes: tuple[str, ...] = (),
    preprocessing: Preprocessing | None = None,
) -> None:
    """Write network.json and network.safetensors into `folder`, each of them atomically.

    Raises: ConfigError: as `NetworkFile`.
    """
    file = NetworkFile(spec=network.spec, classes=classes, preprocessing=preprocessing)
    state = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomic(folder / WEIGHTS_FILE, safetensors.torch.save(state))
    write_atomic(folder / NETWORK_FILE, to_json(file))


def load(folder: Path) -> tuple[Network, NetworkFile]:
    """The network saved in `folder`, on the CPU in eval mode, and what was saved beside it.

    Raises: ArtefactError: files that are missing or damaged, weights of another network.
    """
    path = folder / NETWORK_FILE
    file = read_network_file(path)
    state = _read_state(folder / WEIGHTS_FILE)
    with torch.device("meta"):  # no time and no random numbers for weights that are replaced
        network = file.spec.build()
    difference = _Difference.between(state, network.state_dict())
    if difference.any:
        raise ArtefactError(
            f"{folder / WEIGHTS_FILE} is not of the network in {path}: {difference}."
        )
    network.load_state_dict(state, assign=True)
    return network.eval(), file


def read_network_file(path: Path) -> NetworkFile:
    """What a network.json says. Raises: ArtefactError: it is missing or damaged."""
    return from_json(NetworkFile, _read(path), source=str(path))


def load_weights(network: Network, path: Path) -> WeightsReport:
    """Start `network` from trained weights; a head that differs keeps its new weights.

    path: a .safetensors file, a .pt or .pth that holds a dictionary of tensors with this package's
    names, or a folder with network.safetensors.

    Raises: ArtefactError: a file that is missing, damaged or holds more than tensors; weights of
        another architecture. The network is then as it was.
    """
    path = path / WEIGHTS_FILE if path.is_dir() else path
    state, expected = _read_state(path), network.state_dict()
    difference = _Difference.between(state, expected)
    if not difference.only_in(HEAD):
        raise ArtefactError(
            f"{path} is not of the architecture {network.spec.label}: {difference}. "
            "Only the head may differ."
        )
    changed = {name.rpartition(".")[0] for name in difference.names}  # whole layers
    replaced = tuple(name for name in expected if name.rpartition(".")[0] in changed)
    taken = {name: state[name] for name in expected if name not in replaced}
    network.load_state_dict(taken, strict=False)
    return WeightsReport(replaced=replaced, loaded=len(taken))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Difference:
    """How a state dict differs from the expected one; shapes and types as "16x3x3x3 float32"."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    changed: dict[str, str]

    @classmethod
    def between(cls, state: dict[str, Tensor], expected: dict[str, Tensor]) -> _Difference:
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
        return (*self.missing, *self.extra, *self.changed)

    @property
    def any(self) -> bool:
        return bool(self.names)

    def only_in(self, prefix: str) -> bool:
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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ArtefactError(
            f"{path} does not exist; expected a folder with {NETWORK_FILE} and {WEIGHTS_FILE}, "
            "or a file of weights."
        ) from error
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}.") from error


def _read_state(path: Path) -> dict[str, Tensor]:
    data = _read(path)
    if data[8:9] == b"{":  # the length of a JSON header, then the header
        return _from_safetensors(data, path)
    if data[:2] == b"PK" or data[:1] == b"\x80":  # a zip archive, or a bare pickle
        return _from_checkpoint(data, path)
    raise ArtefactError(
        f"{path} is neither a safetensors file nor a PyTorch checkpoint; expected one of them."
    )


def _from_safetensors(data: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ArtefactError(f"{path} is a damaged safetensors file: {error}.") from error


def _from_checkpoint(data: bytes, path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickles that are refused anyway
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ArtefactError(
            f"{path} holds more than tensors, or is damaged; files that could run code are "
            "refused. Save the state dict alone, best as .safetensors."
        ) from error
    except Exception as error:  # what a damaged archive raises is not defined
        raise ArtefactError(f"{path} is a damaged PyTorch checkpoint: {error}.") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ArtefactError(
            f"{path} is not a dictionary of tensors; save `network.state_dict()` alone."
        )
    return state

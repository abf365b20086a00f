"""The folder that comes out of a run on a scene, and how it is opened again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from pocketvision.data.scene.bands import BandReduction
from pocketvision.errors import ArtefactError
from pocketvision.fitting.artefact import MODEL, RECORD, RUN, altered_files
from pocketvision.mapping.config import SceneState
from pocketvision.models.patch import PatchNetwork, PatchSpec
from pocketvision.runtimes.scene_onnx import SceneSession, open_scene_session
from pocketvision.scene_record import SCENE_SCHEMA_VERSION, SceneRecord
from pocketvision.storage import from_json, to_json, write_into

BANDS = "bands.safetensors"
NETWORK = "network.json"
WEIGHTS = "network.safetensors"
MODEL_FILE = "model.onnx"
MAP = "map.png"
CLASSES = "classes.npy"


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchDescription:
    """network.json of a patch classifier: its specification and the classes of its logits."""

    spec: PatchSpec
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Versioned:
    schema_version: int
    task: str = "classify"


class SceneArtefact:
    """A network fitted to a scene, read from its folder.

    Raises: ArtefactError: the folder is missing, unfinished, or not one of ours.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.record = _read_record(self.folder)
        self.network, description = load_patch_network(self.folder)
        self.classes = description.classes
        self.reduction = BandReduction.load(self.folder / BANDS)
        self._session: SceneSession | None = None

    def __repr__(self) -> str:
        return f"SceneArtefact({str(self.folder)!r}: {self.record.network.label})"

    @property
    def state(self) -> SceneState:
        """What was asked, and the frozen plan."""
        return read_scene_state(self.folder)

    @property
    def model_file(self) -> Path:
        """The file in model/ that the runtime opens."""
        return self.folder / MODEL / MODEL_FILE

    def session(self) -> SceneSession:
        """The shipped file, opened once. Raises: ArtefactError: it cannot be run."""
        if self._session is None:
            shipped = self.record.shipped
            self._session = open_scene_session(self.model_file, shipped.precision, shipped.threads)
        return self._session

    def altered_files(self) -> list[str]:
        """Names in model/ that are missing, not recorded, or not what the record says."""
        return altered_files(self.folder / MODEL, self.record.shipped.files)


def is_scene_folder(folder: Path) -> bool:
    """True where `folder` holds a finished run on a scene."""
    try:
        text = (folder / RECORD).read_bytes()
        return from_json(_Versioned, text, source="", extra="ignore").task == "hyperspectral"
    except (OSError, ArtefactError):
        return False


def save_patch_network(network: PatchNetwork, folder: Path, *, classes: tuple[str, ...]) -> None:
    """Write network.json and network.safetensors."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_into(folder / WEIGHTS, safetensors.torch.save(state))
    description = PatchDescription(spec=network.spec, classes=classes)
    write_into(folder / NETWORK, to_json(description))


def load_patch_network(folder: Path) -> tuple[PatchNetwork, PatchDescription]:
    """The inverse of `save_patch_network`, in eval mode. Raises: ArtefactError: damaged files."""
    path = folder / NETWORK
    description = read_patch_description(folder)
    try:
        tensors = safetensors.torch.load((folder / WEIGHTS).read_bytes())
    except FileNotFoundError as error:
        raise ArtefactError(f"{error.filename} does not exist.") from error
    except safetensors.SafetensorError as error:
        raise ArtefactError(f"{folder / WEIGHTS} is damaged: {error}.") from error
    network = description.spec.build(seed=0)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if expected != found:
        wrong = sorted(name for name, _ in expected.items() ^ found.items())
        raise ArtefactError(
            f"{folder / WEIGHTS} does not fit {path}: {', '.join(dict.fromkeys(wrong))} differ."
        )
    if not all(bool(torch.isfinite(t).all()) for t in tensors.values() if t.is_floating_point()):
        raise ArtefactError(f"{folder / WEIGHTS} holds weights that are not numbers.")
    network.load_state_dict(tensors)
    return network.eval(), description


def fitted_spec(folder: Path) -> PatchSpec:
    """The network of a finished run, without its weights. Raises: ArtefactError: none is there."""
    _read_record(folder)
    return read_patch_description(folder).spec


def read_scene_state(folder: Path) -> SceneState:
    """run.json of `folder`. Raises: ArtefactError: it is missing, damaged, or of photos."""
    path = folder / RUN
    if not path.is_file():
        raise ArtefactError(f"{path} does not exist.")
    return from_json(SceneState, path.read_bytes(), source=str(path))


def read_patch_description(folder: Path) -> PatchDescription:
    """network.json of `folder`. Raises: ArtefactError: it is missing or damaged."""
    path = folder / NETWORK
    if not path.is_file():
        raise ArtefactError(f"{path} does not exist.")
    return from_json(PatchDescription, path.read_bytes(), source=str(path))


def _read_record(folder: Path) -> SceneRecord:
    if not folder.is_dir():
        raise ArtefactError(f"{folder} is not a folder; give the folder that `fit` wrote.")
    path = folder / RECORD
    if not path.is_file():
        unfinished = (folder / RUN).is_file()
        raise ArtefactError(
            f"{folder} is not a network fitted to a scene: "
            + (
                "its run has not finished; run the same `fit` command again to go on"
                if unfinished
                else "it holds no record.json; was it made by `fit`?"
            )
        )
    text = path.read_bytes()
    head = from_json(_Versioned, text, source=str(path), extra="ignore")
    if head.task != "hyperspectral":
        raise ArtefactError(f"{folder} holds a network for photos, not for scenes.")
    if head.schema_version > SCENE_SCHEMA_VERSION:
        raise ArtefactError(
            f"{path} has schema version {head.schema_version}; this pocketvision reads up to "
            f"{SCENE_SCHEMA_VERSION}: update pocketvision."
        )
    return from_json(SceneRecord, text, source=str(path))

"""Networks as files: network.json says what it is, network.safetensors holds its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.models import pretrained
from pocketvision.models.agreement import as_saved
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.checkpoint import Checkpoint, Difference, read_bytes, read_checkpoint
from pocketvision.models.detector import DetectorSpec
from pocketvision.models.download import Progress, check_hash, fetch
from pocketvision.models.foreign import (
    CLASSIFIER,
    TIMM_PORTED,
    Style,
    adapted,
    norm_of,
    style_of,
)
from pocketvision.models.identify import HEAD, hint, identify, our_state
from pocketvision.models.imagenet import imagenet_classes
from pocketvision.models.networks import AnyNetwork, AnySpec, module_of
from pocketvision.nn.conv import DEFAULT_NORM, BatchNormSpec
from pocketvision.storage import from_json, to_json, write_into

NETWORK_FILE = "network.json"
WEIGHTS_FILE = "network.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkFile:
    """What network.json holds.

    classes: names in the order of the logits; empty where they are not known.
    preprocessing: from an image to the network's input; None where it is not known. trained: False:
    the weights are those that the network was built with.

    Raises: ConfigError: another number of names than logits, preprocessing for another resolution.
    """

    spec: AnySpec
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    trained: bool = True

    def __post_init__(self) -> None:
        # The first logit of a detector is the background, which has no name.
        unnamed = " (the background has none)" if isinstance(self.spec, DetectorSpec) else ""
        logits = self.spec.num_classes - isinstance(self.spec, DetectorSpec)
        if self.classes and len(self.classes) != logits:
            raise ConfigError(
                f"{len(self.classes)} class names for {logits} logits; "
                f"expected as many names as logits{unnamed}, or none."
            )
        if self.preprocessing and self.preprocessing.resolution != self.spec.resolution:
            raise ConfigError(
                f"preprocessing is for resolution {self.preprocessing.resolution}, the network for "
                f"{self.spec.resolution}; expected the same (see ArchSpec.at)."
            )

    def classifier(self, path: Path) -> ArchSpec:
        """The network, if it names classes of whole images. Raises: ArtefactError: it does not.

        path: for the message.
        """
        if isinstance(self.spec, ArchSpec):
            return self.spec
        raise ArtefactError(f"{path} is of {self.spec.label}; expected a network that classifies.")


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsReport:
    """What `load_weights` did, and what belongs to the weights.

    replaced: names of the head's tensors that did not fit and stay as they were, newly initialised.
    loaded: number of tensors taken from the file.
    source: whose names the file has, such as "torchvision's MobileNetV2".
    norm: constants of the batch norms that the weights were trained with; the network has them now.
    preprocessing, classes: what the weights were evaluated with, and the names of their classes;
    None and empty where they are not known.
    trained: False: they were never trained.
    notes: sentences on what a user should know. cautions: those of them that say why answers differ
    from what was published.
    """

    replaced: tuple[str, ...]
    loaded: int
    source: str = "pocketvision"
    norm: BatchNormSpec | None = None
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] = ()
    trained: bool = True
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()


def save(
    network: AnyNetwork,
    folder: Path,
    *,
    classes: tuple[str, ...] = (),
    preprocessing: Preprocessing | None = None,
    trained: bool = True,
) -> None:
    """Write network.json and network.safetensors into `folder`, each of them atomically.

    classes, preprocessing, trained: as of `NetworkFile`, whose errors are raised.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_into(network, folder, classes=classes, preprocessing=preprocessing, trained=trained)


def save_into(
    network: AnyNetwork,
    folder: Path,
    *,
    classes: tuple[str, ...] = (),
    preprocessing: Preprocessing | None = None,
    trained: bool = True,
) -> None:
    """As `save`, into a folder that must be there: one that vanished is not made anew."""
    file = NetworkFile(
        spec=network.spec, classes=classes, preprocessing=preprocessing, trained=trained
    )
    state = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_into(folder / WEIGHTS_FILE, safetensors.torch.save(state))
    write_into(folder / NETWORK_FILE, to_json(file))


def load_classifier(folder: Path) -> tuple[Network, NetworkFile]:
    """As `load`. Raises: ArtefactError: also a network that does not classify whole images."""
    network, file = load(folder)
    file.classifier(folder)
    assert isinstance(network, Network)
    return network, file


def load(folder: Path) -> tuple[AnyNetwork, NetworkFile]:
    """The network saved in `folder`, on the CPU in eval mode, and what was saved beside it.

    Raises: ArtefactError: files that are missing or damaged, weights of another network.
    """
    path = folder / NETWORK_FILE
    file = read_network_file(path)
    state = read_checkpoint(folder / WEIGHTS_FILE).state
    with torch.device("meta"):  # no time and no random numbers for weights that are replaced
        network = module_of(file.spec)
    difference = Difference.between(state, network.state_dict())
    if difference.names:
        raise ArtefactError(
            f"{folder / WEIGHTS_FILE} is not of the network in {path}: {difference}."
        )
    network.load_state_dict(state, assign=True)
    return network.eval(), file


def read_network_file(path: Path) -> NetworkFile:
    """What a network.json says. Raises: ArtefactError: it is missing or damaged."""
    return from_json(NetworkFile, read_bytes(path), source=str(path))


def described(path: Path) -> NetworkFile | None:
    """The network.json beside a network.safetensors; None where there is none."""
    description = path.with_name(NETWORK_FILE)
    if path.name != WEIGHTS_FILE or not description.is_file():
        return None
    return read_network_file(description)


def weights_path(
    source: str | Path,
    name: str,
    width: float,
    progress: Progress | None = None,
) -> Path:
    """The file on this machine, downloaded where `source` is an address or a published name.

    source: a file, a folder with network.safetensors, an address (https://...), or a name that
    `pretrained.find` takes for the network `name` at `width`, such as "torchvision" (a folder of
    that name is "./torchvision").
    progress: called with bytes (done, all) while it is downloaded.

    Raises: ConfigError: nothing of that name is published, or lies there. ArtefactError: it cannot
        be downloaded.
    """
    if isinstance(source, str) and pretrained.is_published(source):
        return fetch(pretrained.find(name, width, source).url, progress)
    return file_path(source, progress)


def file_path(source: str | Path, progress: Progress | None = None) -> Path:
    """As `weights_path`, for all but published names. Raises: ConfigError, ArtefactError."""
    if isinstance(source, str) and source.startswith(("https://", "http://")):
        return fetch(source, progress)
    path = Path(source).expanduser()
    path = path / WEIGHTS_FILE if path.is_dir() else path
    if not path.exists():
        raise pretrained.not_there(source)
    return path


def load_weights(
    network: Network, source: str | Path, progress: Progress | None = None
) -> WeightsReport:
    """Start `network` from trained weights; a head that differs keeps its new weights.

    source, progress: as `weights_path`. The file may be this package's, torchvision's or timm's.
    The network takes over what the weights were trained with: constants of the batch norms, and in
    timm's MobileNetV1 the ReLU6. So load before parameters are given to an optimizer.

    Beside a network.json the rest is compared too. Without one, differences that leave no trace in
    the tensors cannot be seen: blur pools, or one-sided padding in a tf_ file under another name.

    Raises: ConfigError: as `weights_path`. ArtefactError: a file that is damaged or holds more than
        tensors; weights of another architecture, with the nearest one, or of one that differs in
        what shapes do not show, with the first field that does. The network is then as it was.
    """
    spec = network.spec
    return load_checkpoint(
        network, read_checkpoint(weights_path(source, spec.name, spec.width, progress))
    )


def load_checkpoint(network: Network, checkpoint: Checkpoint) -> WeightsReport:
    """As `load_weights`, from a file that is read already."""
    path = checkpoint.path
    published, file = pretrained.by_file(path.name), described(path)
    if published is not None:
        check_hash(path)
    style = style_of(checkpoint.state, path.name)
    asked, expected = network.spec, network.state_dict()
    if style is not None and style.suits(asked.name):
        asked = adapted(asked, style)
    state = our_state(checkpoint, style, asked, expected)
    difference = Difference.between(state, expected)
    if not difference.only_in(HEAD):
        raise ArtefactError(
            f"{path} is not of the architecture {asked.label}: {difference}. Only the head may "
            f"differ.{hint(checkpoint, style, asked)}"
        )
    _check_classifier(path, state)
    spec = as_saved(asked, file.classifier(path), path) if file else asked
    changed = {name.rpartition(".")[0] for name in difference.names}  # whole layers
    replaced = tuple(name for name in expected if name.rpartition(".")[0] in changed)
    taken = {name: state[name] for name in expected if name not in replaced}
    if spec != network.spec:
        _rebuild_body(network, spec)
    network.load_state_dict(taken, strict=False)
    preprocessing = file.preprocessing if file else None
    cautions = tuple(_cautions(style, published))
    return WeightsReport(
        replaced=replaced,
        loaded=len(taken),
        source=str(style) if style else "pocketvision",
        norm=norm_of(spec),
        preprocessing=published.preprocessing if published else preprocessing,
        classes=imagenet_classes() if published else file.classes if file else (),
        trained=file is None or file.trained,
        notes=(*_notes(checkpoint, norm_of(spec)), *cautions),
        cautions=cautions,
    )


def spec_of(path: Path) -> ArchSpec:
    """The network a file of weights belongs to: by the network.json beside it, or told by names
    and shapes.

    Raises: ArtefactError: a file that cannot be read, or is of no network of the registry.
    """
    if file := described(path):
        return file.classifier(path)
    checkpoint = read_checkpoint(path)
    found = identify(checkpoint)
    if found is None:
        style = style_of(checkpoint.state, path.name)
        raise ArtefactError(f"{path} is of no known network.{hint(checkpoint, style)}")
    return found


def _check_classifier(path: Path, state: dict[str, Tensor]) -> None:
    """Raises: ArtefactError: the classifier is no matrix, so its classes cannot be counted."""
    weight = state.get(f"{CLASSIFIER}.weight")
    if weight is not None and weight.ndim != 2:
        shape = "x".join(map(str, weight.shape)) or "scalar"
        raise ArtefactError(
            f"{path} has a classifier whose weight is {shape}; expected classes x features. "
            "Reshape it, or remove it from the file for a new one."
        )


def _rebuild_body(network: Network, spec: ArchSpec) -> None:
    """Blocks as `spec` has them, of the same shapes; their weights are yet to be loaded."""
    place = next(network.blocks.parameters()).device
    with torch.device("meta"):
        blocks = Network(spec).blocks
    network.blocks = blocks.to_empty(device=place).train(network.training)
    network.spec = spec


def _notes(checkpoint: Checkpoint, norm: BatchNormSpec | None) -> Iterator[str]:
    if checkpoint.averaged:
        yield f"Of the weights in the file, the averaged ones ({checkpoint.taken}) were taken."
    floating = {t.dtype for t in checkpoint.state.values() if t.is_floating_point()}
    if other := sorted(str(dtype).removeprefix("torch.") for dtype in floating - {torch.float32}):
        yield f"Values of the file in {', '.join(other)} were taken as float32."
    if norm not in (None, DEFAULT_NORM):
        yield f"Batch norms keep the weights' eps {norm.eps:g} and momentum {norm.momentum:g}."


def _cautions(style: Style | None, published: pretrained.Pretrained | None) -> Iterator[str]:
    if style is TIMM_PORTED:
        yield (
            "These weights were trained with padding at one side only (TensorFlow's SAME); here it "
            "is at both, so answers differ: fine-tune before use."
        )
    if published is not None and published.interpolation != "bilinear":
        yield (
            f"They were evaluated on images resized {published.interpolation}; here images are "
            "resized bilinearly."
        )

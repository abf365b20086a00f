"""What `quantize` begins with: a fitted folder, weights of a known network, or an exported file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.fitting.artefact import RECORD
from pocketvision.fitting.fine_tuning import weights_preprocessing
from pocketvision.models.arch import Network
from pocketvision.models.imagenet import imagenet_classes
from pocketvision.models.weights import described, file_path, load_classifier, load_weights, spec_of
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.onnxfile import check_exported, metadata, read_model, write_model
from pocketvision.runtimes.onnxruntime import is_quantized
from pocketvision.runtimes.runtime import FileCard

FLOAT = "float.onnx"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Source:
    """A float network as a file, and what the file says of itself.

    network: None where only the exported file is there, which cannot be trained further. channels:
    1 where the network takes grey images.
    """

    float_onnx: Path
    card: FileCard
    network: Network | None
    channels: int


def open_source(source: str, folder: Path) -> Source:
    """Write the float file of `source` into `folder`.

    source: a folder that `fit` wrote; a file of weights, ours, torchvision's or timm's, whose
    network is recognised; or an ONNX file that was exported in float.
    Raises: ConfigError, ArtefactError: nothing of these, or a file that is in integers already.
    """
    path = Path(source)
    if path.suffix == ".onnx":
        return _exported(path, folder / FLOAT)
    if (path / RECORD).is_file():
        network, description = load_classifier(path)
        classes, preprocessing = description.classes, description.preprocessing
        if preprocessing is None:
            raise ArtefactError(f"{path / 'network.json'} names no preprocessing.")
    else:
        network, classes, preprocessing = _weights(source)
    card = FileCard(name=network.spec.label, classes=classes, preprocessing=preprocessing)
    export_onnx(network, folder / FLOAT, card)
    return Source(
        float_onnx=folder / FLOAT, card=card, network=network, channels=network.spec.in_chans
    )


def _exported(path: Path, target: Path) -> Source:
    model = read_model(path)
    check_exported(model, path)
    if is_quantized(model):
        raise ConfigError(f"{path} is in integers already; give the float file it was made of.")
    write_model(model, target)
    card = FileCard.from_metadata(metadata(model), source=str(path))
    channels = model.graph.input[0].type.tensor_type.shape.dim[3].dim_value
    return Source(float_onnx=target, card=card, network=None, channels=channels)


def _weights(source: str) -> tuple[Network, tuple[str, ...], Preprocessing]:
    path = file_path(source)
    spec = spec_of(path)
    network = spec.build()
    load_weights(network, path)
    description = described(path)
    if description is not None and description.preprocessing is not None:
        return network.eval(), description.classes, description.preprocessing
    preprocessing = weights_preprocessing(source, spec) or Preprocessing.for_resolution(
        spec.resolution
    )
    names = imagenet_classes()
    classes = names if spec.num_classes == len(names) else _numbers(spec.num_classes)
    return network.eval(), classes, preprocessing


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(k) for k in range(count))

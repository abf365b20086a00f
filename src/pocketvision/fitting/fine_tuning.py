"""Starting from weights: which network they belong to, and loading them under a new head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.fitting.candidates import select_names
from pocketvision.fitting.config import FitConfig, HeadName
from pocketvision.fitting.reporter import Reporter
from pocketvision.models import pretrained, registry
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.dense_weights import preprocessing_of, source_of, start_dense
from pocketvision.models.detector import Detector
from pocketvision.models.download import Progress
from pocketvision.models.foreign import adapted, style_for
from pocketvision.models.identify import with_channels
from pocketvision.models.networks import AnySpec, DenseSpec
from pocketvision.models.segmenter import Segmenter
from pocketvision.models.weights import described, file_path, load_weights, spec_of, weights_path
from pocketvision.progress import counted

FROM_SCRATCH = "from scratch"
IN_CHANS = 3  # images are RGB


def weights_specs(config: FitConfig, num_classes: int, reporter: Reporter) -> list[ArchSpec]:
    """The networks that the weights asked for can start: a file's own, or all that are published.

    Raises: ConfigError: the file does not exist, nothing of that name is published, or its network
        has no published accuracy; --models or --width rule the networks out. ArtefactError: it
        cannot be downloaded or read, or is of no network known here.
    """
    assert config.weights is not None
    specs = [_rankable(spec) for spec in networks_of(config.weights, reporter)]
    asked = [spec for spec in specs if _is_asked(config, spec)]
    if not asked:
        found = ", ".join(f"{spec.name} x{spec.width:g}" for spec in specs)
        raise ConfigError(
            f"weights={config.weights!r} are of {found}, which --models and --width rule out; "
            "leave those options away."
        )
    return [with_channels(spec, IN_CHANS).with_classes(num_classes) for spec in asked]


def networks_of(weights: str, reporter: Reporter) -> list[ArchSpec]:
    """The networks of weights: a file's own, or all that are published under a name.

    Raises: ConfigError: the file does not exist, or nothing of that name is published.
        ArtefactError: it cannot be downloaded or read, or is of no network known here.
    """
    if pretrained.is_published(weights):
        return [published_spec(row) for row in pretrained.published(weights)]
    return [spec_of(weights_file(weights, reporter))]


def dense_weights_specs(
    config: FitConfig,
    num_classes: int,
    network: Callable[[ArchSpec, int, HeadName | None], DenseSpec],
    reporter: Reporter,
) -> list[DenseSpec]:
    """As `weights_specs`, of a task whose `network` stands on a backbone.

    Raises: also ArtefactError: the weights are of another task, or under another head than asked.
    """
    assert config.weights is not None
    if not pretrained.is_published(config.weights):
        path = weights_file(config.weights, reporter)
        found = source_of(path)
        if not isinstance(found, ArchSpec):
            expected = network(found.backbone, num_classes, config.head)
            if type(expected) is not type(found):
                raise ArtefactError(f"{path} is of {found.label}, which is for another task.")
            if config.head not in (None, found.head.kind):
                raise ArtefactError(
                    f"{path} is of {found.label}, whose head is {found.head.kind}; head="
                    f"{config.head!r} cannot stand there. Leave it away, or give other weights."
                )
            return [found.with_classes(expected.num_classes)]
    specs = weights_specs(config, num_classes, reporter)
    return [network(spec, num_classes, config.head) for spec in specs]


def weights_file(weights: str, reporter: Reporter) -> Path:
    """The file of weights: itself, in the folder that `fit` or `save` wrote, or downloaded.

    Raises: ConfigError: it does not exist. ArtefactError: it cannot be downloaded.
    """
    with _fetching(weights, reporter) as progress:
        return file_path(weights, progress)


def start_from(weights: str | None, network: Network, reporter: Reporter) -> str:
    """Load the weights into `network` in place; returns how the training starts, in words.

    Raises: ArtefactError: weights of another architecture, or that cannot be downloaded.
    """
    if weights is None:
        return FROM_SCRATCH
    spec = network.spec
    with _fetching(weights, reporter) as progress:
        path = weights_path(weights, spec.name, spec.width, progress)
    loaded = load_weights(network, path)
    for note in loaded.notes:
        reporter.say(note)
    if loaded.replaced:
        reporter.say(
            f"The head of {weights} does not fit {network.spec.num_classes} classes and is "
            f"replaced: {', '.join(loaded.replaced)} start fresh."
        )
    if not loaded.trained:
        return FROM_SCRATCH
    reporter.say(f"Weights of {spec.name} x{spec.width:g} by {loaded.source}.")
    return f"fine-tuned from {path.name if pretrained.is_published(weights) else weights}"


def start_dense_from(
    spec: DenseSpec, config: FitConfig, reporter: Reporter
) -> tuple[Segmenter | Detector, str]:
    """A segmenter or detector to train, with the weights asked for; and how it starts, in words.

    Raises: ConfigError, ArtefactError: as `start_dense`.
    """
    if config.weights is None:
        return spec.build(seed=config.seed), FROM_SCRATCH
    with _fetching(config.weights, reporter) as progress:
        network, loaded = start_dense(spec, config.weights, config.seed, progress)
    for note in loaded.notes:
        reporter.say(note)
    if not loaded.trained:
        return network, FROM_SCRATCH
    reporter.say(f"Weights of {spec.backbone.name} x{spec.width:g} by {loaded.source}.")
    return network, f"fine-tuned from {config.weights}"


def weights_preprocessing(weights: str | None, spec: AnySpec) -> Preprocessing | None:
    """What the weights were evaluated with, as far as it is known; their mean and std matter."""
    if weights is None:
        return None
    if pretrained.is_published(weights):
        body = spec if isinstance(spec, ArchSpec) else spec.backbone
        return pretrained.find(body.name, body.width, weights).preprocessing
    if row := pretrained.by_file(Path(weights).name):
        return row.preprocessing
    path = file_path(weights)
    if not isinstance(spec, ArchSpec):
        return preprocessing_of(path)
    file = described(path)
    return file.preprocessing if file else None


def published_spec(row: pretrained.Pretrained) -> ArchSpec:
    """The network as the library has it that published its weights."""
    spec = registry.spec(row.model)
    return adapted(spec, style_for(row.library, spec.name))


def _rankable(spec: ArchSpec) -> ArchSpec:
    """Raises: ConfigError: a network outside the registry, about which the papers say nothing."""
    if spec.name not in registry.MODELS:
        raise ConfigError(
            f"The weights are of {spec.name}, which is not in the registry and has no published "
            "accuracy to rank by; give weights of a network that `pocketvision models` lists."
        )
    return spec


def _is_asked(config: FitConfig, spec: ArchSpec) -> bool:
    named = not config.models or any(_is_of(spec, name) for name in select_names(config.models))
    return named and spec.width in (config.widths or (spec.width,))


def _is_of(spec: ArchSpec, name: str) -> bool:
    """True for a name of ours or another library's, and the width that one implies."""
    ours, implied = registry.resolve(name)
    return spec.name == ours and spec.width == implied.get("width", spec.width)


@contextmanager
def _fetching(weights: str, reporter: Reporter) -> Iterator[Progress | None]:
    """What to call with bytes (done, all); None for a file that lies here."""
    if not (weights.startswith(("https://", "http://")) or pretrained.is_published(weights)):
        yield None
        return
    with reporter.progress("Fetching weights") as advance:
        yield counted(advance, "bytes")

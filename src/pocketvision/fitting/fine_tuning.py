"""Starting from weights: which network they belong to, and loading them under a new head."""

from __future__ import annotations

from pathlib import Path

from pocketvision.errors import ConfigError
from pocketvision.fitting.reporter import Reporter
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.weights import load_weights, read_network_file

FROM_SCRATCH = "from scratch"


def weights_file(weights: str) -> Path:
    """The file that holds the weights, given it or the folder that `fit` or `save` wrote.

    Raises: ConfigError: it does not exist.
    """
    path = Path(weights)
    if path.is_dir():
        path = path / "network.safetensors"
    if not path.is_file():
        raise ConfigError(
            f"weights={weights!r} does not exist; give a .safetensors file, or a folder that holds "
            "network.safetensors."
        )
    return path


def weights_spec(weights: str) -> ArchSpec | None:
    """The network the weights were saved from, if a network.json lies beside them."""
    description = weights_file(weights).with_name("network.json")
    return read_network_file(description).spec if description.is_file() else None


def start_from(weights: str | None, network: Network, reporter: Reporter) -> str:
    """Load the weights into `network` in place; returns how the training starts, in words.

    Raises: ArtefactError: weights of another architecture.
    """
    if weights is None:
        return FROM_SCRATCH
    loaded = load_weights(network, weights_file(weights))
    if loaded.replaced:
        reporter.say(
            f"The head of {weights} does not fit {network.spec.num_classes} classes and is "
            f"replaced: {', '.join(loaded.replaced)} start fresh."
        )
    return f"fine-tuned from {weights}"

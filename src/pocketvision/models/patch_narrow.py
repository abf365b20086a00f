"""A narrower patch classifier that takes over the weights of the channels it keeps.

Source: Yang et al., NetAdapt, section 3.3: the filters of the largest l2 norm stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pocketvision.errors import ConfigError
from pocketvision.models.patch import PatchNetwork, PatchSpec
from pocketvision.models.patch_widths import Wire, wires


def narrow_patch(network: PatchNetwork, spec: PatchSpec) -> PatchNetwork:
    """The network of `spec`, narrower in places, with the weights of the channels that stay.

    It computes what `network` does with the channels that it lacks set to zero; as for `narrow`,
    CBAM's maximum over channels is the exception, where channels can be negative.

    spec: `network.spec` with smaller widths; see `narrower_patch`. The result is in the mode of
    `network`, and shares no memory with it.

    Raises: ConfigError: a spec that differs in more than widths, or is wider somewhere.
    """
    pairs = _pairs(network.spec, spec)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for old, new in pairs:  # all norms are of the whole filters, whatever goes before
        kept = _kept([network.state_dict()[name] for name in old.writers], new.width)
        for name in (*old.writers, *old.followers):
            state[name] = state[name][kept]
        for name, columns in old.readers:
            state[name] = state[name][:, _columns(kept, columns)]
        for name in old.means:
            state[name][:, 0] *= new.width / old.width
    with torch.device("meta"):
        narrowed = PatchNetwork(spec)
    narrowed.load_state_dict(state, assign=True)
    narrowed.train(network.training)
    return narrowed


def _pairs(old: PatchSpec, new: PatchSpec) -> list[tuple[Wire, Wire]]:
    """Each width of both, side by side."""
    theirs, ours = wires(old), wires(new)
    same = [wire.name for wire in theirs] == [wire.name for wire in ours]
    if not same or _shape(old) != _shape(new):
        raise ConfigError(
            f"{new.label} is no narrower form of {old.label}: it differs in more than its widths."
        )
    pairs = list(zip(theirs, ours, strict=True))
    for before, now in pairs:
        if now.width > before.width:
            raise ConfigError(
                f"{new.label} has {now.width} channels in {now.name}, more than the "
                f"{before.width} of {old.label}; expected as many or fewer."
            )
    return pairs


def _shape(spec: PatchSpec) -> tuple[object, ...]:
    """What is no width."""
    kernels = (
        [(v.depth, v.kernel) for v in spec.volumes],
        [(plane.kernel, plane.act) for plane in spec.planes],
    )
    attention = spec.head.attention
    named = (attention.kind, attention.bias) if attention else None
    return spec.name, spec.bands, spec.window, kernels, spec.num_classes, named


def _kept(writers: Sequence[Tensor], width: int) -> Tensor:
    """The rows that stay, in their order: those of the largest norm over all that write them."""
    norms = sum(weight.detach().double().flatten(1).square().sum(1) for weight in writers)
    assert isinstance(norms, Tensor)
    ranked = torch.sort(norms, descending=True, stable=True).indices
    return torch.sort(ranked[:width]).values


def _columns(kept: Tensor, columns: int) -> Tensor:
    """The places of channels that have so many columns each."""
    return (kept[:, None] * columns + torch.arange(columns)).flatten()

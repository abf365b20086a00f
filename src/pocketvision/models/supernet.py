"""All members of a search space in one set of weights, which are those of its largest member.

A member has the first blocks of every stage, the first channels of every layer and the middle of
every kernel. Nothing is masked: a member computes with slices of the weights, and what it learns is
learned by all that share them.

Source: Cai et al., Once-for-All, section 3.2 (depths, widths, kernels; without its learned
transformation of kernels, as Yu et al., BigNAS, section 3); Yu and Huang, Universally Slimmable
Networks, section 3.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pocketvision.errors import ConfigError
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.space import Member, SearchSpace
from pocketvision.models.spaces import member_at_any_side

KEPT_FORMS = 64  # networks without weights, which take longer to make than a small one to run


class Supernet(nn.Module):
    """The weights of all members of `space`.

    Shape:  (N, C, H, W) float, normalised -> (N, num_classes) logits; any H and W.

    seed: as of `ArchSpec.build`.
    """

    def __init__(
        self, space: SearchSpace, num_classes: int, in_chans: int = 3, seed: int | None = None
    ) -> None:
        super().__init__()
        self.space = space
        self.largest = space.spec(space.largest(), num_classes, in_chans).build(seed)
        self._forms: OrderedDict[ArchSpec, Network] = OrderedDict()

    def forward(self, x: Tensor, member: Member) -> Tensor:
        form = self._form(self.spec(member)).train(self.training)
        logits: Tensor = functional_call(form, self.slices(member), (x,))
        return logits

    def spec(self, member: Member) -> ArchSpec:
        """The network of a member. Raises: ConfigError: a member of another space."""
        largest = self.largest.spec
        return self.space.spec(member, largest.num_classes, largest.in_chans)

    def slices(self, member: Member) -> dict[str, Tensor]:
        """The member's state dict: views of the weights, through which gradients flow."""
        form, places = self._form(self.spec(member)), self._places(member)
        ours = {**dict(self.largest.named_parameters()), **dict(self.largest.named_buffers())}
        return {
            name: _middle(ours[_renamed(name, places)], tensor.shape)
            for name, tensor in form.state_dict().items()
        }

    def extract(self, member: Member) -> Network:
        """The member as a network of its own, which shares no memory with this one, in its mode."""
        with torch.device("meta"):
            network = Network(self.spec(member))
        state = {name: view.detach().clone() for name, view in self.slices(member).items()}
        network.load_state_dict(state, assign=True)
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        return network.train(self.training)

    @torch.no_grad()
    def adopt(self, network: Network) -> Member:
        """Take over the weights of a network that is a member, whatever its input side.

        A classifier of other classes stays as it is. The other members get what they share with it.

        Raises: ConfigError: a network that the space does not hold.
        """
        member = member_at_any_side(self.space, network.spec)
        if member is None:
            raise ConfigError(
                f"{network.spec.label} is no member of {self.space.name}, so its weights have no "
                "place there; give weights of a network that is, or none."
            )
        state = network.state_dict()
        for name, view in self.slices(member).items():
            if state[name].shape == view.shape:
                view.copy_(state[name])
        return member

    def _form(self, spec: ArchSpec) -> Network:
        """A network without weights, made once."""
        if spec not in self._forms:
            with torch.device("meta"):
                self._forms[spec] = Network(spec)
            if len(self._forms) > KEPT_FORMS:
                self._forms.popitem(last=False)
        self._forms.move_to_end(spec)
        return self._forms[spec]

    def _places(self, member: Member) -> list[int]:
        """Which block of the largest member each block of `member` is a part of."""
        places, first = [0], 1
        for stage, choices in zip(self.space.stages, member.stages, strict=True):
            places += range(first, first + len(choices))
            first += max(stage.depths)
        return [*places, first]


def _renamed(name: str, places: list[int]) -> str:
    """'blocks.3.expand.conv.weight' with the number the block has in the largest member."""
    head, *rest = name.split(".")
    if head != "blocks":
        return name
    return ".".join([head, str(places[int(rest[0])]), *rest[1:]])


def _middle(tensor: Tensor, shape: torch.Size) -> Tensor:
    """The first channels of a tensor, in both directions, and the middle of its kernel."""
    for axis, (have, want) in enumerate(zip(tensor.shape, shape, strict=True)):
        if have != want:
            tensor = tensor.narrow(axis, (have - want) // 2 if axis >= 2 else 0, want)
    return tensor

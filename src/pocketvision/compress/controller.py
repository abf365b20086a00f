"""The recurrent controller of MnasNet: it writes a member choice by choice, and learns by PPO.

MnasNet chooses once for all blocks of a stage; this space has choices for every block, so the
sequence is the space's own: multiplier, input, activation of the ends, then stage by stage the
depth, and block by block kernel, expansion, attention and activation.

Sources: Tan et al., MnasNet (arXiv 1807.11626), section 4 for the loop of sampling, evaluating and
updating, section 3 and equation 2 for the reward; Schulman et al., Proximal Policy Optimization
Algorithms, 2017, equation 7 for the update. The numbers below are ours: MnasNet evaluates about
8000 networks, this has to learn from hundreds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pocketvision.compress.sampling import (
    REWARD_EXPONENT,
    Limit,
    Scored,
    draw_within,
    generator_of,
    reward,
)
from pocketvision.errors import in_range
from pocketvision.models.space import BlockChoice, Member, SearchSpace, block_at

LEARNING_RATE = 0.003  # of Adam
ENTROPY_WEIGHT = 0.01  # of the bonus for choices that stay open
EPOCHS = 10  # over each generation
CLIP = 0.2  # epsilon of PPO's equation 7
BASELINE_DECAY = 0.95  # of the moving average, for each member
TOO_SLOW = -0.5  # advantage of draws beyond the limit when all are; less when fewer are
LEAST_SPREAD = 1e-3  # of rewards; smaller differences are noise
HIDDEN = 64  # units of the LSTM
SPREAD_OF_WEIGHTS = 0.1  # so small that the first draws are nearly even
BATCH, MAX_BATCHES = 64, 20  # sequences drawn at once, and how often until chance has to help


class Controller:
    """A policy over the choices of a space, made better by the rewards of each generation.

    target_ms: TAR of the reward. exponent: its w, on both sides of the target.

    Raises: ConfigError: a number outside what is allowed.
    """

    def __init__(
        self,
        space: SearchSpace,
        limit: Limit,
        seed: int,
        *,
        target_ms: float,
        exponent: float = REWARD_EXPONENT,
    ) -> None:
        in_range("target_ms", target_ms, 1e-6, 1e9)
        in_range("exponent", exponent, -1.0, 0.0)
        self.space, self.limit, self.seed = space, limit, seed
        self.target_ms, self.exponent = target_ms, exponent
        self.generation = 0
        self.known: set[Member] = set()
        self.baseline: float | None = None
        self.decisions = decisions_of(space)
        self.policy = Policy(self.decisions, torch.Generator().manual_seed(seed))
        self.optimiser = torch.optim.Adam(self.policy.parameters(), lr=LEARNING_RATE)

    def ask(self, count: int) -> list[Member]:
        """New members within the limit, from the policy; from chance where it has none left.

        Raises: BudgetError: chance finds none either.
        """
        chance = generator_of(self.seed, self.generation)
        generator = self._generator()
        members: dict[Member, None] = {}  # in the order they were drawn
        for _ in range(MAX_BATCHES):
            for member in dict.fromkeys(self._members(self.policy.sample(BATCH, generator))):
                if len(members) == count:
                    return list(members)
                if member not in self.known and self.limit.holds(member):
                    members[member] = None
        while len(members) < count:
            known = self.known.union(members)
            members[draw_within(self.space, self.limit, chance, known)] = None
        return list(members)

    def tell(self, scored: Sequence[Scored]) -> None:
        if scored:
            told = [encode(self.space, self.decisions, one.member) for one in scored]
            slow = self._too_slow()
            punished = torch.full((len(slow),), TOO_SLOW * len(slow) / BATCH)
            advantages = torch.cat([self._advantages(scored), punished])
            self._learn(torch.cat([torch.tensor(told), slow]), advantages)
        self.known.update(one.member for one in scored)
        self.generation += 1

    def _generator(self) -> torch.Generator:
        seed = generator_of(self.seed, self.generation).getrandbits(63)
        return torch.Generator().manual_seed(seed)

    def _members(self, choices: Tensor) -> list[Member]:
        return [decode(self.space, self.decisions, row) for row in choices.tolist()]

    def _too_slow(self) -> Tensor:
        """Draws of this generation beyond the limit.

        They are never told of; without them a policy that drifts beyond the limit stays there.
        """
        drawn = self.policy.sample(BATCH, self._generator())
        slow = [not self.limit.holds(member) for member in self._members(drawn)]
        return drawn[torch.tensor(slow)]

    def _advantages(self, scored: Sequence[Scored]) -> Tensor:
        """Rewards above the moving average, in units of their spread."""
        rewards = torch.tensor(
            [reward(o.accuracy, o.latency_ms, self.target_ms, self.exponent) for o in scored]
        )
        before = float(rewards.mean()) if self.baseline is None else self.baseline
        self.baseline = before
        for value in rewards.tolist():
            self.baseline += (1 - BASELINE_DECAY) * (value - self.baseline)
        return (rewards - before) / rewards.std(correction=0).clamp_min(LEAST_SPREAD)

    def _learn(self, choices: Tensor, advantages: Tensor) -> None:
        with torch.no_grad():
            old = chosen(self.policy(choices), choices)
        # Choices of blocks beyond the depth made no difference, so that nothing is learned of them.
        used = self.policy.used(choices)
        for _ in range(EPOCHS):
            log_probs = self.policy(choices)
            ratios = (chosen(log_probs, choices) - old).exp()
            gain = clipped_gain(ratios, advantages[:, None])
            entropy = -(log_probs.exp() * log_probs).sum(-1)
            objective = (gain + ENTROPY_WEIGHT * entropy)[used].mean()
            self.optimiser.zero_grad()
            (-objective).backward()
            self.optimiser.step()


def clipped_gain(ratios: Tensor, advantages: Tensor) -> Tensor:
    """PPO's surrogate objective, (B, T) and (B, 1) -> (B, T). Source: Schulman et al., eq. 7."""
    clipped = ratios.clamp(1 - CLIP, 1 + CLIP)
    return torch.minimum(ratios * advantages, clipped * advantages)


def chosen(log_probs: Tensor, choices: Tensor) -> Tensor:
    """Log-probabilities of what was chosen, (B, T, O) and (B, T) -> (B, T)."""
    return log_probs.gather(-1, choices[..., None]).squeeze(-1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One place in the sequence.

    depth: the place where the depth of its stage is decided; None outside of blocks.
    block: which block of the stage it belongs to.
    """

    options: tuple[Any, ...]
    depth: int | None = None
    block: int = 0


def decisions_of(space: SearchSpace) -> list[Decision]:
    """The sequence; it has every stage at its greatest depth."""
    whole = (space.widths, space.resolutions, space.acts)
    decisions = [Decision(options=options) for options in whole]
    for stage in space.stages:
        depth = len(decisions)
        decisions.append(Decision(options=stage.depths))
        for block in range(max(stage.depths)):
            for options in (stage.kernels, stage.expansions, stage.attention, stage.acts):
                decisions.append(Decision(options=options, depth=depth, block=block))
    return decisions


def decode(space: SearchSpace, decisions: Sequence[Decision], choices: Sequence[int]) -> Member:
    """The member of a sequence of choices."""
    values = iter([d.options[choice] for d, choice in zip(decisions, choices, strict=True)])
    width, resolution, act = next(values), next(values), next(values)
    stages = []
    for stage in space.stages:
        depth = next(values)
        blocks = [
            BlockChoice(
                kernel=next(values),
                expansion=next(values),
                attention=next(values),
                act=next(values),
            )
            for _ in range(max(stage.depths))
        ]
        stages.append(tuple(blocks[:depth]))
    return Member(width=width, resolution=resolution, stages=tuple(stages), act=act)


def encode(space: SearchSpace, decisions: Sequence[Decision], member: Member) -> list[int]:
    """The choices of a member; 0 for blocks beyond the depth."""
    values: list[Any] = [member.width, member.resolution, member.act]
    for stage, blocks in zip(space.stages, member.stages, strict=True):
        values.append(len(blocks))
        beyond = (block_at(stage, 0),) * (max(stage.depths) - len(blocks))
        for block in (*blocks, *beyond):
            values += [block.kernel, block.expansion, block.attention, block.act]
    return [d.options.index(value) for d, value in zip(decisions, values, strict=True)]


class Policy(nn.Module):
    """An LSTM that reads the choice before, and for each of T decisions a softmax over its options.

    Shape: (B, T) choices -> (B, T, O) log-probabilities, O of the decision with the most options.
    """

    offered: Tensor  # (T, O) bool: options that a decision has
    depths: Tensor  # (T, O): blocks of the stage, for each option of its depth
    depth_at: Tensor  # (T): where that depth is decided
    block: Tensor  # (T)

    def __init__(self, decisions: Sequence[Decision], generator: torch.Generator) -> None:
        super().__init__()
        length = len(decisions)
        widest = max(len(decision.options) for decision in decisions)
        self.register_buffer("offered", torch.zeros(length, widest, dtype=torch.bool))
        self.register_buffer("depths", torch.ones(length, widest, dtype=torch.long))
        self.register_buffer("depth_at", torch.tensor([d.depth or 0 for d in decisions]))
        self.register_buffer("block", torch.tensor([d.block for d in decisions]))
        for place, decision in enumerate(decisions):
            self.offered[place, : len(decision.options)] = True
            if decision.depth is not None:
                depths = decisions[decision.depth].options
                self.depths[place, : len(depths)] = torch.tensor(depths)
        self.read = nn.Parameter(torch.empty(length, widest, HIDDEN))
        with torch.random.fork_rng(devices=[]):  # its own first weights come from global numbers
            self.lstm = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        self.weight = nn.Parameter(torch.empty(length, HIDDEN, widest))
        self.bias = nn.Parameter(torch.empty(length, widest))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -SPREAD_OF_WEIGHTS, SPREAD_OF_WEIGHTS, generator)

    def forward(self, choices: Tensor) -> Tensor:
        places = torch.arange(choices.shape[1] - 1)
        read = self.read[places, choices[:, :-1]]  # (B, T - 1, HIDDEN)
        hidden, _ = self.lstm(nn.functional.pad(read, (0, 0, 1, 0)))
        return self._log_probs(hidden, slice(None))

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Sequences of choices, (count, T); 0 for blocks beyond the depth."""
        choices = torch.zeros(count, len(self.block), dtype=torch.long)
        read, state = torch.zeros(count, 1, HIDDEN), None
        for place in range(len(self.block)):
            hidden, state = self.lstm(read, state)
            probs = self._log_probs(hidden, slice(place, place + 1))[:, 0].exp()
            drawn = torch.multinomial(probs, 1, generator=generator)[:, 0]
            choices[:, place] = drawn * self.used(choices)[:, place]
            read = self.read[place, choices[:, place]][:, None]
        return choices

    def used(self, choices: Tensor) -> Tensor:
        """Whether a decision is of a block within the depth, or of none, (B, T) -> (B, T)."""
        places = torch.arange(len(self.block))
        return self.depths[places, choices[:, self.depth_at]] > self.block

    def _log_probs(self, hidden: Tensor, places: slice) -> Tensor:
        """(B, places, HIDDEN) -> (B, places, O)."""
        logits = torch.einsum("bth,tho->bto", hidden, self.weight[places]) + self.bias[places]
        # Not infinite: the entropy multiplies it by a probability of 0.
        return logits.masked_fill(~self.offered[places], -1e9).log_softmax(-1)

"""Scoring the proposals of NetAdapt, in any process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocketvision.compress.netadapt import Proposal
from pocketvision.data.images import Samples
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.models.narrow import narrow
from pocketvision.models.networks import AnyNetwork, AnySpec, task_of
from pocketvision.models.weights import load
from pocketvision.train.batches import Source
from pocketvision.train.brief import fine_tune_briefly
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.module import TaskModule


@dataclass(frozen=True, kw_only=True, slots=True)
class Lessons:
    """What proposals learn from, and what judges them; it can be sent to another process.

    train, held_out: of the training images of `samples`.
    """

    samples: Samples
    train: Source
    held_out: Source
    preprocessing: Preprocessing

    def of(self, network: AnyNetwork, teacher: AnyNetwork, config: TrainConfig) -> TaskModule:
        """The training of a network, for its task; its val is what judges."""
        course = Course(
            train=self.train,
            val=self.held_out,
            preprocessing=self.preprocessing,
            config=config,
            teacher=teacher,
        )
        return TASKS[task_of(network.spec)].module(network, self.samples, course)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProposalTask:
    """A narrower form of the network. key: which images it is fine-tuned on."""

    spec: AnySpec
    key: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ShrinkWork:
    """Proposals for the network in a folder. brief, steps: their fine-tuning. first_key: of the
    first of them.
    """

    network: Path
    teacher: Path
    lessons: Lessons
    brief: TrainConfig
    steps: int
    first_key: int

    def task(self, proposal: Proposal[AnySpec], place: int) -> ProposalTask:
        """The proposal at that place of its step."""
        return ProposalTask(spec=proposal.spec, key=self.first_key + place)

    def open(self) -> ShrinkScorer:
        """Read the networks. Raises: ArtefactError: they are missing or damaged."""
        return ShrinkScorer(self, load(self.network)[0], load(self.teacher)[0])


@dataclass(frozen=True, slots=True)
class ShrinkScorer:
    """The networks in one process."""

    work: ShrinkWork
    network: AnyNetwork
    teacher: AnyNetwork

    def score(self, task: ProposalTask) -> float:
        """Expected score, 0..1, of the images held out."""
        return self._learned(task).expected_score()

    def tuned(self, task: ProposalTask) -> AnyNetwork:
        """The network behind its short fine-tuning; the same whenever it is made."""
        return self._learned(task).network

    def _learned(self, task: ProposalTask) -> TaskModule:
        work, network = self.work, narrow(self.network, task.spec)
        module = work.lessons.of(network, self.teacher, work.brief)
        fine_tune_briefly(module, work.steps, key=task.key)
        return module

"""Scoring the proposals of NetAdapt, in any process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocketvision.compress.netadapt import Proposal
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.narrow import narrow
from pocketvision.models.weights import load_classifier
from pocketvision.train.batches import PixelSource
from pocketvision.train.brief import BriefConfig, expected_accuracy, fine_tune_briefly


@dataclass(frozen=True, kw_only=True, slots=True)
class ProposalTask:
    """A narrower form of the network. key: which images it is fine-tuned on."""

    spec: ArchSpec
    key: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ShrinkWork:
    """Proposals for the network in a folder. first_key: of the first of them."""

    network: Path
    teacher: Path
    train: PixelSource
    held_out: PixelSource
    preprocessing: Preprocessing
    brief: BriefConfig
    first_key: int

    def task(self, proposal: Proposal, place: int) -> ProposalTask:
        """The proposal at that place of its step."""
        return ProposalTask(spec=proposal.spec, key=self.first_key + place)

    def open(self) -> ShrinkScorer:
        """Read the networks. Raises: ArtefactError: they are missing or damaged."""
        return ShrinkScorer(
            self, load_classifier(self.network)[0], load_classifier(self.teacher)[0]
        )


@dataclass(frozen=True, slots=True)
class ShrinkScorer:
    """The networks in one process."""

    work: ShrinkWork
    network: Network
    teacher: Network

    def score(self, task: ProposalTask) -> float:
        """Expected accuracy, 0..1, of the images held out."""
        work = self.work
        return expected_accuracy(
            self.tuned(task), work.held_out, work.preprocessing, work.brief.threads
        )

    def tuned(self, task: ProposalTask) -> Network:
        """The network behind its short fine-tuning; the same whenever it is made."""
        network = narrow(self.network, task.spec)
        fine_tune_briefly(
            network,
            self.work.train,
            self.work.preprocessing,
            self.work.brief,
            teacher=self.teacher,
            key=task.key,
        )
        return network

"""Knowledge distillation: what a larger network answers is part of what a smaller one learns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pocketvision.models.arch import Network

TEACHER_SHARE = 0.5  # of the loss; the rest is the cross-entropy with the labels


def distilled(plain: Tensor, logits: Tensor, teacher: Network, images: Tensor) -> Tensor:
    """The loss `plain`, half of it exchanged for the divergence from the teacher's answers.

    logits: of the student on `images`, (N, C, H, W) normalised. teacher: in eval mode.
    """
    with torch.no_grad():
        wanted = teacher(images)
    return (1 - TEACHER_SHARE) * plain + TEACHER_SHARE * divergence(logits, wanted)


def divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of the answers from the wanted ones, both (N, K) logits.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, section 2, at T = 1.
    """
    answers, truth = F.log_softmax(logits.float(), 1), F.log_softmax(wanted.float(), 1)
    return F.kl_div(answers, truth, reduction="batchmean", log_target=True)

"""Knowledge distillation: what a larger network answers is part of what a smaller one learns."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

TEACHER_SHARE = 0.5  # of the loss; the rest is what the labels say


def distilled(plain: Tensor, taught: Tensor) -> Tensor:
    """The loss `plain`, half of it exchanged for what the teacher's answers say."""
    return (1 - TEACHER_SHARE) * plain + TEACHER_SHARE * taught


def divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of answers from the wanted ones, both (N, K, ...) logits.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, section 2, at T = 1.
    """
    answers, truth = F.log_softmax(logits.float(), 1), F.log_softmax(wanted.float(), 1)
    places = logits.numel() // logits.shape[1]
    return F.kl_div(answers, truth, reduction="sum", log_target=True) / places


def divergence_of_objects(answers: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> Tensor:
    """As `divergence`, of anchors and their boxes: each counts by what the wanted answer holds for
    an object there, since nearly all anchors show background.

    answers, wanted: (N, M, K + 1) logits, the background first, and (N, M, 4) codes.
    """
    (logits, codes), (wanted_logits, wanted_codes) = answers, wanted
    truth = F.log_softmax(wanted_logits.float(), 2)
    objects = 1 - truth[..., 0].exp()
    chances = F.kl_div(F.log_softmax(logits.float(), 2), truth, reduction="none", log_target=True)
    boxes = F.smooth_l1_loss(codes.float(), wanted_codes.float(), reduction="none")
    return (objects * (chances.sum(2) + boxes.sum(2))).sum() / objects.sum().clamp(min=1)

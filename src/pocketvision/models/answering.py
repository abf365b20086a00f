"""What a network is asked for: behind its raw outputs, the answers that a user reads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketvision.models.arch import Network
from pocketvision.models.detector import Detector, decoded
from pocketvision.models.networks import AnyNetwork
from pocketvision.models.segmenter import Segmenter


def answering(network: AnyNetwork) -> nn.Module:
    """From normalised images to the outputs of an exported file, raw ones first, answers last.

    Of a classifier both are its (N, K) logits. It shares the weights of `network`.
    """
    match network:
        case Network():
            return network
        case Segmenter():
            return SegmenterAnswers(network)
        case Detector():
            return DetectorAnswers(network)


class SegmenterAnswers(nn.Module):
    """Shape: (N, C, H, W) float -> (N, K, h, w) logits as the head gives them, and the class of
    every pixel, (N, H, W) uint8.
    """

    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        coarse = self.network.coarse(images)
        logits = F.interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return coarse, logits.argmax(1).to(torch.uint8)


class DetectorAnswers(nn.Module):
    """Shape: (N, C, H, W) float -> (N, M, K + 4) logits and codes, and of every anchor its box and
    the probabilities of the classes, the background first: (N, M, 4 + K).
    """

    anchors: Tensor

    def __init__(self, network: Detector) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("anchors", network.spec.anchors(), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        raw = torch.cat(self.network(images), 2)
        # From the raw output, not beside it: what makes the answers is then behind it in a file.
        logits, codes = raw[..., :-4], raw[..., -4:]
        return raw, torch.cat([decoded(codes, self.anchors), logits.softmax(2)], 2)

"""The 1000 classes of ImageNet (ILSVRC 2012), in the order of the logits.

imagenet_classes.txt holds the names that torchvision's metadata has for them (BSD-3-Clause,
copyright Soumith Chintala 2016), one a line.
"""

from __future__ import annotations

import functools
from pathlib import Path


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """1000 names, all different."""
    text = Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())

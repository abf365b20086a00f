"""Options that are spelled here, because the configurations load torch, offer what those take."""

from __future__ import annotations

from typing import get_type_hints

import pytest

from pocketvision.cli import options
from pocketvision.fitting.config import FitConfig
from pocketvision.mapping.config import SceneConfig
from pocketvision.train.config import Accelerator, TrainConfig
from pocketvision.train.quantization_aware import QatConfig
from pocketvision.train.scene_config import SceneTrainConfig


@pytest.mark.parametrize(
    "config", [FitConfig, SceneConfig, TrainConfig, QatConfig, SceneTrainConfig]
)
def test_devices_are_those_that_trainings_take(config: type) -> None:
    assert get_type_hints(config)["accelerator"] == Accelerator == options.Device

from dataclasses import replace

import pytest

from pocketvision.errors import ConfigError
from pocketvision.storage import from_json, to_json
from pocketvision.train.scene_config import SceneTrainConfig

CONFIG = SceneTrainConfig()


def test_config_round_trips_through_json() -> None:
    config = replace(CONFIG, training="patches", seed=7, learning_rate=3e-4)
    assert from_json(SceneTrainConfig, to_json(config), source="a test") == config


def test_unset_config_follows_the_paper_s_rate_and_batch() -> None:
    assert (CONFIG.learning_rate, CONFIG.batch_size) == (1e-3, 256)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("training", "patch", r"training='patch' is unknown; .* Did you mean 'patches'\?"),
        ("steps", 0, "steps=0 is out of range; expected 1 to 10000000"),
        ("crops", 0, "crops=0 is out of range; expected 1 to 1024"),
        ("side", 513, "side=513 is out of range; expected 1 to 512"),
        ("batch_size", 0, "batch_size=0 is out of range; expected 1 to 65536"),
        ("learning_rate", 0.0, "learning_rate=0.0 is out of range"),
        ("learning_rate", float("nan"), "learning_rate=nan is out of range"),
        ("warmup_steps", 3001, "warmup_steps=3001 is out of range; expected 0 to 3000"),
        ("weight_decay", -0.1, "weight_decay=-0.1 is out of range; expected 0.0 to 1.0"),
        ("label_smoothing", 1.0, "label_smoothing=1.0 is out of range; expected 0.0 to 0.9"),
        ("gradient_clip", 0.0, "gradient_clip=0.0 is out of range"),
        ("precision", "f16", r"precision='f16' is unknown; .* Did you mean 'bf16'\?"),
        ("threads", -1, "threads=-1 is out of range; expected 0 to 4096"),
        ("accelerator", "tpu", "accelerator='tpu' is unknown; expected one of"),
        ("seed", -1, "seed=-1 is out of range; expected 0 to 2147483647"),
    ],
)
def test_config_refuses_what_cannot_be(field: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **{field: value})  # type: ignore[arg-type]

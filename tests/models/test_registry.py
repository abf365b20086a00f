import subprocess
import sys
from typing import Any

import pytest
import torch

from pocketvision.errors import ConfigError
from pocketvision.models import registry
from pocketvision.models.published import PUBLISHED

NAMES = [
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_large_minimalistic",
    "mobilenet_v3_small",
    "mobilenet_v3_small_minimalistic",
]


def test_list_models_is_sorted() -> None:
    assert registry.list_models() == NAMES


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*v3*minimalistic", [NAMES[3], NAMES[5]]),
        ("mobilenet_v[12]", NAMES[:2]),
        ("resnet*", []),
    ],
)
def test_list_models_filters_by_pattern(pattern: str, names: list[str]) -> None:
    assert registry.list_models(pattern) == names


def test_find_models_is_list_models_for_what_matches() -> None:
    assert registry.find_models("*small") == ["mobilenet_v3_small"]
    with pytest.raises(
        ConfigError,
        match=r"model 'mobilenet_v4' is unknown; expected one of \['mobilenet_v1', .*, "
        r"or a pattern such as 'mobilenet_v3\*'\. Did you mean 'mobilenet_v\d'",
    ):
        registry.find_models("mobilenet_v4")


def test_names_and_figures_come_without_torch() -> None:
    code = (
        "import sys; from pocketvision.models import published, registry; "
        "registry.list_models(); registry.widths('mobilenet_v2'); "
        "published.prior('mobilenet_v2', 300_000_000, 1.0, 200); "
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


@pytest.mark.parametrize("name", NAMES)
def test_spec_has_the_name_and_takes_every_option(name: str) -> None:
    spec = registry.spec(name, width=0.5, resolution=65, num_classes=7, in_chans=1, dropout=0.4)
    assert (spec.name, spec.width, spec.resolution) == (name, 0.5, 65)
    assert (spec.num_classes, spec.in_chans, spec.head.dropout) == (7, 1, 0.4)


def test_dropout_is_the_paper_s_unless_given() -> None:
    assert registry.spec("mobilenet_v3_small").head.dropout == 0.2
    assert registry.spec("mobilenet_v3_small", dropout=0.0).head.dropout == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_widths_ascend_and_include_the_published(name: str) -> None:
    widths = registry.widths(name)
    assert list(widths) == sorted(widths)
    assert {point.width for point in PUBLISHED[name]} <= set(widths)


def test_every_network_has_published_figures() -> None:
    assert list(PUBLISHED) == registry.list_models()


def test_unknown_name_gets_the_nearest_as_a_hint() -> None:
    message = "model='mobilenetv3_small' is unknown; .* Did you mean 'mobilenet_v3_small'"
    with pytest.raises(ConfigError, match=message):
        registry.spec("mobilenetv3_small")
    with pytest.raises(ConfigError, match=message):
        registry.widths("mobilenetv3_small")
    with pytest.raises(ConfigError, match=message):
        registry.create_model("mobilenetv3_small")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width=0 is out of range; expected 0.1 to 10.0"),
        ({"width": -1.0}, "width=-1.0 is out of range"),
        ({"width": float("nan")}, "width=nan is out of range"),
        ({"resolution": 31}, "resolution=31 is not allowed; expected a whole number from 32 up"),
        ({"num_classes": 0}, "num_classes=0 is not allowed; expected a whole number from 1 up"),
        ({"in_chans": 0}, "in_chans=0 is not allowed; expected a whole number from 1 up"),
        ({"dropout": 1.5}, "dropout=1.5 is out of range; expected 0 to below 1"),
    ],
)
def test_spec_refuses_what_is_not_allowed(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        registry.spec(name, **options)


def test_create_model_takes_a_name_or_a_spec() -> None:
    spec = registry.spec("mobilenet_v3_small", width=0.35, resolution=64, num_classes=3)
    named = registry.create_model(
        "mobilenet_v3_small", width=0.35, resolution=64, num_classes=3, seed=1
    )
    built = registry.create_model(spec, seed=1)
    assert named.spec == built.spec == spec
    x = torch.ones(1, 3, 64, 64)
    assert torch.equal(named.eval()(x), built.eval()(x))


def test_create_model_refuses_options_beside_a_spec() -> None:
    spec = registry.spec("mobilenet_v3_small", width=0.35)
    with pytest.raises(
        ConfigError, match=r"mobilenet_v3_small x0\.35 @224 is a specification and already fixes"
    ):
        registry.create_model(spec, num_classes=7)

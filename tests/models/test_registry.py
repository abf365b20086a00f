import subprocess
import sys
from typing import Any

import pytest

from pocketvision.errors import ConfigError
from pocketvision.models import registry
from pocketvision.models.editing import with_attention
from pocketvision.models.mobilenet_v3 import mobilenet_v3_small
from pocketvision.models.published import PUBLISHED

NAMES = registry.list_models()


def test_list_models_is_sorted() -> None:
    assert sorted(registry.MODELS) == NAMES


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (
            "*v3*minimalistic",
            ["mobilenet_v3_large_minimalistic", "mobilenet_v3_small_minimalistic"],
        ),
        ("mobilenet_v[12]", ["mobilenet_v1", "mobilenet_v2"]),
        ("vgg*", []),
    ],
)
def test_list_models_filters_by_pattern(pattern: str, names: list[str]) -> None:
    assert registry.list_models(pattern) == names


@pytest.mark.parametrize(
    ("spelling", "name", "options"),
    [
        ("mobilenet_v2", "mobilenet_v2", {}),
        ("MobileNetV3-Large", "mobilenet_v3_large", {}),
        ("mobilenetv3_small", "mobilenet_v3_small", {}),
        ("mobilenetv2_140", "mobilenet_v2", {"width": 1.4}),
        ("MobileNetV2-140", "mobilenet_v2", {"width": 1.4}),
        ("se-resnet50", "se_resnet50", {}),
        ("seresnet18", "se_resnet18", {"attention_bias": True, "squeezed_multiple": 8}),
        ("mobilenetv1_100.ra4_e3600_r224_in1k", "mobilenet_v1", {"act": "relu6"}),
        (
            "mobilenetv3_large_075",
            "mobilenet_v3_large",
            {"width": 0.75, "width_rule": "timm"},
        ),
    ],
)
def test_other_spellings_lead_to_the_network(
    spelling: str, name: str, options: dict[str, Any]
) -> None:
    assert registry.resolve(spelling) == (name, options)


def test_timm_s_name_implies_timm_s_network() -> None:
    implied = registry.spec("mobilenetv3_small_050.lamb_in1k")
    assert implied == mobilenet_v3_small(width=0.5, width_rule="timm")
    assert registry.spec("mobilenetv2_140", width=0.5).width == 0.5


@pytest.mark.parametrize("alias", registry.ALIASES)
def test_every_alias_builds(alias: str) -> None:
    assert registry.spec(alias).name == registry.ALIASES[alias][0]


def test_attention_may_be_asked_for_by_name() -> None:
    spec = registry.spec("mobilenet_v1", attention="se")
    assert spec == with_attention(registry.spec("mobilenet_v1"), "se")
    with pytest.raises(ConfigError, match=r"attention='sse' is unknown; .* Did you mean 'se'"):
        registry.spec("mobilenet_v1", attention="sse")


def test_find_models_is_list_models_for_what_matches() -> None:
    assert registry.find_models("*v3_small") == ["mobilenet_v3_small"]
    assert registry.find_models("mobilenetv2_140") == ["mobilenetv2_140"]
    assert registry.widths("mobilenetv2_140") == (1.4,)
    with pytest.raises(
        ConfigError,
        match=r"model 'mobilenet_v4' is unknown; expected a name that .*, "
        r"or a pattern such as 'mobilenet_v3\*'\. Did you mean 'mobilenet_v\d",
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
    width = registry.widths(name)[0]
    spec = registry.spec(name, width=width, resolution=65, num_classes=7, in_chans=1, dropout=0.4)
    assert (spec.name, spec.width, spec.resolution) == (name, width, 65)
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
    assert sorted(PUBLISHED) == NAMES


def test_unknown_name_gets_the_nearest_as_a_hint() -> None:
    message = "model 'mobilenet_v3_smal' is unknown; .* Did you mean 'mobilenet_v3_small'"
    with pytest.raises(ConfigError, match=message):
        registry.spec("mobilenet_v3_smal")
    with pytest.raises(ConfigError, match=message):
        registry.widths("mobilenet_v3_smal")
    with pytest.raises(ConfigError, match=r"'mobilenetv3_larg_100' is unknown; .* Did you"):
        registry.resolve("mobilenetv3_larg_100")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width=0 "),
        ({"width": -1.0}, "width=-1.0 "),
        ({"width": float("nan")}, "width=nan "),
        ({"resolution": 31}, "resolution=31 is not allowed; expected a whole number from 32 up"),
        ({"num_classes": 0}, "num_classes=0 is not allowed; expected a whole number from 1 up"),
        ({"in_chans": 0}, "in_chans=0 is not allowed; expected a whole number from 1 up"),
        ({"dropout": 1.5}, "dropout=1.5 is out of range; expected 0 to below 1"),
    ],
)
def test_spec_refuses_what_is_not_allowed(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        registry.spec(name, **options)

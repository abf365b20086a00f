from typing import Any

import pytest
import torch

from pocketvision.errors import ConfigError
from pocketvision.nn.heads import Classifier, ClassifierSpec

HEADS = [
    ClassifierSpec(c_in=8, num_classes=3),
    ClassifierSpec(c_in=8, num_classes=1, hidden=16, act="hswish", dropout=0.2),
]


@pytest.mark.parametrize("spec", HEADS, ids=str)
@pytest.mark.parametrize("size", [(7, 7), (1, 1), (2, 3)])
def test_classifier_gives_logits_for_any_map_size(
    spec: ClassifierSpec, size: tuple[int, int]
) -> None:
    assert spec.build()(torch.zeros(2, 8, *size)).shape == (2, spec.num_classes)


@pytest.mark.parametrize("spec", HEADS, ids=str)
def test_classifier_counts_the_parameters_it_builds(spec: ClassifierSpec) -> None:
    counted = sum(layer.parameters for layer in spec.layers((7, 7)))
    assert counted == sum(p.numel() for p in spec.build().parameters())


def test_classifier_sees_the_mean_of_the_map() -> None:
    module = ClassifierSpec(c_in=8, num_classes=3).build()
    x = torch.randn(2, 8, 4, 5)
    means = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(module(x), module(means))


def test_classifier_names_its_layers_for_good() -> None:
    module = ClassifierSpec(c_in=8, num_classes=3, hidden=4).build()
    assert list(module.state_dict()) == [
        "hidden.weight",
        "hidden.bias",
        "classifier.weight",
        "classifier.bias",
    ]


def test_classifier_takes_its_dropout_from_the_spec() -> None:
    module = ClassifierSpec(c_in=8, num_classes=3, dropout=0.3).build()
    assert isinstance(module, Classifier)
    assert module.dropout.p == 0.3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 0}, "num_classes=0 is not allowed; expected a whole number from 1 up"),
        ({"c_in": 0}, "c_in=0 is not allowed"),
        ({"hidden": 0}, "hidden=0 is not allowed"),
        ({"dropout": 1.0}, "dropout=1.0 is out of range; expected 0 to below 1"),
        ({"dropout": -0.1}, "dropout=-0.1 is out of range"),
        ({"act": "tanh"}, "act='tanh' is unknown"),
    ],
)
def test_classifier_refuses_what_is_not_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClassifierSpec(**{"c_in": 8, "num_classes": 3, **change})


def test_no_classes_at_all_says_where_features_are() -> None:
    with pytest.raises(ConfigError, match=r"num_classes=0 is not allowed; .* For features, call"):
        ClassifierSpec(c_in=8, num_classes=0)

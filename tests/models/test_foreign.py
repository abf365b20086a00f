"""Names of other libraries; that the logits are theirs too is tested beside them (reference)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.models import registry, weights
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.checkpoint import Checkpoint
from pocketvision.models.create import create_model
from pocketvision.models.foreign import (
    COUNT,
    STYLES,
    TIMM,
    TIMM_PORTED,
    Style,
    adapted,
    norm_of,
    style_for,
    style_of,
)
from pocketvision.models.identify import candidates, identify, our_state
from pocketvision.models.mobilenet_v3 import mobilenet_v3_small
from pocketvision.nn.conv import BatchNormSpec

# Tensors of the published checkpoints: name, shape, and what it is called here.
PUBLISHED = [
    ("torchvision", "mobilenet_v2", "features.1.conv.1.weight", "blocks.1.project.conv.weight"),
    ("torchvision", "mobilenet_v2", "features.2.conv.1.0.weight", "blocks.2.depthwise.conv.weight"),
    ("torchvision", "mobilenet_v2", "features.18.1.running_var", "blocks.18.norm.running_var"),
    ("torchvision", "mobilenet_v2", "classifier.1.bias", "head.classifier.bias"),
    (
        "torchvision",
        "mobilenet_v3_large",
        "features.4.block.2.fc1.weight",
        "blocks.4.attention.reduce.weight",
    ),
    (
        "torchvision",
        "mobilenet_v3_large",
        "features.15.block.3.1.bias",
        "blocks.15.project.norm.bias",
    ),
    ("torchvision", "mobilenet_v3_large", "classifier.0.weight", "head.hidden.weight"),
    ("timm", "mobilenet_v1", "blocks.4.1.conv_pw.weight", "blocks.13.pointwise.conv.weight"),
    ("timm", "mobilenet_v2", "blocks.1.0.conv_pwl.weight", "blocks.2.project.conv.weight"),
    ("timm", "mobilenet_v2", "bn2.weight", "blocks.18.norm.weight"),
    ("timm", "mobilenet_v3_large", "blocks.6.0.bn1.weight", "blocks.16.norm.weight"),
    ("timm", "mobilenet_v3_large", "conv_head.bias", "head.hidden.bias"),
    ("timm", "mnasnet_a1", "blocks.2.0.se.conv_reduce.weight", "blocks.4.attention.reduce.weight"),
    ("timm", "se_resnet50", "layer1.0.se.fc2.bias", "blocks.2.attention.expand.bias"),
    ("torchvision", "resnet50", "layer2.0.downsample.0.weight", "blocks.5.shortcut.conv.weight"),
    ("torchvision", "resnet18", "layer4.1.bn2.weight", "blocks.9.branch.1.norm.weight"),
    (
        "torchvision",
        "shufflenet_v2_x1_0",
        "stage2.0.branch1.2.weight",
        "blocks.2.shortcut.1.conv.weight",
    ),
    ("torchvision", "shufflenet_v2_x1_0", "conv5.1.weight", "blocks.18.norm.weight"),
]


def foreign(spec: ArchSpec, library: str) -> tuple[Network, dict[str, Tensor]]:
    """A network as the library has it, and its weights under the library's names."""
    style = style_for(library, spec.name)
    network = adapted(spec, style).build(seed=1)
    modules = dict(style.rule(network.spec))
    state = {}
    for name, tensor in network.state_dict().items():
        module, _, leaf = name.rpartition(".")
        state[f"{modules[module]}.{leaf}"] = tensor
    return network, state


def written(folder: Path, state: dict[str, Tensor], name: str = "w.pth") -> Path:
    torch.save(state, folder / name)
    return folder / name


@pytest.mark.parametrize(("library", "name", "theirs", "ours"), PUBLISHED)
def test_rule_pairs_the_names(library: str, name: str, theirs: str, ours: str) -> None:
    style = style_for(library, name)
    modules = dict(style.rule(registry.spec(name)))
    module, _, leaf = ours.rpartition(".")
    assert f"{modules[module]}.{leaf}" == theirs


@pytest.mark.parametrize("style", [*STYLES, TIMM_PORTED], ids=str)
def test_every_tensor_of_a_network_has_one_name_there(style: Style) -> None:
    names = [name for name in registry.MODELS if style.suits(name)]
    assert names
    for name in names:
        spec = registry.spec(name)
        with torch.device("meta"):
            tensors = Network(spec).state_dict()
        pairs = dict(style.rule(spec))
        modules = {tensor.rpartition(".")[0] for tensor in tensors}
        assert modules <= pairs.keys(), name
        used = [pairs[module] for module in modules]
        assert len(set(used)) == len(used), name


def test_library_is_known_by_its_names() -> None:
    for library, name in [
        ("torchvision", "mobilenet_v2"),
        ("torchvision", "mobilenet_v3_small"),
        ("timm", "mobilenet_v1"),
        ("timm", "mobilenet_v2"),
        ("timm", "se_resnet18"),
    ]:
        _, state = foreign(registry.spec(name, width=0.25), library)
        assert style_of(state) is style_for(library, name)
    assert style_of(create_model("mobilenet_v2", width=0.35).state_dict()) is None


def test_constants_of_the_norms_are_the_source_s() -> None:
    default, authors = BatchNormSpec(), BatchNormSpec(eps=1e-3, momentum=0.01)
    for library, name, norm in [
        ("torchvision", "mobilenet_v2", default),
        ("torchvision", "mobilenet_v3_large", authors),
        ("timm", "mobilenet_v3_large", default),
        ("timm", "mobilenet_v3_large_minimalistic", BatchNormSpec(eps=1e-3)),
    ]:
        assert norm_of(adapted(registry.spec(name), style_for(library, name))) == norm


def test_ported_weights_are_told_by_file_name_or_missing_attention() -> None:
    _, state = foreign(registry.spec("mobilenet_v3_small", width=0.35), "timm")
    assert style_of(state, "tf_mobilenetv3_small_075-da427f52.pth") is TIMM_PORTED
    assert style_of(state, "small.pth") is TIMM
    _, state = foreign(registry.spec("mobilenet_v3_small_minimalistic", width=0.5), "timm")
    assert style_of(state, "small.pth") is TIMM_PORTED


@pytest.mark.parametrize(
    ("library", "name", "width"),
    [
        ("torchvision", "mobilenet_v2", 0.35),
        ("torchvision", "mobilenet_v3_small", 0.35),
        ("torchvision", "shufflenet_v2_x0_5", 1.0),
        ("timm", "mobilenet_v1", 0.25),
        ("timm", "mobilenet_v2", 0.35),
        ("timm", "mobilenet_v3_small", 0.5),
        ("timm", "mnasnet_a1", 0.35),
        ("timm", "se_resnet18", 0.25),
        ("torchvision", "resnet18", 0.25),
    ],
)
@torch.no_grad()
def test_file_of_another_library_gives_the_same_logits(
    tmp_path: Path, library: str, name: str, width: float
) -> None:
    theirs, state = foreign(registry.spec(name, width=width, num_classes=7), library)
    path = written(tmp_path, state)
    network = create_model(name, width=width, weights=path)
    assert network.spec == theirs.spec
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network.eval()(x), theirs.eval()(x))


def test_timm_s_mobilenet_v1_brings_its_relu6(tmp_path: Path) -> None:
    theirs, state = foreign(registry.spec("mobilenet_v1", width=0.25), "timm")
    network = create_model("mobilenet_v1", width=0.25)
    weights.load_weights(network, written(tmp_path, state))
    assert network.spec == theirs.spec
    assert {getattr(block, "act", None) for block in network.spec.blocks} == {"relu6"}
    x = torch.randn(1, 3, 64, 64) * 20
    assert torch.equal(network.eval()(x), theirs.eval()(x))


def test_counters_may_be_missing_and_ones_may_come_and_go() -> None:
    spec = registry.spec("mobilenet_v3_small", width=0.35)
    network, state = foreign(spec, "timm")
    state = {name: tensor for name, tensor in state.items() if not name.endswith(COUNT)}
    state["conv_head.weight"] = state["conv_head.weight"][:, :, None, None]
    reduce = next(name for name in state if name.endswith("se.conv_reduce.weight"))
    state[reduce] = state[reduce][:, :, 0, 0]
    expected = network.state_dict()
    file = Checkpoint(path=Path("w.pth"), state=state)
    found = our_state(file, TIMM, network.spec, expected)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@torch.no_grad()
def test_grey_network_sums_the_stem(tmp_path: Path) -> None:
    theirs, state = foreign(registry.spec("mobilenet_v2", width=0.35), "torchvision")
    network = create_model(
        "mobilenet_v2", width=0.35, in_chans=1, weights=written(tmp_path, state)
    ).eval()
    grey = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(
        network(grey), theirs.eval()(grey.expand(1, 3, 64, 64)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("library", "spec"),
    [
        ("torchvision", registry.spec("mobilenet_v2", width=1.4, num_classes=5)),
        ("torchvision", mobilenet_v3_small(width=0.5, width_rule="torchvision")),
        ("timm", registry.spec("mobilenetv3_small_050")),
        ("timm", registry.spec("mobilenet_v1", width=0.25, in_chans=1)),
    ],
    ids=lambda value: getattr(value, "label", value),
)
def test_network_is_identified_by_its_weights(library: str, spec: ArchSpec) -> None:
    theirs, state = foreign(spec, library)
    assert identify(Checkpoint(path=Path("w.pth"), state=state)) == theirs.spec


def test_weights_of_ours_are_identified_without_their_description() -> None:
    network = create_model("shufflenet_v2_x0_5", num_classes=3)
    found = identify(Checkpoint(path=Path("w.pth"), state=network.state_dict()))
    assert found == network.spec


def test_candidates_are_the_library_s_and_differ() -> None:
    for style in STYLES:
        specs = list(candidates(style))
        assert all(style.suits(spec.name) for spec in specs)
        assert all(spec not in specs[:index] for index, spec in enumerate(specs))


def test_another_width_is_named(tmp_path: Path) -> None:
    _, state = foreign(registry.spec("mobilenet_v2", width=0.5), "torchvision")
    path = written(tmp_path, state)
    with pytest.raises(
        ArtefactError,
        match=r"w\.pth is not of the architecture mobilenet_v2 x1 @224: \d+ different \(blocks\.0.*"
        r"16x3x3x3 float32, expected 32x3x3x3.* The file has torchvision's MobileNetV2 names\. "
        r"These look like mobilenet_v2 x0\.5: ask for that\.",
    ):
        create_model("mobilenet_v2", weights=path)


def test_another_family_is_named(tmp_path: Path) -> None:
    _, state = foreign(registry.spec("mobilenet_v2", width=0.35), "timm")
    with pytest.raises(ArtefactError, match=r"These look like mobilenet_v2 x0\.35"):
        create_model("resnet18", width=0.25, weights=written(tmp_path, state))


def test_nearest_network_is_named_where_none_fits(tmp_path: Path) -> None:
    _, state = foreign(registry.spec("mobilenet_v2", width=0.35), "torchvision")
    del state["features.3.conv.1.0.weight"]
    with pytest.raises(
        ArtefactError,
        match=r"1 missing \(blocks\.3\.depthwise\.conv\.weight\).* nearest network of the registry "
        r"is mobilenet_v2 x0\.35, from which 1 tensors differ",
    ):
        create_model("mobilenet_v2", width=0.35, weights=written(tmp_path, state))


def test_weights_of_something_else_are_said_to_be_unlike_any(tmp_path: Path) -> None:
    path = written(tmp_path, {"encoder.weight": torch.zeros(3, 3)})
    with pytest.raises(ArtefactError, match="No network of the registry is like it"):
        create_model("mobilenet_v2", width=0.35, weights=path)
    with pytest.raises(ArtefactError, match=r"w\.pth is of no known network"):
        weights.spec_of(path)


def test_report_says_whose_weights_and_which_norms(tmp_path: Path) -> None:
    _, state = foreign(registry.spec("mobilenet_v3_small", width=0.35), "torchvision")
    network = create_model("mobilenet_v3_small", width=0.35, num_classes=3)
    spec = replace(network.spec, head=replace(network.spec.head, hidden=360))
    report = weights.load_weights(spec.build(), written(tmp_path, state))
    assert report.source == "torchvision's MobileNetV3"
    assert report.norm == BatchNormSpec(eps=1e-3, momentum=0.01)


def test_padding_that_differs_is_said(tmp_path: Path) -> None:
    spec = registry.spec("mobilenet_v3_small_minimalistic", width=0.5, num_classes=3)
    _, state = foreign(spec, "timm")
    path = written(tmp_path, state, "tf_small.pth")
    words = r"These weights were trained with padding at one side only \(TensorFlow's SAME\)"
    with pytest.warns(UserWarning, match=words):
        network = create_model(spec.name, width=0.5, weights=path)
    report = weights.load_weights(network, path)
    norm = "Batch norms keep the weights' eps 0.001 and momentum 0.1."
    assert report.notes == (norm, *report.cautions)
    assert [sentence.partition(" (")[0] for sentence in report.cautions] == [
        "These weights were trained with padding at one side only"
    ]


def test_attention_beside_weights_without_it_is_refused(tmp_path: Path) -> None:
    _, state = foreign(registry.spec("mobilenet_v2", width=0.35), "torchvision")
    with pytest.raises(
        ArtefactError, match=r"mobilenet_v2 \(se\).* missing \(blocks\.1\.attention"
    ):
        create_model("mobilenet_v2", width=0.35, attention="se", weights=written(tmp_path, state))
    with pytest.raises(
        ConfigError, match="weights='torchvision' are not published for mobilenet_v1"
    ):
        create_model("mobilenet_v1", weights="torchvision")

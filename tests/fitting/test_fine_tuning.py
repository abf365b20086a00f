"""Fine-tuning from weights of other libraries, and from published ones."""

import os
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from small_runs import QUICK, Told

from pocketvision.budget import Budget
from pocketvision.data.preprocessing import IMAGENET_MEAN, Preprocessing
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.fitting.candidates import as_candidate
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.fine_tuning import (
    start_dense_from,
    start_from,
    weights_file,
    weights_preprocessing,
    weights_specs,
)
from pocketvision.fitting.pipeline import run_fit
from pocketvision.fitting.reporter import Silent
from pocketvision.models import pretrained, registry, weights
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.detector import ssdlite
from pocketvision.models.download import cached_path
from pocketvision.models.foreign import adapted, norm_of, style_for
from pocketvision.models.foreign_dense import torchvision_lr_aspp, torchvision_ssdlite
from pocketvision.models.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from pocketvision.models.resnet import cifar_resnet
from pocketvision.models.segmenter import lr_aspp
from pocketvision.nn.conv import BatchNormSpec
from pocketvision.runtimes.onnxfile import metadata

FREE = replace(QUICK, budget=Budget(), models=(), widths=(), epochs=1)
V3_NORM = BatchNormSpec(eps=1e-3, momentum=0.01)
GREY = (127.5, 127.5, 127.5)


def write_foreign(path: Path, spec: ArchSpec) -> Network:
    """A file as torchvision would save it; returns the network whose weights it holds."""
    style = style_for("torchvision", spec.name)
    network = adapted(spec, style).build(seed=1)
    modules, state = dict(style.rule(spec)), {}
    for name, tensor in network.state_dict().items():
        module, _, leaf = name.rpartition(".")
        state[f"{modules[module]}.{leaf}"] = tensor
    torch.save(state, path)
    return network


@pytest.fixture(scope="module")
def v3_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's MobileNetV3-Small x0.35, new weights."""
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    write_foreign(path, registry.spec("mobilenet_v3_small", width=0.35))
    return path


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pretrained.Pretrained:
    """A table of two published files, of which only the second lies in the cache."""
    monkeypatch.setenv("POCKETVISION_CACHE", str(tmp_path / "cache"))
    rows = [
        pretrained.find("mobilenet_v3_large", 1.0, "torchvision"),
        pretrained.find("shufflenet_v2_x0_5", 1.0, "torchvision"),
    ]
    rows[1] = rows[1]._replace(file="shuffle.pth", mean=GREY, std=GREY)
    monkeypatch.setattr(pretrained, "PRETRAINED", tuple(rows))
    path = cached_path(rows[1].url)
    path.parent.mkdir(parents=True)
    write_foreign(path, registry.spec("shufflenet_v2_x0_5"))
    return rows[1]


def test_file_of_torchvision_s_says_its_network(v3_file: Path) -> None:
    config = replace(FREE, weights=str(v3_file))
    (spec,) = weights_specs(config, 2, Silent())
    assert (spec.name, spec.width, spec.num_classes) == ("mobilenet_v3_small", 0.35, 2)
    assert norm_of(spec) == V3_NORM


def test_options_must_agree_with_the_weights(v3_file: Path) -> None:
    config = replace(FREE, weights=str(v3_file))
    assert weights_specs(replace(config, models=("*v3*",), widths=(0.35, 1.0)), 2, Silent())
    for change in ({"models": ("mobilenet_v2",)}, {"widths": (0.5,)}):
        with pytest.raises(
            ConfigError, match=r"are of mobilenet_v3_small x0\.35, which --models and --width rule"
        ):
            weights_specs(replace(config, **change), 2, Silent())


def test_options_may_name_the_network_as_another_library_does(
    v3_file: Path, tmp_path: Path
) -> None:
    write_foreign(tmp_path / "v2.pth", registry.spec("mobilenet_v2"))
    config = replace(FREE, weights=str(tmp_path / "v2.pth"), models=("mobilenetv2_100",))
    assert [spec.name for spec in weights_specs(config, 2, Silent())] == ["mobilenet_v2"]
    config = replace(FREE, weights="timm", models=("mobilenetv3_small_050", "resnet18"))
    found = [(spec.name, spec.width) for spec in weights_specs(config, 2, Silent())]
    assert found == [("mobilenet_v3_small", 0.5), ("resnet18", 1.0)]
    config = replace(FREE, weights=str(v3_file), models=("mobilenetv3_small_050",))
    with pytest.raises(ConfigError, match=r"are of mobilenet_v3_small x0\.35, which --models"):
        weights_specs(config, 2, Silent())


def test_tag_that_nobody_publishes_is_refused_with_those_that_are() -> None:
    config = replace(FREE, weights="torchvision:IMAGENET1K_V3")
    with pytest.raises(
        ConfigError,
        match=r"weights='torchvision:IMAGENET1K_V3' are not published; expected one of "
        r"\['torchvision:IMAGENET1K_V2', 'torchvision:IMAGENET1K_V1'\]\. Did you mean",
    ):
        weights_specs(config, 2, Silent())


def test_network_outside_the_registry_cannot_be_ranked(tmp_path: Path) -> None:
    weights.save(cifar_resnet(depth=8, width=0.5).build(seed=0), tmp_path)
    config = replace(FREE, weights=str(tmp_path))
    with pytest.raises(
        ConfigError,
        match="weights are of cifar_resnet8, which is not in the registry and has no published "
        "accuracy to rank by",
    ):
        weights_specs(config, 2, Silent())


@pytest.mark.parametrize(
    "saved",
    [
        registry.spec("mobilenet_v1", width=0.25, attention="se", num_classes=5),
        registry.spec("mobilenetv3_small_050", num_classes=5),
        mobilenet_v3_small(width=0.35, hswish="nowhere", num_classes=5),
    ],
    ids=lambda spec: spec.label,
)
def test_network_with_options_starts_from_its_own_specification(
    tmp_path: Path, saved: ArchSpec
) -> None:
    network = saved.build(seed=1)
    weights.save(network, tmp_path)
    (found,) = weights_specs(replace(FREE, weights=str(tmp_path)), 2, Silent())
    assert found == saved.with_classes(2)
    started = as_candidate(found.at(32)).classifier.build(seed=0)
    start_from(str(tmp_path), started, Silent())
    assert started.spec.blocks == saved.blocks
    source = network.state_dict()
    assert all(
        torch.equal(t, source[f"blocks.{n}"]) for n, t in started.blocks.state_dict().items()
    )


def test_weights_that_do_not_exist_say_what_is_possible() -> None:
    with pytest.raises(
        ConfigError,
        match=r"weights='nowhere' does not exist; give a \.safetensors or \.pth file, a",
    ):
        weights_file("nowhere", Silent())


def test_weights_of_no_known_network_are_refused(tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(2, 2)}, tmp_path / "w.pth")
    config = replace(FREE, weights=str(tmp_path / "w.pth"))
    with pytest.raises(ArtefactError, match="is of no known network"):
        weights_specs(config, 2, Silent())


def test_start_says_source_norm_and_new_head(v3_file: Path) -> None:
    (spec,) = weights_specs(replace(FREE, weights=str(v3_file)), 2, Silent())
    told, network = Told(), spec.build(seed=0)
    assert start_from(str(v3_file), network, told) == f"fine-tuned from {v3_file}"
    assert told.sentences == [
        "Batch norms keep the weights' eps 0.001 and momentum 0.01.",
        f"The head of {v3_file} does not fit 2 classes and is replaced: head.classifier.weight, "
        "head.classifier.bias start fresh.",
        "Weights of mobilenet_v3_small x0.35 by torchvision's MobileNetV3.",
    ]
    assert network.spec == spec


def test_published_weights_are_planned_without_a_download(
    published: pretrained.Pretrained, tmp_path: Path
) -> None:
    specs = weights_specs(replace(FREE, weights="torchvision"), 2, Silent())
    assert [spec.name for spec in specs] == ["mobilenet_v3_large", "shufflenet_v2_x0_5"]
    assert [norm_of(spec) for spec in specs] == [V3_NORM, BatchNormSpec()]
    only = replace(FREE, weights="torchvision", models=("shufflenet*",))
    assert [spec.name for spec in weights_specs(only, 2, Silent())] == ["shufflenet_v2_x0_5"]
    with pytest.raises(
        ConfigError, match=r"are of mobilenet_v3_large x1, shufflenet_v2_x0_5 x1, w"
    ):
        weights_specs(replace(only, models=("mobilenet_v2",)), 2, Silent())
    assert len(list((tmp_path / "cache").rglob("*.pth"))) == 1


def test_published_weights_of_the_chosen_network_are_loaded(
    published: pretrained.Pretrained,
) -> None:
    told, network = Told(), registry.spec("shufflenet_v2_x0_5", num_classes=2).build(seed=0)
    words = start_from("torchvision", network, told)
    assert words.startswith("fine-tuned from ")
    assert words.endswith("shuffle.pth")
    assert told.sentences[0] == "Fetching weights"
    source = registry.spec("shufflenet_v2_x0_5").build(seed=1)
    assert torch.equal(
        network.blocks[3].get_parameter("branch.0.conv.weight"),
        source.blocks[3].get_parameter("branch.0.conv.weight"),
    )


def test_mean_and_std_are_those_of_the_weights(
    published: pretrained.Pretrained, tmp_path: Path, v3_file: Path
) -> None:
    spec = registry.spec("shufflenet_v2_x0_5")
    found = weights_preprocessing("torchvision", spec)
    assert found is not None
    assert (found.mean, found.std) == (GREY, GREY)
    assert weights_preprocessing(None, spec) is None
    assert weights_preprocessing(str(v3_file), spec) is None
    official = weights_preprocessing("elsewhere/mobilenet_v3_large-5c1a4163.pth", spec)
    assert official == Preprocessing(resolution=224, side=232, mean=IMAGENET_MEAN)
    own = Preprocessing(resolution=32, side=36, mean=GREY)
    small = registry.spec("mobilenet_v3_small", width=0.35, resolution=32)
    weights.save(small.build(seed=0), tmp_path / "own", preprocessing=own)
    assert weights_preprocessing(str(tmp_path / "own"), small) == own


def test_torchvision_s_ssdlite_was_trained_with_its_own_mean_and_deviation(
    tmp_path: Path, v3_file: Path
) -> None:
    """Its LR-ASPP was not, and a body of a classifier under a new head was not either."""
    segmenter = lr_aspp(mobilenet_v3_large(width=0.35, resolution=64), 3)
    detector = ssdlite(mobilenet_v3_large(width=0.35, resolution=64, reduced_tail=True), 3)
    for spec, rule in (
        (segmenter, torchvision_lr_aspp(segmenter)),
        (detector, torchvision_ssdlite(detector)),
    ):
        modules, state = dict(rule), {}
        for name, tensor in spec.build(seed=1).state_dict().items():
            module, _, leaf = name.rpartition(".")
            state[f"{modules[module]}.{leaf}"] = tensor
        torch.save(state, tmp_path / f"{spec.name}.pth")
    found = weights_preprocessing(str(tmp_path / f"{detector.name}.pth"), detector)
    assert found == Preprocessing(resolution=320, side=320, mean=GREY, std=GREY, whole=True)
    assert weights_preprocessing(str(tmp_path / f"{segmenter.name}.pth"), segmenter) is None
    assert weights_preprocessing(str(v3_file), detector) is None
    own = replace(Preprocessing.of_whole(64), mean=GREY)
    weights.save(detector.build(seed=0), tmp_path / "own", preprocessing=own)
    assert weights_preprocessing(str(tmp_path / "own"), detector) == own


@pytest.mark.slow
def test_fit_starts_from_torchvision_s_file(v3_file: Path, photos: Path, tmp_path: Path) -> None:
    told = Told()
    config = replace(FREE, data=str(photos), weights=str(v3_file), precisions=("f32",))
    artefact = run_fit(config, tmp_path / "out", told)
    assert artefact.record.network.label == "mobilenet_v3_small x0.35 @32"
    assert artefact.record.network.start == f"fine-tuned from {v3_file}"
    assert norm_of(artefact.classifier.spec) == V3_NORM
    assert artefact.network.spec.num_classes == 2
    assert any("Batch norms keep the weights' eps 0.001" in sentence for sentence in told.sentences)


@pytest.mark.slow
def test_fit_takes_the_published_weights_of_the_network_it_chose(
    published: pretrained.Pretrained, photos: Path, tmp_path: Path
) -> None:
    config = replace(
        FREE,
        data=str(photos),
        weights="torchvision",
        precisions=("f32",),
        budget=Budget(size_bytes=6_000_000),  # shuts out the large network
    )
    artefact = run_fit(config, tmp_path / "out")
    assert artefact.record.network.name == "shufflenet_v2_x0_5"
    assert artefact.preprocessing.mean == GREY
    assert metadata(onnx.load(artefact.model_file))["mean"] == "[127.5,127.5,127.5]"


@pytest.mark.slow
def test_fit_starts_from_the_official_mobilenet_v2(photos: Path, tmp_path: Path) -> None:
    path = Path(os.environ.get("POCKETVISION_TEST_DATA", "")) / "weights/mobilenet_v2-b0353104.pth"
    if not path.is_file():
        pytest.skip("$POCKETVISION_TEST_DATA names no folder with the official weights")
    config = replace(FREE, data=str(photos), weights=str(path), precisions=("f32",), epochs=15)
    artefact = run_fit(config, tmp_path / "out")
    assert artefact.record.network.label == "mobilenet_v2 x1 @32"
    assert artefact.preprocessing.mean == IMAGENET_MEAN
    assert artefact.record.headline.value > 0.9


def test_untrained_weights_are_no_weights_for_a_segmenter_either(tmp_path: Path) -> None:
    body = registry.spec("mobilenet_v3_small", width=0.35, resolution=64, num_classes=3)
    weights.save(body.build(seed=1), tmp_path / "found", trained=False)
    weights.save(body.build(seed=1), tmp_path / "fitted")
    spec = lr_aspp(body, 3)
    for name, start in (("found", "from scratch"), ("fitted", "fine-tuned from")):
        config = FitConfig(data="photos", task="segment", weights=str(tmp_path / name))
        _, words = start_dense_from(spec, config, told := Told())
        assert words.startswith(start)
        assert any("Weights of" in one for one in told.sentences) == (name == "fitted")

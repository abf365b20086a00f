"""Does attention pay? ResNet-20 and MobileNetV2 with and without it, on CIFAR-10.

    python recipes/senet_cifar10.py CIFAR10 > recipes/senet_cifar10.md

Source: Hu et al., Squeeze-and-Excitation Networks, section 5.1 and Table 4; Woo et al., CBAM.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

from cifar10 import (
    PREPROCESSING,
    Contender,
    Options,
    Run,
    conditions,
    config,
    draw_curves,
    gain_cell,
    of,
    options,
    run_all,
    top1_cell,
)
from plotting import table

from pocketvision.measure.count import count
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.editing import cifar_form, with_attention
from pocketvision.models.mobilenet_v2 import mobilenet_v2
from pocketvision.models.resnet import cifar_resnet
from pocketvision.train.classify import rehearsal
from pocketvision.train.pace import seconds_per_image

ROUNDS = 7
V2 = cifar_form(mobilenet_v2(width=0.5, num_classes=10))
NETWORKS: dict[str, tuple[ArchSpec, str]] = {  # name -> what is trained, and its baseline
    "ResNet-20": (cifar_resnet(depth=20), "ResNet-20"),
    "ResNet-20 SE": (cifar_resnet(depth=20, attention="se"), "ResNet-20"),
    "ResNet-20 CBAM": (cifar_resnet(depth=20, attention="cbam"), "ResNet-20"),
    "MobileNetV2 x0.5": (V2, "MobileNetV2 x0.5"),
    "MobileNetV2 x0.5 SE": (with_attention(V2, "se"), "MobileNetV2 x0.5"),
}


def contenders() -> list[Contender]:
    """The networks of `NETWORKS`, ready to be trained."""
    return [Contender(name=name, build=builder(spec)) for name, (spec, _) in NETWORKS.items()]


def builder(spec: ArchSpec) -> Callable[[int], Network]:
    """From a seed, the network with new weights."""
    return lambda seed: spec.build(seed)


def step_ms(asked: Options) -> dict[str, float]:
    """Milliseconds of a training step, timed in turns: the median of `ROUNDS`."""
    times: dict[str, list[float]] = {name: [] for name in NETWORKS}
    trained = config(asked, 0)
    for _ in range(ROUNDS):
        for name, (spec, _) in NETWORKS.items():
            training = rehearsal(spec.build(0), PREPROCESSING, trained, 10_000)
            each = seconds_per_image(training)
            times[name].append(1e3 * each * trained.batch_size)
    return {name: statistics.median(values) for name, values in times.items()}


def page(runs: list[Run], steps: dict[str, float], asked: Options) -> list[str]:
    """The page, line by line."""
    rows = []
    for name, (spec, base) in NETWORKS.items():
        counted, other = count(spec), count(NETWORKS[base][0])
        rows.append(
            (
                name,
                top1_cell(of(name, runs)),
                "" if name == base else gain_cell(of(name, runs), of(base, runs)),
                f"{counted.parameters:,} (x{counted.parameters / other.parameters:.3f})",
                f"{counted.macs:,} (x{counted.macs / other.macs:.4f})",
                f"{steps[name]:.0f} (x{steps[name] / steps[base]:.2f})",
            )
        )
    titles = ("network", "test top-1, %", "gain, points", "parameters", "MACs", "step, ms")
    return [
        "# Attention on CIFAR-10",
        "",
        "Squeeze-and-excitation (Hu et al., Table 4) and CBAM (Woo et al.) on ResNet-20 and on "
        "MobileNetV2 for 32 px images (3x3 stem of stride 1): what they bring, and what they cost.",
        "",
        "```",
        f"python recipes/senet_cifar10.py CIFAR10 --epochs {asked.epochs} --seeds {asked.seeds} "
        f"--threads {asked.threads} --device {asked.device} > recipes/senet_cifar10.md",
        "```",
        "",
        "![Top-1 on val by epoch](images/senet_cifar10.svg)",
        "",
        *table(titles, rows),
        f"A step is one of batch {config(asked, 0).batch_size}, timed in turns (median of {ROUNDS} "
        "timings); factors are against the network without attention.",
        "",
        *conditions(asked, runs),
    ]


def main() -> None:
    """Train what is not trained yet, draw the curves, print the page."""
    asked = options(__doc__)
    runs = run_all(contenders(), asked)
    draw_curves(list(NETWORKS), runs, asked.out / "images" / "senet_cifar10.svg")
    print("\n".join(page(runs, step_ms(asked), asked)))


if __name__ == "__main__":
    main()

"""The options of the commands; those of `fit` stand in the panels of its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pocketvision.errors import ConfigError

# As in the configurations, whose modules load torch.
Task = Literal["classify", "segment", "detect", "hyperspectral"]
PhotoTask = Literal["classify", "segment", "detect"]
Device = Literal["auto", "cpu", "cuda"]
SplitKind = Literal["blocks", "random", "given"]
GuardName = Literal["centre", "full"]
BandsName = Literal["pca", "standardise", "select"]
AttentionName = Literal["se", "cbam"]
TrainingName = Literal["dense", "patches"]
HeadName = Literal["lr_aspp", "r_aspp"]
Method = Literal["evolution", "rl", "work"]
Objective = Literal["accuracy", "reward", "front"]
Baselines = Literal["all", "multipliers", "none"]
SearchChoice = Literal["auto", "on", "off"]

# Panels of the help
BUDGET, CHOICE, TRAINING = "Budget", "What may be chosen", "Training"
SCENES = "Hyperspectral scenes"

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
WorkersOption = Annotated[
    str | None,
    typer.Option(
        "--workers",
        help="Processes that score side by side, of one thread each; or ray, a running cluster.",
    ),
]
Threads = Annotated[int, typer.Option(help="CPU threads of the runtime.")]
TargetThreads = Annotated[
    int | None, typer.Option(help="CPU threads of the runtime; default: 1, or the target's.")
]

TaskOption = Annotated[Task, typer.Option(help="What the data are.")]
Latency = Annotated[
    str | None,
    typer.Option(
        help="Budget per image, or per pixel from its window, such as 5ms.", rich_help_panel=BUDGET
    ),
]
Search = Annotated[
    SearchChoice,
    typer.Option(
        help="Search for an architecture, as `search` does; auto: if --time is enough for one.",
        rich_help_panel=CHOICE,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="Latency table of another device, as `profile` makes it: the budget is held against "
        "that, not against this machine.",
        rich_help_panel=BUDGET,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(help="Budget of the files to ship, such as 4MB.", rich_help_panel=BUDGET),
]
Memory = Annotated[
    str | None,
    typer.Option(
        help="Budget of peak memory beyond an empty session, such as 20MB.",
        rich_help_panel=BUDGET,
    ),
]
Time = Annotated[
    str | None, typer.Option(help="Time for all of it, such as 30m.", rich_help_panel=BUDGET)
]
Models = Annotated[
    list[str] | None,
    typer.Option(help="Name or pattern to allow; may be repeated.", rich_help_panel=CHOICE),
]
Width = Annotated[
    list[float] | None,
    typer.Option(help="Width multiplier to allow; may be repeated.", rich_help_panel=CHOICE),
]
Resolution = Annotated[
    list[int] | None,
    typer.Option(help="Input side in pixels to allow; may be repeated.", rich_help_panel=CHOICE),
]
Runtime = Annotated[
    list[str] | None,
    typer.Option(help="onnxruntime or openvino; default: all installed.", rich_help_panel=CHOICE),
]
Precision = Annotated[
    list[str] | None,
    typer.Option(
        help="f32, bf16, int8, or w8, weights alone in 8 bits; default: all but w8.",
        rich_help_panel=CHOICE,
    ),
]
MaxDrop = Annotated[
    float,
    typer.Option(
        help="Points of the score (top-1, mIoU or mAP) a file may lose against the float network.",
        rich_help_panel=CHOICE,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Start from a file (ours, torchvision's, timm's), a fitted folder, an address, or "
        "the published weights of `torchvision` or `timm`.",
        rich_help_panel=TRAINING,
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(help="Default: what fits --time, else 40.", rich_help_panel=TRAINING),
]
BatchSize = Annotated[
    int | None, typer.Option(help="Images per training step.", rich_help_panel=TRAINING)
]
LearningRate = Annotated[
    float | None, typer.Option(help="Top of the schedule.", rich_help_panel=TRAINING)
]
Flip = Annotated[
    bool,
    typer.Option(help="Mirror images in training; not for text.", rich_help_panel=TRAINING),
]
Mixup = Annotated[float, typer.Option(help="MixUp alpha; 0: off.", rich_help_panel=TRAINING)]
Cutmix = Annotated[float, typer.Option(help="CutMix alpha; 0: off.", rich_help_panel=TRAINING)]
MinScale = Annotated[
    float | None,
    typer.Option(help="Smallest random crop, as a share of the area.", rich_help_panel=TRAINING),
]
ClassWeights = Annotated[
    bool,
    typer.Option("--class-weights", help="Weigh rare classes more.", rich_help_panel=TRAINING),
]
Tensorboard = Annotated[
    bool,
    typer.Option(
        "--tensorboard", help="Also log for TensorBoard (extra).", rich_help_panel=TRAINING
    ),
]
DeviceOption = Annotated[
    Device, typer.Option(help="Train on cpu, cuda or auto.", rich_help_panel=TRAINING)
]
Devices = Annotated[int, typer.Option(help="How many of them.", rich_help_panel=TRAINING)]
TuningDevice = Annotated[
    Device, typer.Option(help="Train on cpu, cuda or auto; scores are made on the CPU.")
]
TuningDevices = Annotated[
    int, typer.Option(help="How many of them, for arms and the long fine-tuning.")
]
TuningNodes = Annotated[
    int,
    typer.Option(
        help="Machines that train what --devices is for together; the command is given on every "
        "one."
    ),
]
Nodes = Annotated[
    int,
    typer.Option(
        help="Machines that train together, each with so many devices; the command is given on "
        "every one.",
        rich_help_panel=TRAINING,
    ),
]
Head = Annotated[
    HeadName | None,
    typer.Option(
        help="What stands on the network, of segmentation; default: lr_aspp, or that of the "
        "weights.",
        rich_help_panel=CHOICE,
    ),
]
Nms = Annotated[
    Literal["outside", "inside"],
    typer.Option(
        help="Where boxes are selected: by run.py, or in the file, as one more output.",
        rich_help_panel=CHOICE,
    ),
]
Void = Annotated[
    list[int] | None,
    typer.Option(help="Value of masks that is no class, beside 255; may be repeated."),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable images out.")]
Only = Annotated[
    Path | None,
    typer.Option(help="Clean list, as `doctor --fix` writes: other images are left out."),
]
Labels = Annotated[
    str | None,
    typer.Option(
        help="File of the labels, where they do not lie with the cube.",
        rich_help_panel=SCENES,
    ),
]
NoData = Annotated[
    float | None,
    typer.Option(help="Value of pixels without a measurement.", rich_help_panel=SCENES),
]
Split = Annotated[
    SplitKind,
    typer.Option(
        help="blocks keeps test windows clear of training; random is the papers' and leaks.",
        rich_help_panel=SCENES,
    ),
]
Guard = Annotated[
    GuardName,
    typer.Option(
        help="Between blocks: test windows hold no training centre, or (full) no pixel of a "
        "training window.",
        rich_help_panel=SCENES,
    ),
]
TrainShare = Annotated[float, typer.Option(help="Of the labelled pixels.", rich_help_panel=SCENES)]
TrainPerClass = Annotated[
    int | None,
    typer.Option(help="Instead, so many pixels of each class (random).", rich_help_panel=SCENES),
]
Mask = Annotated[
    str | None,
    typer.Option(help="File of a given split: 1 train, 2 test.", rich_help_panel=SCENES),
]
Repeats = Annotated[
    int,
    typer.Option(help="Splits and trainings, for a mean and its spread.", rich_help_panel=SCENES),
]
Window = Annotated[
    int | None,
    typer.Option(help="Side in pixels; odd.", show_default="25", rich_help_panel=SCENES),
]
Bands = Annotated[BandsName, typer.Option(help="How bands are reduced.", rich_help_panel=SCENES)]
Whiten = Annotated[
    bool, typer.Option(help="Give every component unit variance.", rich_help_panel=SCENES)
]
Components = Annotated[
    int | None,
    typer.Option(help="Bands after reduction.", show_default="30", rich_help_panel=SCENES),
]
Attention = Annotated[
    AttentionName | None,
    typer.Option(help="Before the network's linear layers.", rich_help_panel=SCENES),
]
Training = Annotated[
    TrainingName,
    typer.Option(
        help="dense learns from crops, patches from one window a pixel.",
        rich_help_panel=SCENES,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(help="Default: what fits --time, at most 3000.", rich_help_panel=SCENES),
]
Seed = Annotated[int, typer.Option(help="Of split, order, augmentation, weights.")]


def parse_workers(text: str | None) -> int | Literal["ray"] | None:
    """'2' -> 2, 'ray' as it is. Raises: ConfigError: anything else."""
    if text is None:
        return None
    if text == "ray":
        return "ray"
    if not text.isdecimal():
        raise ConfigError(f"workers={text!r} is not allowed; expected a number such as 2, or ray.")
    return int(text)

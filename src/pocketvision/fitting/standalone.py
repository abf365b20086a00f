"""model/run.py: classifies image files, names their pixels or finds objects without this package.

The script embeds the source of `data/pixels.py`, so the shipped file sees the very pixels that the
network was trained and verified on.
"""

from __future__ import annotations

import inspect
import json

from pocketvision.boxes import TOLD
from pocketvision.data import pixels
from pocketvision.record.words import Precision
from pocketvision.runtimes.runtime import FileCard

_HEAD = '''"""{does}: python run.py photo.jpg [another.png ...]

Needs {package}, numpy and Pillow, and {files} beside it. Written by pocketvision.
"""

'''

_DOES = {
    "classify": "Classify image files",
    "segment": "Name the class of every pixel of image files, in NAME.classes.png here",
    "detect": "Find objects in image files",
}

_TAIL = '''

import json
import sys
from pathlib import Path

CARD = json.loads({card!r})


def open_session():
    """A function from (1, H, W, 3) uint8 pixels to the answers of the one image."""
{session}
{answer}

def main(files):
    if not files:
        print("usage: python run.py photo.jpg [another.png ...]", file=sys.stderr)
        return 2
    run = open_session()
    for file in files:
        try:
            pixels = load_pixels(file, CARD["side"], CARD["whole"])
        except Exception as error:
            print(f"{{file}} cannot be read as an image: {{error}}", file=sys.stderr)
            return 2
        image = centre_crop(pixels, CARD["resolution"])
        print(file, *told(file, run(image[None])), sep="\\t")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
'''

_CLASSIFIED = """

def told(file, logits):
    \"\"\"The five most probable classes.\"\"\"
    logits = logits.astype(np.float64)
    chances = np.exp(logits - logits.max())
    chances /= chances.sum()
    best = np.argsort(-chances)[:5]
    return [f"{CARD['classes'][k]} {chances[k]:.4f}" for k in best]
"""

_SEGMENTED = """

WRITTEN = set()  # names in this run, in lower case: some disks tell no case apart


def free_name(stem):
    \"\"\"STEM.classes.png, or STEM_2.classes.png and so on where this run has written that.\"\"\"
    name, number = f"{stem}.classes.png", 1
    while name.lower() in WRITTEN:
        number += 1
        name = f"{stem}_{number}.classes.png"
    WRITTEN.add(name.lower())
    return Path(name)


def told(file, classes):
    \"\"\"The shares of the classes; the number of every pixel's class goes into a PNG file.\"\"\"
    with open_image(file) as image:
        size = to_rgb(image).size
    target = free_name(Path(file).stem)
    Image.fromarray(classes).resize(size, Image.Resampling.NEAREST).save(target)
    shares = np.bincount(classes.ravel(), minlength=len(CARD["classes"])) / classes.size
    best = [k for k in np.argsort(-shares) if shares[k] > 0]
    return [str(target), *(f"{CARD['classes'][k]} {shares[k]:.4f}" for k in best)]
"""

_DETECTED = """

LEAST, CANDIDATES, OVERLAP, MOST = {least}, {candidates}, {overlap}, {most}


def told(file, found):
    \"\"\"Class, score, left, top, right and bottom in pixels of every box sure enough.\"\"\"
    with open_image(file) as image:
        width, height = to_rgb(image).size
    boxes, scores = np.clip(found[:, :4], 0, 1), found[:, 4:]
    lines = []
    for k, name in enumerate(CARD["classes"], 1):
        able = np.flatnonzero(scores[:, k] > LEAST)
        rows = able[np.argsort(-scores[able, k])][:CANDIDATES]
        while len(rows):
            best, rows = rows[0], rows[1:]
            left, top, right, bottom = boxes[best] * (width, height, width, height)
            where = f"{left:.0f} {top:.0f} {right:.0f} {bottom:.0f}"
            lines.append((scores[best, k], f"{name} {scores[best, k]:.4f} {where}"))
            rows = rows[iou(boxes[best], boxes[rows]) <= OVERLAP]
    return [line for _, line in sorted(lines, key=lambda one: -one[0])[:MOST]]


def iou(box, others):
    \"\"\"Intersection over union of one box with each of the others.\"\"\"
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return shared / np.maximum(areas - shared, 1e-12)
"""

_SELECTED = """

def told(file, rows):
    \"\"\"Class, score, left, top, right and bottom in pixels of what the file selects.\"\"\"
    with open_image(file) as image:
        width, height = to_rgb(image).size
    lines = []
    for *box, score, number in rows:
        left, top, right, bottom = np.array(box) * (width, height, width, height)
        where = f"{left:.0f} {top:.0f} {right:.0f} {bottom:.0f}"
        lines.append(f"{CARD['classes'][int(number) - 1]} {score:.4f} {where}")
    return lines
"""

_ANSWERS = {"classify": _CLASSIFIED, "segment": _SEGMENTED, "detect": _DETECTED}

_ONNXRUNTIME = """    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = {threads}
    options.inter_op_num_threads = 1
    path = Path(__file__).with_name("model.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    answer = session.get_outputs()[-1].name
    return lambda pixels: session.run([answer], {{"input": pixels}})[0]{first}
"""

_OPENVINO = """    import openvino

    options = {{
        "INFERENCE_PRECISION_HINT": "{hint}",
        "INFERENCE_NUM_THREADS": {threads},
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }}
    core = openvino.Core()
    model = core.read_model(Path(__file__).with_name("model.xml"))
    model.reshape([1, CARD["resolution"], CARD["resolution"], 3])
    request = core.compile_model(model, "CPU", options).create_infer_request()
    return lambda pixels: request.infer([pixels])[len(model.outputs) - 1]{first}
"""

_SESSIONS = {
    "onnxruntime": (_ONNXRUNTIME, "model.onnx"),
    "openvino": (_OPENVINO, "model.xml, model.bin"),
}


def standalone_script(runtime: str, precision: Precision, threads: int, card: FileCard) -> str:
    """The text of run.py for one shipped file."""
    template, files = _SESSIONS[runtime]
    hint = "bf16" if precision == "bf16" else "f32"
    session = template.format(threads=threads, hint=hint, first="" if card.selects else "[0]")
    facts = {
        "classes": card.classes,
        "side": card.preprocessing.side,
        "resolution": card.preprocessing.resolution,
        "whole": card.preprocessing.whole,
    }
    head = _HEAD.format(does=_DOES[card.task], package=runtime, files=files)
    answer = _SELECTED if card.selects else _ANSWERS[card.task]
    for name in ("least", "candidates", "overlap", "most"):
        answer = answer.replace(f"{{{name}}}", repr(getattr(TOLD, name)))
    tail = _TAIL.format(card=json.dumps(facts), session=session, answer=answer)
    return head + inspect.getsource(pixels) + tail

"""model/run.py: classifies image files without this package.

The script embeds the source of `data/pixels.py`, so the shipped file sees the very pixels that the
network was trained and verified on.
"""

from __future__ import annotations

import inspect
import json

from pocketvision.data import pixels
from pocketvision.record import Precision
from pocketvision.runtimes.runtime import FileCard

_HEAD = '''"""Classify image files: python run.py photo.jpg [another.png ...]

Needs {package}, numpy and Pillow, and {files} beside it. Written by pocketvision.
"""

'''

_TAIL = '''

import json
import sys
from pathlib import Path

CARD = json.loads({card!r})


def open_session():
    """A function from (1, H, W, 3) uint8 pixels to (1, K) logits."""
{session}

def main(files):
    if not files:
        print("usage: python run.py photo.jpg [another.png ...]", file=sys.stderr)
        return 2
    run = open_session()
    for file in files:
        try:
            image = centre_crop(load_pixels(file, CARD["side"]), CARD["resolution"])
        except Exception as error:
            print(f"{{file}} cannot be read as an image: {{error}}", file=sys.stderr)
            return 2
        logits = run(image[None])[0].astype(np.float64)
        chances = np.exp(logits - logits.max())
        chances /= chances.sum()
        best = np.argsort(-chances)[:5]
        print(file, *(f"{{CARD['classes'][k]}} {{chances[k]:.4f}}" for k in best), sep="\\t")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
'''

_ONNXRUNTIME = """    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = {threads}
    options.inter_op_num_threads = 1
    path = Path(__file__).with_name("model.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {{"input": pixels}})[0]
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
    return lambda pixels: request.infer([pixels])[0]
"""

_SESSIONS = {
    "onnxruntime": (_ONNXRUNTIME, "model.onnx"),
    "openvino": (_OPENVINO, "model.xml, model.bin"),
}


def standalone_script(runtime: str, precision: Precision, threads: int, card: FileCard) -> str:
    """The text of run.py for one shipped file."""
    template, files = _SESSIONS[runtime]
    hint = "bf16" if precision == "bf16" else "f32"
    session = template.format(threads=threads, hint=hint)
    facts = {
        "classes": card.classes,
        "side": card.preprocessing.side,
        "resolution": card.preprocessing.resolution,
    }
    head = _HEAD.format(package=runtime, files=files)
    return head + inspect.getsource(pixels) + _TAIL.format(card=json.dumps(facts), session=session)

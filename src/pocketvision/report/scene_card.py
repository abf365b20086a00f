"""README.md of the folder that comes out for a scene: a model card in Markdown."""

from __future__ import annotations

from pocketvision.report import scene_rows, text
from pocketvision.report.templates import template
from pocketvision.scene_record import SceneRecord


def render_scene_card(record: SceneRecord) -> str:
    """The model card; the same record gives the same text.

    Names that come from the user are escaped for Markdown and HTML at once.
    Raises: ConfigError: a run whose seed no split has.
    """
    split = record.splits[0]
    leak = scene_rows.leak_words(split.leakage)
    word = scene_rows.SPLITS[split.kind]
    card = template("scene_card.md").render(
        record=record,
        split=split,
        split_word=word,
        leak=leak,
        measured=f"the shipped file on {record.headline.n:,} test pixels, {word}; {leak}",
        verdict_word=text.verdict_word(record.verdict.met),
        rows=scene_rows,
        methods=scene_rows.method_rows(record),
        classes=scene_rows.scene_class_rows(record),
        files=scene_rows.file_rows(record.files),
    )
    return card.strip() + "\n"

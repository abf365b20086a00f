"""The templates of the report and the model card, with the filters both write figures by."""

from __future__ import annotations

import functools
from pathlib import Path

import jinja2

from pocketvision.budget import count_of, format_latency, format_time
from pocketvision.report import text
from pocketvision.report.search_rows import expected_word, method_words, narrowing_sentence

FOLDER = Path(__file__).parent


def template(name: str) -> jinja2.Template:
    """A template of this folder; everything put into it is escaped for HTML unless it is Markup."""
    return _environment().get_template(name)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "agreed_share": text.agreed_share,
        "accuracy_line": text.accuracy_line,
        "count_of": count_of,
        "counted_per_class": text.counted_per_class,
        "decibels": text.decibels,
        "duration": format_time,
        "fence": text.markdown_fence,
        "latency_limit": format_latency,
        "latency_line": text.latency_line,
        "md": text.markdown,
        "megabytes": text.megabytes,
        "method": method_words,
        "metric_definition": text.metric_definition,
        "metric_name": text.metric_name,
        "metric_word": text.metric_word,
        "milliseconds": text.milliseconds,
        "millions": text.millions,
        "expected_word": expected_word,
        "narrowing_sentence": narrowing_sentence,
        "percent": text.percent,
        "points": text.points,
        "share": text.share,
        "significant": text.significant,
        "task_noun": text.task_noun,
        "threads": text.threads,
        "tiny": text.tiny,
    }
    environment.globals |= {
        "milliseconds_range": text.milliseconds_range,
        "percent_range": text.percent_range,
        "points_range": text.points_range,
    }
    return environment

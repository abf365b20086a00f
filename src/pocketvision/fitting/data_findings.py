"""What `fit` says of its images before it trains on them."""

from __future__ import annotations

from dataclasses import replace

from pocketvision.data.annotated_doctor import as_trained, examine_annotated
from pocketvision.data.doctor import examine_index
from pocketvision.data.images import Samples
from pocketvision.data.masks.samples import MaskedSamples
from pocketvision.data.objects.samples import BoxedSamples
from pocketvision.fitting.reporter import Reporter
from pocketvision.progress import counted
from pocketvision.record.words import Finding

MOST_SAID = 8


def find_faults(samples: Samples, reporter: Reporter) -> tuple[Finding, ...]:
    """Everything found, with the splits as trained on; errors and warnings are said at once."""
    with reporter.progress("Examining images") as advance:
        if isinstance(samples, MaskedSamples | BoxedSamples):
            found = examine_annotated(as_trained(samples), counted(advance))
        else:
            index = replace(samples.index, splits=samples.split_codes)
            found = examine_index(index, counted(advance))
    findings = tuple(one.finding for one in found.findings)
    grave = [one for one in findings if one.severity != "note"]
    for one in grave[:MOST_SAID]:
        reporter.say(f"{one.severity.capitalize()}: {one.sentence}")
    if len(grave) > MOST_SAID:
        more = len(grave) - MOST_SAID
        reporter.say(f"and {more} more: pocketvision doctor {found.folder}")
    return findings

"""The tasks by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pocketvision.fitting.tasks.classify import Classify
from pocketvision.fitting.tasks.detect import Detect
from pocketvision.fitting.tasks.segment import Segment
from pocketvision.fitting.tasks.task import Task
from pocketvision.record.words import TaskName

TASKS: Mapping[TaskName, Task] = MappingProxyType(
    {task.name: task for task in (Classify(), Segment(), Detect())}
)

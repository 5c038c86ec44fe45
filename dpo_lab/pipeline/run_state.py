"""What a run works with, and what it has found so far."""

from dataclasses import dataclass, field
from typing import Any

from dpo_lab.alignment import Alignment
from dpo_lab.artifacts import Artifact
from dpo_lab.data.base import GivenPairs
from dpo_lab.loggers.recorder import Recorder
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.pipeline.evaluation import Measurements
from dpo_lab.pipeline.health import Health
from dpo_lab.pipeline.screen import Screen


@dataclass
class RunState:
    """A run: what it works with, and what it has found so far."""

    alignment: Alignment
    screen: Screen
    recorder: Recorder
    name: str
    base: ModelOnDisk
    given: list[GivenPairs] | None
    """Of each round."""
    lineage: list[Artifact]
    """Every artifact that the run is made from, in the order in which they were made."""
    measurements: Measurements
    force: bool = False
    """Make everything again but the base model."""
    rounds: list[dict[str, Any]] = field(default_factory=list)
    """The figures of each round."""
    summary: dict[str, Any] = field(default_factory=dict)
    health: Health = field(default_factory=Health)
    """What goes wrong."""

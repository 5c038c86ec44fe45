"""The artifact `ranker`: a ranker that is trained before it opens, for ranking and for judging."""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import Component
from dpo_lab.memory.host import give_back
from dpo_lab.pipeline.screen import Screen
from dpo_lab.report.screen import made_line

Part = TypeVar("Part", bound=Component)


def ready(part: Part, root: Path) -> tuple[Part, list[Artifact]]:
    """Return a part whose rankers can all open, and the artifacts that were trained for it; most parts stay as they are.

    A ranker is trained once, whatever run asks for it: `force` does not train it again, as it does not make the base model again.

    Args:
        part: a ranker, an ensemble of some, or a measure with a judge.
        root: the outputs directory.
    """
    made: list[Artifact] = []
    return _ready(part, root, made), made


def trained_for(parts: Iterable[Component | None], root: Path, screen: Screen | None = None) -> list[Artifact]:
    """Return the artifacts that the rankers of some parts are trained into, each once; a screen has a line for each."""
    made = [artifact for part in parts if part is not None for artifact in ready(part, root)[1]]
    once = list({artifact.id: artifact for artifact in reversed(made)}.values())  # the first of equal ones: it was made now
    if screen:
        screen.say(
            *(made_line("ranker", artifact.seconds if artifact.made_now else None, f"{artifact.path}/") for artifact in once)
        )
    return once


def _ready(value: Any, root: Path, artifacts: list[Artifact]) -> Any:
    if isinstance(value, Component) and (training := value.training()) is not None:
        artifacts.append(trained(value, training, root))
        return value.trained(artifacts[-1].path)
    if isinstance(value, dict):
        return {name: _ready(each, root, artifacts) for name, each in value.items()}
    if not (isinstance(value, Component) and is_dataclass(value)):
        return value
    parts: dict[str, Any] = {field.name: getattr(value, field.name) for field in fields(value)}
    changed = {name: after for name, before in parts.items() if (after := _ready(before, root, artifacts)) != before}
    return replace(value, **changed) if changed else value


def trained(ranker: Any, training: dict[str, Any], root: Path) -> Artifact:
    """Return the artifact that a ranker is trained into; after a kill the training resumes."""
    plan = Plan(root, "ranker", ranker.label, training)

    def produce(directory: Path) -> dict[str, Any]:
        facts: dict[str, Any] = ranker.train(directory)
        give_back()
        return facts

    return plan.make(produce, resume=True)

"""What the stage `evaluate` does with models: measures each on every part, compares them, and writes the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import ConfigError
from dpo_lab.models.quant import Quant
from dpo_lab.models.spec import ModelSpec
from dpo_lab.pipeline.evaluated_models import Evaluated, Finder
from dpo_lab.pipeline.evaluated_parts import Part, parts_of
from dpo_lab.pipeline.evaluation_report import report_of, screen_lines, write_evaluation
from dpo_lab.pipeline.measuring import Measuring, measure_all
from dpo_lab.progress import say
from dpo_lab.run_directory import LOGGERS, REPORT


def evaluate_found(
    how: Mapping[str, Any],
    asked: tuple[Sequence[str], ModelSpec | None, str | None],
    quant: Quant,
    parts: Mapping[str, Any],
    against: str | None,
) -> tuple[dict[str, Any], Artifact]:
    """Return the report of an evaluation of models that are named, and the artifact that holds it.

    Args:
        how: what `Measuring` takes.
        asked: `models`, `model` and `base` of the stage.
        parts: what `parts_of` takes.
    """
    measuring = Measuring(**how)
    finder = Finder(quant=quant, outputs=measuring.outputs, precision=measuring.precision, device=measuring.device)
    return evaluate_models(measuring, finder.found(*asked), parts_of(**parts), against, parts["category"])


def evaluate_models(
    measuring: Measuring, models: Sequence[Evaluated], parts: Sequence[Part], against: str | None, category: str | None
) -> tuple[dict[str, Any], Artifact]:
    """Return the report of an evaluation and the artifact that holds it; what was measured before is not measured again.

    Args:
        against: the model, as it was typed or as it is called, that each other one is compared with; None: every pair.
        category: the column of the tables by category; None: no such tables.

    Raises:
        ConfigError: if `against` is not among the models, or a model has nothing to be compared with on pairs.
    """
    chosen = None if against is None else named(against, models)
    refuse_without_start(measuring, models, parts)
    found = measure_all(measuring, parts, models)
    report = report_of(found, models, chosen, category)
    made = [(evaluated.part.name, model, artifact.id) for evaluated in found for model, artifact in evaluated.made.items()]
    content = {
        "measurements": made,
        "against": chosen,
        "category": [category, *(sorted(part.categories.items()) for part in parts)],
    }
    asked = [model for model in models if not model.is_start]
    name = asked[0].name.replace("/", "-") if len(asked) == 1 else f"{len(asked)}-models"
    parents = list(dict.fromkeys(identity for _, _, identity in made))
    plan = Plan(measuring.outputs, "evaluation", f"{name}-report", content, parents=parents, apart=(LOGGERS,))

    def produce(directory: Path) -> dict[str, Any]:
        write_evaluation(directory, report, found)
        return {"models": len(asked), "parts": [evaluated.part.name for evaluated in found]}

    artifact = plan.make(produce, force=measuring.force)
    say(*screen_lines(report), f"report {artifact.path / REPORT}")
    return report, artifact


def named(against: str, models: Sequence[Evaluated]) -> str:
    """Return the name of the model that was asked for by its name or its path."""
    for model in models:
        if against in (model.name, model.path):
            return model.name
    names = ", ".join(model.name for model in models)
    raise ConfigError(f"against={against} is not among the models; use one of {names}, or null for every pair.")


def refuse_without_start(measuring: Measuring, models: Sequence[Evaluated], parts: Sequence[Part]) -> None:
    """Raise ConfigError if pairs are to be measured on, and nothing says what a model is compared with."""
    if not measuring.reference.compares or all(part.data is None for part in parts):
        return
    if lacking := [model.path for model in models if model.before is None]:
        raise ConfigError(
            f"{lacking[0]}: on pairs, a policy is compared with the model that it was trained from, and nothing says "
            "which that is. Use base=DIR (or a Hub id), or without any: reference=none loss=simpo"
        )

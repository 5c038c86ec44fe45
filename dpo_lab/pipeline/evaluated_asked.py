"""What the stage `evaluate` was asked to do: one of three things, with settings that make a difference there."""

from collections.abc import Sequence
from dataclasses import fields

from dpo_lab.components import ConfigError
from dpo_lab.ranking.base import Ranker
from dpo_lab.reference.base import Reference
from dpo_lab.training.settings import TrainerSettings

NOTHING = """nothing to evaluate. Use models=[DIR,...] with pairs (data=jsonl data.path=FILE), prompts (evaluation=generation \
prompts=jsonl prompts.path=FILE) or public test sets (benchmark=lm_eval benchmark.tasks=[TASK]), runs=[outputs/train/A,\
outputs/train/B], or answers=[FILE,FILE] judge=same ranker=pairrm"""
OF_ANSWERS = ("judge", "columns", "shared")
OF_MODELS = (
    "base",
    "data",
    "sets",
    "evaluation",
    "benchmark",
    "loss",
    "reference",
    "layout",
    "precision",
    "quant",
    "seed",
)
"""Settings of the stage that read nothing but answers, and nothing but models."""


def idle_of(*, runs: bool, answers: bool) -> dict[str, str]:
    """Return the settings that make no difference, and why."""
    read = () if runs else ("accelerator",)
    idle = [f"trainer.{field.name}" for field in fields(TrainerSettings) if field.name not in read]
    sent = {"logger": "runs have been sent when they were trained"} if runs else {}
    if answers:
        others = dict.fromkeys(OF_MODELS, "answers that were made elsewhere are compared, and no model is measured")
    elif runs:
        others = dict.fromkeys((*OF_MODELS, *OF_ANSWERS, "category"), "what runs measured when they were trained is compared")
    else:
        others = dict.fromkeys(
            OF_ANSWERS, "no answers are compared. Use answers=[FILE,FILE], or evaluation=generation for models"
        )
    others |= {"columns.preferred": "a file holds the answers of one model, and nobody preferred one of them"}
    return dict.fromkeys([*idle, "evaluation.every", "benchmark.every"], "nothing is trained") | sent | others


def refuse_asked(asked: Sequence[str], reference: Reference, judge: Ranker | None) -> None:
    """Raise ConfigError if there is nothing to measure or compare, or too much at once.

    Args:
        asked: those of `runs`, `models` and `answers` that name something.
    """
    if not asked:
        raise ConfigError(NOTHING)
    if "answers" in asked and len(asked) > 1:
        raise ConfigError(f"answers compares files, and {asked[0]} something else; leave one of the two out.")
    if len(asked) > 1:
        raise ConfigError("runs compares what runs have measured; to measure them anew, name them in models.")
    if "answers" in asked and judge is None:
        raise ConfigError("answers are compared by a judge, and judge has no value; use judge=same ranker=length, for example.")
    if reference.needs_adapter or reference.moves:
        raise ConfigError("this reference belongs to a training; use reference=cached, reference=frozen, or reference=none.")

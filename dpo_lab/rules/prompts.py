"""Prompts that do not go together with the rest of a stage."""

from collections.abc import Callable

from dpo_lab.alignment import Alignment
from dpo_lab.components import ConfigError
from dpo_lab.data.base import Prompts
from dpo_lab.evaluation.generation import GenerationEvaluation
from dpo_lab.pipeline.on_policy import OnPolicy
from dpo_lab.ranking.base import Ranker


def gold_without_films(alignment: Alignment) -> str | None:
    """The exact reward is that of the embedded films."""
    judged: dict[str, tuple[Ranker, Prompts]] = {}
    if isinstance(alignment.data, OnPolicy):
        judged["ranker"] = (alignment.data.ranker, alignment.data.prompts)
    if isinstance(alignment.evaluation, GenerationEvaluation):
        judged["judge"] = (alignment.evaluation.judge, alignment.evaluation.prompts)
    for group, (ranker, prompts) in judged.items():
        if ranker.films_only and not prompts.films:
            films = "prompts=films, or " if isinstance(alignment.data, OnPolicy) else ""  # given pairs are of other text
            length = "ranker=length" if group == "ranker" else "judge=same ranker=length"  # the ranker may be gold too
            return (
                f"{group}={ranker.label} can judge answers about films only, but prompts={prompts.label} asks other things; "
                f"use {films}{length} (a control: the shorter answer), or a ranker of your own (CONTRIBUTING.md)."
            )
    return None


def film_prompts_run_out(alignment: Alignment) -> str | None:
    """The film world has a known number of prompts, so nothing needs to be read."""
    return prompts_run_out(alignment) if isinstance(alignment.data, OnPolicy) and alignment.data.prompts.films else None


def prompts_run_out(alignment: Alignment) -> str | None:
    """Rounds share no prompts, so the last one may have none left, and evaluation needs some; else it shows after hours."""
    last = 0 if alignment.iteration.prompts == "same" else alignment.iteration.rounds - 1
    try:
        if isinstance(alignment.data, OnPolicy):
            alignment.data.prompts.for_round(last, alignment.seed)
        if isinstance(alignment.evaluation, GenerationEvaluation) and not alignment.evaluation.held_out():
            return (
                "evaluation=generation answers held-out prompts, and "
                f"prompts={alignment.evaluation.prompts.label} holds out none; use prompts.num_held_out=N with N above 0."
            )
    except ConfigError as error:
        return str(error)
    return None


RULES: tuple[Callable[[Alignment], str | None], ...] = (gold_without_films, film_prompts_run_out)

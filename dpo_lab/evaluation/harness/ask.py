"""A model asked by lm-evaluation-harness: its figures, and what each document gave."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpo_lab.components import RunError
from dpo_lab.evaluation.harness.model import KeepingLM
from dpo_lab.evaluation.harness.tasks import TaskFigure, catalogue, quiet
from dpo_lab.evaluation.intervals import Observations
from dpo_lab.evaluation.statistics import Observed
from dpo_lab.hub import innermost
from dpo_lab.models.load import Loaded, evaluating
from dpo_lab.scoring.randomness import generators_kept

EQUAL = 1e-9
"""By how much the mean over documents may differ from the harness's figure, which sums in another order."""


def asked(
    loaded: Loaded,
    names: Sequence[str],
    include_path: Path | None,
    *,
    batch_size: int,
    num_fewshot: int | None,
    device: torch.device,
    half: torch.dtype | None,
    directory: Path | None,
    **settings: Any,
) -> Mapping[str, Any]:
    """Return what `lm_eval.simple_evaluate` returns for a loaded model; the process's random generators stay where they are.

    That function itself would run git for its own record, whose errors reach the screen.

    Args:
        num_fewshot: examples in front of each document; None: as many as the task says.
        half: the number format of matrix products; None: that of the weights.
        directory: where answers are kept as they are made, for a call after a kill; None keeps nothing.
        settings: of `lm_eval.evaluate`.

    Raises:
        RunError: if a task cannot be asked.
    """
    from lm_eval import evaluate

    with generators_kept(device), evaluating(loaded.model), quiet():
        seed_as_the_harness()
        tasks = catalogue(tuple(names), include_path).load(list(names))
        for task in tasks["tasks"].values():
            set_examples(task, num_fewshot)
        model = KeepingLM(loaded, batch_size=batch_size, half=half, name="lm_eval", directory=directory)
        try:
            found: Mapping[str, Any] | None = evaluate(
                model, tasks, bootstrap_iters=0, log_samples=True, fewshot_as_multiturn=True, **settings
            )
        except (ValueError, KeyError, TypeError, IndexError, AssertionError) as error:  # of a task, which is foreign code
            raise RunError(
                f"benchmark.tasks=[{','.join(names)}]: lm-evaluation-harness stopped ({innermost(error)}). Correct or leave out "
                "the task; what was answered is kept."
            ) from error
    if found is None:
        raise RunError("lm-evaluation-harness gave no results: this process is not the first of its group.")
    return found


def seed_as_the_harness() -> None:
    """Put the process's random generators where the harness puts them: some tasks draw from them."""
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    torch.manual_seed(DEFAULT_OTHER_SEED)


def set_examples(task: Any, num_fewshot: int | None) -> None:
    """Give a task its number of examples as the harness does: one that says 0 keeps it, one that says nothing has 0."""
    from lm_eval.defaults import DEFAULT_OTHER_SEED

    own = task.get_config("num_fewshot")
    if num_fewshot is not None and own != 0:
        task.set_config(key="num_fewshot", value=num_fewshot)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)


def values_in(found: Mapping[str, Any], figures: Sequence[TaskFigure]) -> dict[str, float]:
    """Return the harness's own numbers by our names."""
    both = {**found["results"], **found.get("groups", {})}
    values = {figure.name: both.get(figure.task, {}).get(figure.key) for figure in figures}
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def observed_in(found: Mapping[str, Any], figures: Sequence[TaskFigure], values: Mapping[str, float]) -> Observations:
    """Return what each document gave, of every figure that is the plain mean over documents; others have no interval."""
    observed = {}
    for figure in figures:
        numbers = [
            (f"{task} {sample['doc_id']}", sample[figure.metric])
            for task in figure.tasks
            for sample in found["samples"].get(task, ())
            if sample["filter"] == figure.filter and figure.metric in sample
        ]
        if not numbers or not all(isinstance(value, int | float | np.number) for _, value in numbers):
            continue
        each = Observed([float(value) for _, value in numbers], [document for document, _ in numbers])
        if abs(each.by_prompt.value - values.get(figure.name, np.inf)) < EQUAL:
            observed[figure.name] = each
    return observed

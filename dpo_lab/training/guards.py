"""A step whose gradient is not finite: training stops before the weights change, and the step's batch is written out."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpo_lab.artifacts import write_durably
from dpo_lab.components import RunError
from dpo_lab.models.load import evaluating
from dpo_lab.training.module import NonFiniteStepError, StepModule

Describe = Callable[[Sequence[int]], list[dict[str, Any]]]
"""From numbers of items to their ids and text."""


def stopped(module: StepModule, error: NonFiniteStepError, step: int, directory: Path, describe: Describe | None) -> RunError:
    """Return the error that ends the run; the step's items, with their figures, are written beside the metrics."""
    records = records_of(module, error.batch, describe)
    where = ""
    if records:
        path = directory / f"not_finite_step_{step}.jsonl"
        write_durably(path, "".join(json.dumps(readable(record), ensure_ascii=False) + "\n" for record in records))
        where = f" Its {len(records)} {module.item}s with their log-probabilities are in {path}."
    why = cause(module, records, step)
    return RunError(
        f"step {step}: the gradient is not finite (its norm is {error.norm}); the weights were not changed.{where} {why}"
    )


def records_of(module: StepModule, batch: Sequence[Any], describe: Describe | None) -> list[dict[str, Any]]:
    """Return one record per item of a step: its number, the figures that the module has of it, and its text."""
    records: list[dict[str, Any]] = []
    with evaluating(module.policy):
        for micro_batch in batch:
            figures = {name: values.tolist() for name, values in module.item_figures(micro_batch.to(module.device)).items()}
            if not figures:
                continue
            numbers = micro_batch.ids.tolist()
            texts = describe(numbers) if describe else [{} for _ in numbers]
            for at, number in enumerate(numbers):
                of_item = {name: values[at] for name, values in figures.items()}
                records.append({module.item: number, **of_item, **texts[at]})
    return records


def readable(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record that JSON can hold: numbers that are not finite as text.

    >>> readable({"loss": math.inf, "pair": 3})
    {'loss': 'inf', 'pair': 3}
    """
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()
    }


def cause(module: StepModule, records: Sequence[dict[str, Any]], step: int) -> str:
    """Return what most likely happened and what to change."""
    if broken := first_not_finite(module.policy):
        if any(weight.dtype == torch.float16 for weight in module.policy.parameters()):
            return f"The weights are not finite in fp16 ({broken}), which ends at 65504; use precision=bf16 or precision=fp32."
        return f"The weights are not finite already ({broken}): the model that training started from is damaged."
    if any(not _finite(record, "logps/reference") for record in records):
        return "The reference's log-probabilities are not finite: its weights overflow in this number format; try precision=fp32."
    if any(not _finite(record, "logps/policy") for record in records):
        return "The policy's log-probabilities are not finite: its activations overflow; try precision=fp32, or a lower optim.lr."
    if any(not _finite(record, "loss") for record in records):
        return "The log-probabilities are finite and the loss is not: it overflows at such margins; use a smaller beta."
    rate = " or a lower optim.lr (the model may have drifted far)" if step > 1 else ""
    return f"Loss and log-probabilities are finite: the gradient overflowed on its way back; try precision=fp32{rate}."


def first_not_finite(model: nn.Module) -> str:
    """Return the name of a weight that is not finite, or an empty text."""
    return next((name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()), "")


def _finite(record: dict[str, Any], prefix: str) -> bool:
    return all(math.isfinite(value) for name, value in record.items() if name.startswith(prefix))

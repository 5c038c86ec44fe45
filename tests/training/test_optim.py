"""Schedules by hand, and which optimizer is made."""

from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.training.optim import AdamW, AdamW8bit


def factors(total: int, **fields: object) -> list[float]:
    factor = AdamW(lr=1.0, **fields).factor(total)  # type: ignore[arg-type]
    return [factor(step) for step in range(total)]


def test_warm_up_reaches_the_peak_and_never_starts_at_0() -> None:
    assert factors(10, warmup=0.4, schedule="constant")[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_cosine_by_hand() -> None:
    # no warm-up, four steps: 0.1 + 0.9 * (1 + cos(pi * k / 4)) / 2
    assert factors(4, warmup=0.0) == pytest.approx([1.0, 0.1 + 0.9 * 0.8535534, 0.55, 0.1 + 0.9 * 0.1464466])


def test_flat_then_linear_stays_at_the_peak_for_half_of_all_steps() -> None:
    assert factors(8, warmup=0.0, schedule="flat_then_linear", final=0.0) == pytest.approx([1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_a_single_step_runs_at_the_peak() -> None:
    assert factors(1, warmup=0.1) == pytest.approx([1.0])


@pytest.mark.parametrize("paged", [False, True])
def test_the_paged_optimizer_is_the_one_that_can_leave_the_gpu(paged: bool) -> None:
    made: Any = AdamW8bit(lr=1e-3, paged=paged).optimizer([nn.Parameter(torch.ones(2))])
    assert made.is_paged is paged

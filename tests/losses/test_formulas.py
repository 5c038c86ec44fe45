"""The head of every file of conf/loss: its formula is what the loss computes, and its paper is the one that the code names."""

import inspect
import re
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from dpo_lab.components import Component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.options import loss_options
from dpo_lab.scoring.logps import PairLogps, ResponseLogps
from dpo_lab.tokens.labels import PairLabels
from scripts.tables import facts_of

LOSSES = loss_options()
every_loss = pytest.mark.parametrize("name", LOSSES)

# log-probabilities of the tokens of three pairs; log-ratios of both signs, and margins that sort otherwise than the reference's
CHOSEN = [[-0.5, -1.5, -0.4], [-1.0, -0.2], [-0.7]]
REJECTED = [[-1.0, -0.3], [-0.9, -0.8, -1.6, -0.1], [-2.0, -0.6]]
CHOSEN_REFERENCE = [[-0.9, -1.1, -0.6], [-0.5, -0.4], [-1.2]]
REJECTED_REFERENCE = [[-2.2, -1.4], [-1.3, -0.2, -1.0, -0.5], [-1.1, -0.9]]
SQUARES = -1.0


def numbers_of(part: Any) -> dict[str, float]:
    """Return the numbers of a component and of those that it holds, by the names of their fields."""
    found: dict[str, float] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        for inner in value.values() if isinstance(value, dict) else [value]:
            found |= numbers_of(inner) if isinstance(inner, Component) else {}
        found |= {field.name: value} if isinstance(value, int | float) else {}
    return found


def pairs_of(rows: list[list[float]], labels: PairLabels | None = None) -> PairLogps:
    """Return pairs of responses, chosen ones first."""
    per_token = torch.tensor([value for row in rows for value in row], dtype=torch.float64)
    counts = torch.tensor([len(row) for row in rows])
    squares = torch.full_like(per_token, SQUARES)
    return PairLogps(ResponseLogps(per_token, counts, squares), torch.arange(len(rows)).view(2, -1).T, labels)


def sums(rows: list[list[float]], limits: list[int] | None = None) -> Tensor:
    """Return the sums of rows, of at most so many values of each."""
    ends = limits or [len(row) for row in rows]
    return torch.tensor([sum(row[:end]) for row, end in zip(rows, ends, strict=True)], dtype=torch.float64)


def labels() -> PairLabels:
    """Return the labels of the three pairs."""
    return PairLabels(torch.tensor([0.8, 0.6, 0.9]), torch.tensor([2.0, 1.0, 0.9]), torch.tensor([0.5, -1.0, 0.3]))


FUNCTIONS: dict[str, Any] = {
    "log": lambda x: torch.as_tensor(x, dtype=torch.float64).log(),
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "max": lambda least, x: x.clamp(min=least),
    "sort": lambda x: x.sort().values,
}


def evaluated(formula: str, loss: PreferenceLoss, chosen: list[list[float]], rejected: list[list[float]]) -> Tensor:
    """Return the value of a formula for each of the three pairs, given the reference's tokens."""
    shorter = [min(map(len, pair)) for pair in zip(CHOSEN, REJECTED, strict=True)]
    n_w, n_l = (torch.tensor([len(row) for row in rows]) for rows in (CHOSEN, REJECTED))
    l_w, r_w, l_l, r_l = (sums(rows) for rows in (CHOSEN, chosen, REJECTED, rejected))
    a, b, m_w, m_l, numbers, known = l_w - r_w, l_l - r_l, l_w / n_w, l_l / n_l, numbers_of(loss), labels()
    numbers |= {"beta": loss.beta, "e": numbers.get("label_smoothing", 0.0)}
    symbols = {"l_w": l_w, "l_l": l_l, "r_w": r_w, "r_l": r_l, "n_w": n_w, "n_l": n_l, "m_w": m_w, "m_l": m_l}
    symbols |= {"a": a, "b": b, "h": a - b, "p": known.preference, "s_w": known.score_chosen, "s_l": known.score_rejected}
    symbols |= {"q": torch.sigmoid(loss.beta * (a - b)), "shift": loss.beta * torch.cat([a, b]).mean()}
    symbols |= {"w_w": (m_w - SQUARES).exp(), "w_l": (m_l - SQUARES).exp()}
    symbols |= {
        "a_first": sums(CHOSEN, shorter) - sums(chosen, shorter),
        "b_first": sums(REJECTED, shorter) - sums(rejected, shorter),
    }
    assert "^" not in formula, f"{formula}: a power is written ** here"
    value = eval(formula, {"__builtins__": {}}, {**numbers, **symbols, **FUNCTIONS})
    return torch.as_tensor(value, dtype=torch.float64).expand(3)


@every_loss
def test_a_formula_is_what_its_loss_computes(name: str) -> None:
    computed = LOSSES[name](pairs_of(CHOSEN + REJECTED, labels()), pairs_of(CHOSEN_REFERENCE + REJECTED_REFERENCE))
    worked_out = evaluated(facts_of(name)["formula"], LOSSES[name], CHOSEN_REFERENCE, REJECTED_REFERENCE)
    assert torch.allclose(computed, worked_out, rtol=1e-6), (computed, worked_out)


@every_loss
def test_at_policy_equal_to_reference_a_loss_has_the_value_that_its_file_states(name: str) -> None:
    same, facts = pairs_of(CHOSEN + REJECTED, labels()), facts_of(name)
    stated = facts["at policy = reference"] if LOSSES[name].needs_reference else facts["formula"]
    value = evaluated(stated, LOSSES[name], CHOSEN, REJECTED)
    assert torch.allclose(LOSSES[name](same, same), value, rtol=1e-6), value


@every_loss
def test_a_file_names_the_paper_that_the_code_names(name: str) -> None:
    paper = facts_of(name)["paper"]
    papers = re.findall(r"\d{4}\.\d{5}|eq\. \d+(?: and \d+)?", paper)
    assert papers or "Mitchell 2023" in paper
    source = inspect.getsource(inspect.getmodule(type(LOSSES[name])) or type(LOSSES[name]))
    assert [paper for paper in papers if paper not in source] == []

"""What must not matter to a score, and what must."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpo_lab.evaluation.agreement import agreement
from dpo_lab.evaluation.held_out import held_out_logps
from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.load import evaluating
from dpo_lab.reference.frozen import FrozenScorer
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.logps import PairLogps
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import StoreBuilder, TokenStore

LAYOUT = PaddedLayout()
FIT = Fit(LAYOUT, own_logits=False)


def store_of(prompt: list[int], *answers: list[int]) -> TokenStore:
    builder = StoreBuilder()
    for answer in answers:
        builder.add_response(prompt, answer)
    return builder.build()


class Recorded(nn.Module):
    """A language model that keeps its logits, so that their gradient can be read."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.logits = torch.empty(0)

    def forward(self, **inputs: Tensor) -> Any:
        out = self.model(**inputs)
        self.logits = out.logits
        self.logits.retain_grad()
        return out


def test_prompt_positions_and_padding_contribute_nothing(model: nn.Module) -> None:
    # rows of 3 + 2 and 3 + 4 tokens, padded to 7: positions 2, 3 and 2, 3, 4, 5 predict response tokens, no other does
    recorded = Recorded(model)
    score(recorded, LAYOUT.rows(store_of([5, 6, 7], [8, 1], [9, 10, 11, 1]), [0, 1]), own_logits=True).sums.sum().backward()
    touched = recorded.logits.grad.abs().sum(-1) > 0  # type: ignore[union-attr]
    assert touched.int().tolist() == [[0, 0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0]]


@torch.no_grad()
def test_the_padding_token_may_be_the_end_token(model: nn.Module, tokenizer: Any) -> None:
    end = tokenizer.eos_token_id
    batch = LAYOUT.rows(store_of([5, 6, 7], [8, end], [9, 10, 11, 12, 13, end]), [0, 1])
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    padded_with_end = ResponseBatch(
        {"input_ids": ids.masked_fill(mask == 0, end), "attention_mask": mask},
        batch.predictors,
        batch.targets,
        batch.counts,
        batch.responses,
    )
    assert torch.equal(score(model, padded_with_end).per_token, score(model, batch).per_token)
    assert batch.counts.tolist() == [2, 6]


@torch.no_grad()
def test_an_answer_that_is_only_its_end_token_has_that_tokens_probability(model: Any) -> None:
    logps = score(model, LAYOUT.rows(store_of([5, 6], [1], [7, 8, 1]), [0, 1]))
    wanted = model(torch.tensor([[5, 6]])).logits[0, -1].log_softmax(-1)[1]
    assert logps.counts.tolist() == [1, 3]
    assert float(logps.sums[0]) == pytest.approx(float(wanted), abs=1e-5)


@torch.no_grad()
def test_a_one_token_prompt_predicts_the_first_response_token(model: Any) -> None:
    logps = score(model, LAYOUT.rows(store_of([5], [7]), [0]))
    assert float(logps.sums) == pytest.approx(float(model(torch.tensor([[5]])).logits[0, -1].log_softmax(-1)[7]), abs=1e-5)


@torch.no_grad()
def test_swapping_chosen_and_rejected_flips_margins_and_accuracy(
    model: nn.Module, other_model: nn.Module, store: TokenStore
) -> None:
    batch = LAYOUT.items(store, range(store.num_pairs))
    scored = score(model, batch.rows)
    assert torch.equal(PairLogps(scored, batch.pairs).margin, -PairLogps(scored, batch.pairs.flip(1)).margin)
    swapped = replace(store, item_responses=store.pairs[:, ::-1].ravel())
    figures = []
    with evaluating(model):
        for each in (store, swapped):
            reference = FrozenScorer(other_model)
            logps = held_out_logps(model, reference, each, FIT)
            figures.append(agreement(*logps, DPOLoss(beta=1.0), has_reference=True).figures)
    assert figures[0]["eval/margin"] == pytest.approx(-figures[1]["eval/margin"], abs=1e-5)
    assert figures[0]["eval/accuracy"] == pytest.approx(1 - figures[1]["eval/accuracy"])


@torch.no_grad()
def test_held_out_figures_do_not_depend_on_how_the_pass_is_cut(
    model: nn.Module, other_model: nn.Module, store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for tokens in (8192, 40, 1):
        monkeypatch.setattr("dpo_lab.scoring.passes.TOKENS_PER_BATCH", tokens)
        with evaluating(model):
            reference = FrozenScorer(other_model)
            made.append(agreement(*held_out_logps(model, reference, store, FIT), DPOLoss(), has_reference=True).figures)
    for name, value in made[0].items():
        assert [figures[name] for figures in made] == pytest.approx([value] * 3, rel=1e-6, abs=1e-5), name

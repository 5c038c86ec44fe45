"""Scoring: the head at response positions equals the model's own logits, and nothing beside a response matters."""

import torch
from torch import Tensor, nn

from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.adapter import LoRA
from dpo_lab.scoring.passes import score_store, scorer_of
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore

LAYOUT = PaddedLayout()


def naive_sum(model: nn.Module, store: TokenStore, response: int) -> Tensor:
    """Log-probability of one response by the whole-vocabulary softmax of its own unpadded row."""
    prompt, answer = store.prompt_of(response).tolist(), store.response(response).tolist()
    logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0].double().log_softmax(-1)
    positions = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return torch.stack([logits[position, token] for position, token in zip(positions, answer, strict=True)]).sum()


@torch.no_grad()
def test_padded_batch_equals_every_response_alone_by_the_full_softmax(model: nn.Module, store: TokenStore) -> None:
    together = score(model, LAYOUT.rows(store, range(store.num_responses))).sums
    alone = torch.stack([naive_sum(model, store, response) for response in range(store.num_responses)])
    assert torch.allclose(together.double(), alone, atol=1e-4)
    assert together.min() < -20  # long answers of a random model are unlikely: the comparison is about something


@torch.no_grad()
def test_padding_order_and_batch_mates_do_not_change_log_probs(model: nn.Module, store: TokenStore) -> None:
    forward = score(model, LAYOUT.rows(store, [0, 5, 11])).sums
    backward = score(model, LAYOUT.rows(store, [11, 2, 5, 0])).sums
    assert torch.allclose(forward, backward[[3, 2, 0]], atol=1e-4)


def test_head_path_equals_own_logits_in_value_and_gradient(model: nn.Module, store: TokenStore) -> None:
    batch = LAYOUT.rows(store, [3, 4, 5])
    gradients = []
    for own_logits in (False, True):
        model.zero_grad()
        score(model, batch, own_logits=own_logits).sums.sum().backward()
        gradients.append([weight.grad.clone() for weight in model.parameters() if weight.grad is not None])
    assert len(gradients[0]) == len(list(model.parameters()))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_scoring_goes_through_a_lora_adapter(model: nn.Module, store: TokenStore) -> None:
    batch = LAYOUT.rows(store, [0, 4, 8])
    before = score(model, batch).sums
    adapted = LoRA(rank=2).attach(model, seed=0)
    assert torch.equal(score(adapted, batch).sums, before)  # B starts at 0
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.fill_(0.05)
    assert (score(adapted, batch).sums - before).abs().min() > 1e-3


@torch.no_grad()
def test_a_pass_over_the_store_gives_every_token_in_its_place(model: nn.Module, store: TokenStore) -> None:
    seen: list[int] = []
    per_token = score_store(scorer_of(model, own_logits=False), store, LAYOUT, torch.device("cpu"), seen.append).per_token
    assert sum(seen) == store.num_responses
    starts = [0, *store.response_ends[:-1].tolist()]
    for response, (start, end) in enumerate(zip(starts, store.response_ends.tolist(), strict=True)):
        alone = score(model, LAYOUT.rows(store, [response])).per_token
        assert torch.allclose(per_token[start:end], alone, atol=1e-4)

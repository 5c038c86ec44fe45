"""Passes over all responses of a token store, without gradients."""

import base64
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from dpo_lab.continuing import Keep
from dpo_lab.layouts.base import Layout, ResponseBatch
from dpo_lab.layouts.budget import fill
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore

TOKENS_PER_BATCH = 2048  # 8192 cost a tenth more on a CPU: larger tensors leave the caches


def batches_of(store: TokenStore, layout: Layout) -> Iterator[list[int]]:
    """Yield every response of a store once, in batches of at most `TOKENS_PER_BATCH` tokens through the model's body.

    Prompts in the order of their longest row, so that little is padded; the responses to one prompt together.
    """
    together: dict[int, list[int]] = {}
    for response, prompt in enumerate(store.response_prompt.tolist()):
        together.setdefault(prompt, []).append(response)
    units = sorted(together.values(), key=lambda unit: int(store.row_lengths[unit].max()))
    return fill(units, lambda responses: layout.num_tokens(store, responses), TOKENS_PER_BATCH)


def score_store(
    scorer: Callable[[ResponseBatch], ResponseLogps],
    store: TokenStore,
    layout: Layout,
    device: torch.device,
    advance: Callable[[int], None] = lambda count: None,
) -> ResponseLogps:
    """Return the log-probabilities of every response of a store, in the store's order, float32 on the CPU.

    Args:
        scorer: a reference, or a model's `scorer_of`; gradients off.
        device: where the scorer works.
        advance: told how many responses were scored, as they are.
    """
    per_token = torch.empty(len(store.response_ids))
    squares: Tensor | None = None
    ends = torch.from_numpy(store.response_ends.copy())
    for responses in batches_of(store, layout):
        batch = layout.rows(store, responses)
        logps = scorer(batch.to(device))
        positions = token_positions(ends, batch.responses, len(batch.targets))
        per_token[positions] = logps.per_token.float().cpu()
        if logps.log_sum_squares is not None:
            squares = torch.empty_like(per_token) if squares is None else squares
            squares[positions] = logps.log_sum_squares.float().cpu()
        advance(len(batch.counts))
    return ResponseLogps(per_token, torch.from_numpy(store.response_lengths.copy()), squares)


def scorer_of(model: nn.Module, *, own_logits: bool, full_softmax: bool = False) -> Callable[[ResponseBatch], ResponseLogps]:
    """Return the function that scores a batch under a model."""
    return lambda batch: score(model, batch, own_logits=own_logits, full_softmax=full_softmax)


def keeping(scorer: Callable[[ResponseBatch], ResponseLogps], keep: Keep) -> Callable[[ResponseBatch], ResponseLogps]:
    """Return a scorer whose batches go through `keep`, with their responses as rows; its numbers are float32 on the CPU.

    The numbers are kept as the text of their bits: exact, in a quarter of the characters that their digits would take.
    """

    def text_of(batch: ResponseBatch) -> str:
        logps = scorer(batch)
        columns = [logps.per_token] if logps.log_sum_squares is None else [logps.per_token, logps.log_sum_squares]
        return base64.b64encode(torch.stack(columns).float().cpu().numpy().tobytes()).decode()

    def kept(batch: ResponseBatch) -> ResponseLogps:
        text = keep(batch.responses.tolist(), lambda: text_of(batch))
        columns = torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.float32).view(-1, len(batch.targets))
        return ResponseLogps(columns[0], batch.counts.cpu(), columns[1] if len(columns) == 2 else None)

    return kept


def token_positions(ends: Tensor, responses: Tensor, num_tokens: int) -> Tensor:
    """Return where the tokens of some responses stand in a store's flat order.

    Args:
        ends: (all responses,) where each response of the store ends.
        responses: (responses,) which responses.
        num_tokens: their tokens in total; given, because asking the tensors for it would wait for the device.

    >>> token_positions(torch.tensor([2, 5, 6]), torch.tensor([2, 0]), 3)
    tensor([5, 0, 1])
    """
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])[responses]
    counts = ends[responses] - starts
    before = counts.cumsum(0) - counts  # tokens of the responses in front
    return torch.arange(num_tokens, device=ends.device) + torch.repeat_interleave(starts - before, counts, output_size=num_tokens)

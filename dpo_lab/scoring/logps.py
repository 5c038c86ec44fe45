"""Log-probabilities of responses, and of preference pairs as indices into them (natural log, nats)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from dpo_lab.tokens.labels import PairLabels


@dataclass(frozen=True)
class ResponseLogps:
    """Log-probabilities of some responses, every response token once."""

    per_token: Tensor
    """(tokens,) at least float32; the tokens of response 0, then of response 1, ..."""
    counts: Tensor
    """(responses,) int64: how many tokens each response has, its end token included."""
    log_sum_squares: Tensor | None = None
    """(tokens,) log of the sum of squared probabilities over the vocabulary; only where a loss needs the full softmax."""

    @property
    def sums(self) -> Tensor:
        """Log-probability of each whole response, shape (responses,)."""
        return self.total(self.per_token)

    def total(self, per_token: Tensor) -> Tensor:
        """Return the sums of a per-token quantity over each response's tokens, shape (responses,)."""
        owner = torch.repeat_interleave(self.counts, output_size=per_token.shape[0])  # token -> its response
        # in float32 the running sum of a long response loses digits: 1.3e-5 against 4e-6 in the golden curves' losses
        zeros = per_token.new_zeros(self.counts.shape[0], dtype=torch.float64)
        return zeros.index_add(0, owner, per_token.double()).to(per_token.dtype)

    def first(self, responses: Tensor, limits: Tensor) -> Tensor:
        """Return the log-probability of the first `limits` tokens of some responses, shape of `responses`.

        Differences of a running sum, which is kept in float64: in float32 it would lose digits over a long batch.
        """
        running = torch.cat([self.per_token.new_zeros(1, dtype=torch.float64), self.per_token.double().cumsum(0)])
        starts = (self.counts.cumsum(0) - self.counts)[responses]
        return (running[starts + limits] - running[starts]).to(self.per_token.dtype)


@dataclass(frozen=True)
class PairLogps:
    """What a loss sees of one model: log-probabilities of the chosen and the rejected response of each pair."""

    responses: ResponseLogps
    """The distinct responses of the pairs."""
    pairs: Tensor
    """(pairs, 2) int64: positions of the chosen and of the rejected response among `responses`."""
    labels: PairLabels | None = None
    """What the data says of the pairs; None where nothing reads it."""
    ranked: Tensor | None = None
    """(pairs, k) int64: of ranked lists the positions of all responses, best first, -1 where a list has fewer; `pairs` then holds
    the best and the worst of each. None: a pair is all that was ranked."""

    @property
    def lists(self) -> Tensor:
        """(pairs, k) positions of the ranked responses, best first, -1 where there are fewer; of pairs k is 2."""
        return self.pairs if self.ranked is None else self.ranked

    @property
    def per_token(self) -> Tensor:
        """(tokens,) log-probabilities of the distinct responses' tokens."""
        return self.responses.per_token

    @cached_property
    def sums(self) -> Tensor:
        """(pairs, 2) log-probabilities of chosen and rejected response: sums over their tokens."""
        return self.responses.sums[self.pairs]

    @property
    def chosen(self) -> Tensor:
        """(pairs,) log-probability of the chosen response, summed over its tokens."""
        return self.sums[:, 0]

    @property
    def rejected(self) -> Tensor:
        """(pairs,) log-probability of the rejected response, summed over its tokens."""
        return self.sums[:, 1]

    @property
    def chosen_tokens(self) -> Tensor:
        """(pairs,) how many tokens the chosen response has."""
        return self.responses.counts[self.pairs[:, 0]]

    @property
    def rejected_tokens(self) -> Tensor:
        """(pairs,) how many tokens the rejected response has."""
        return self.responses.counts[self.pairs[:, 1]]

    @property
    def margin(self) -> Tensor:
        """(pairs,) log p(chosen) - log p(rejected)."""
        return self.chosen - self.rejected

    def first(self, limits: Tensor) -> Tensor:
        """Return (pairs, 2): log-probabilities of the first `limits` (pairs,) tokens of chosen and rejected."""
        return self.responses.first(self.pairs, limits.unsqueeze(1).expand_as(self.pairs))


def joined(parts: Sequence[PairLogps]) -> PairLogps:
    """Return the pairs of several batches as one; tokens and pairs follow one another."""
    responses = [part.responses for part in parts]
    offsets = torch.tensor([0, *(len(response.counts) for response in responses[:-1])]).cumsum(0).tolist()
    squares = [response.log_sum_squares for response in responses if response.log_sum_squares is not None]
    labels = [part.labels for part in parts if part.labels is not None]
    widest = max(part.lists.shape[1] for part in parts)
    lists = [moved(part.lists, offset, widest) for part, offset in zip(parts, offsets, strict=True)]
    return PairLogps(
        ResponseLogps(
            torch.cat([response.per_token for response in responses]),
            torch.cat([response.counts for response in responses]),
            torch.cat(squares) if squares else None,
        ),
        torch.cat([part.pairs + offset for part, offset in zip(parts, offsets, strict=True)]),
        PairLabels.joined(labels) if labels else None,
        torch.cat(lists) if any(part.ranked is not None for part in parts) else None,
    )


def moved(lists: Tensor, offset: int, width: int) -> Tensor:
    """Return positions moved behind others, in rows of some width; -1 stays.

    >>> moved(torch.tensor([[1, 0], [2, -1]]), 10, 3)
    tensor([[11, 10, -1],
            [12, -1, -1]])
    """
    return F.pad(torch.where(lists < 0, lists, lists + offset), (0, width - lists.shape[1]), value=-1)


def pair_logps(
    chosen: float | Sequence[float],
    rejected: float | Sequence[float],
    tokens: tuple[int, int] = (1, 1),
    labels: PairLabels | None = None,
) -> PairLogps:
    """Return PairLogps from plain numbers, for examples and tests; every response has `tokens` (chosen, rejected) tokens.

    >>> pair_logps(-2.0, -6.0).margin
    tensor([4.])
    """
    sides = [torch.tensor(side, dtype=torch.get_default_dtype()).reshape(-1) for side in (chosen, rejected)]
    per_token = torch.cat([(side / count).repeat_interleave(count) for side, count in zip(sides, tokens, strict=True)])
    counts = torch.cat([torch.full_like(side, count, dtype=torch.int64) for side, count in zip(sides, tokens, strict=True)])
    first = torch.arange(len(sides[0]))
    return PairLogps(ResponseLogps(per_token, counts), torch.stack([first, first + len(first)], dim=1), labels)


def promoted(logits: Tensor) -> Tensor:
    """Return logits in at least float32: half precision is promoted, float64 stays."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """Return log p(target) at each position in at least float32: gather - logsumexp.

    Args:
        logits: (tokens, vocab), any float dtype.
        targets: (tokens,) token ids.
    """
    logits = promoted(logits)
    # gather - logsumexp was five times closer to float64 than log_softmax in float32 at 512 tokens, vocab 32k
    return logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - torch.logsumexp(logits, dim=-1)

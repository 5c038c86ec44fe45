"""One token from logits: filters where they are asked for, and one random number per answer and step."""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dpo_lab.components import RunError
from dpo_lab.scoring.logps import promoted, token_logps
from dpo_lab.seeding import derive

BLOCK = 128  # tokens of the vocabulary whose probabilities are added before they are looked at one by one
BELOW_1 = 1 - 1e-12
Filter = Callable[[Tensor], Tensor]


def names_of(prompts: Sequence[Sequence[int]]) -> list[str]:
    """Return a name for the random numbers of each prompt: of its tokens, and of how often they came before.

    >>> names_of([[5, 6], [7], [5, 6]])
    ['0: 5 6', '0: 7', '1: 5 6']
    """
    before: Counter[str] = Counter()
    names = []
    for text in (" ".join(map(str, prompt)) for prompt in prompts):
        names.append(f"{before[text]}: {text}")
        before[text] += 1
    return names


def uniforms_of(seed: int, names: Sequence[str], count: int, steps: int) -> Tensor:
    """Return the random numbers of `count` answers to each prompt, (prompts x count, steps), those of one prompt side by side.

    Each answer has its own stream, so that neither its neighbours nor how many answers and steps there are change it.
    """
    rows = []
    for name in names:
        key = derive(seed, "answer", name)
        for sample in range(count):
            generator = torch.Generator().manual_seed(derive(key, sample))
            rows.append(torch.rand(steps, dtype=torch.float64, generator=generator))
    return torch.stack(rows)


class Chooser:
    """Chooses the next token of several answers, in buffers that are written again at every step."""

    def __init__(self, filters: Sequence[Filter], *, greedy: bool) -> None:
        self.filters, self.greedy = filters, greedy
        self._weights = torch.empty(0)

    def __call__(self, logits: Tensor, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return one token per row and its log-probability under the unfiltered logits.

        Args:
            logits: (rows, vocab).
            uniforms: (rows,) between 0 and 1; None where nothing is random.

        Raises:
            RunError: if the model gives no numbers.
        """
        raw = promoted(logits)
        shaped = raw
        for one_filter in self.filters:
            shaped = one_filter(shaped)
        if self.greedy or uniforms is None:
            tokens = shaped.argmax(-1)
            refuse_nan(shaped.gather(-1, tokens[:, None]))
            return tokens, token_logps(raw, tokens)
        top = shaped.amax(-1, keepdim=True)
        refuse_nan(top)
        tokens, total = inverse_of_cumulative(self._exponentials(shaped, top), uniforms)
        if self.filters:
            return tokens, token_logps(raw, tokens)
        shifted = raw.gather(-1, tokens[:, None]) - top
        return tokens, shifted[:, 0] - total.log().to(raw.dtype)  # gather - logsumexp, of which the sum is there already

    def _exponentials(self, logits: Tensor, top: Tensor) -> Tensor:
        """Return exp(logits - top) of shape (rows, blocks, BLOCK), zero behind the vocabulary."""
        rows, vocabulary = logits.shape
        if len(self._weights) < rows or self._weights.dtype != logits.dtype:
            blocks = -(-vocabulary // BLOCK)
            self._weights = torch.zeros(rows, blocks * BLOCK, dtype=logits.dtype, device=logits.device)
        weights = self._weights[:rows]
        torch.sub(logits, top, out=weights[:, :vocabulary]).exp_()
        return weights.view(rows, -1, BLOCK)


def inverse_of_cumulative(weights: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Return the token of each row at which the cumulative weight passes `uniforms` of the whole, and the whole.

    A token with weight zero is never returned.

    Args:
        weights: (rows, blocks, tokens of a block), not negative.
        uniforms: (rows,) float64.

    >>> inverse_of_cumulative(torch.tensor([[[1.0, 0.0], [2.0, 1.0]]] * 3), torch.tensor([0.0, 0.3, 0.9]).double())[0]
    tensor([0, 2, 3])
    """
    rows = torch.arange(len(weights), device=weights.device)
    ends = weights.sum(-1).double().cumsum(-1)
    total = ends[:, -1]
    target = uniforms * total * BELOW_1
    block = torch.searchsorted(ends, target[:, None], right=True)[:, 0]
    inside = weights[rows, block].double().cumsum(-1)
    before = torch.where(block > 0, ends[rows, block - 1], 0)
    rest = torch.minimum(target - before, inside[:, -1] * BELOW_1)  # a block's sum is rounded otherwise than its cumulative one
    return block * weights.shape[-1] + (inside <= rest[:, None]).sum(-1), total


def refuse_nan(top: Tensor) -> None:
    """Raise RunError if the largest logits of some rows are not numbers."""
    if not bool(torch.isfinite(top).all()):
        raise RunError(
            "the model's logits are not finite numbers, so no answer can be drawn. Its weights are damaged, or its number "
            "format overflows: try model.dtype=fp32."
        )


def repetition_filter(seen: Tensor, penalty: float) -> Filter:
    """Return the filter that makes tokens of prompt and answer less likely (Keskar et al. 2019, CTRL).

    Args:
        seen: (rows, vocab) bool, which tokens each row has; the caller keeps it.
    """

    def penalised(logits: Tensor) -> Tensor:
        lowered = torch.where(logits < 0, logits * penalty, logits / penalty)
        return torch.where(seen[: len(logits)], lowered, logits)

    return penalised


def library_filters(*, temperature: float, top_k: int, top_p: float, min_p: float) -> list[Filter]:
    """Return the transformations of logits that are asked for, in the library's order; none by default values."""
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    warpers = [
        *([TemperatureLogitsWarper(float(temperature))] if temperature not in (0, 1) else []),
        *([TopKLogitsWarper(top_k)] if top_k else []),
        *([TopPLogitsWarper(top_p)] if top_p < 1 else []),
        *([MinPLogitsWarper(min_p)] if min_p else []),
    ]
    no_ids = torch.empty(0, 0, dtype=torch.long)  # none of them looks at the tokens before
    return [lambda logits, warper=warper: warper(no_ids, logits) for warper in warpers]  # type: ignore[misc]

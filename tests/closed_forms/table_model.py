"""A language model that is a table, and a world of two prompts in which every optimum has a closed form."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from dpo_lab.layouts.base import ItemBatch
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.reference.frozen import FrozenScorer
from dpo_lab.tokens.store import StoreBuilder, TokenStore
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW

END = 1
WORDS = (2, 3, 4, 5)
# Of different lengths: the answers to one prompt then stand at other positions than those to the other, so that a table
# over (position, previous token) can hold any distribution of answers to both. And there is padding.
PROMPTS = ((6,), (7, 6, 7, 7))
VOCABULARY, POSITIONS = 8, 7
ANSWERS = tuple([(word, END) for word in WORDS] + [(first, second, END) for first in WORDS for second in WORDS])
IMPOSSIBLE = -1e4  # a logit; exp of it is exactly 0


class TableModel(nn.Module):
    """A causal language model whose next-token logits are a free table over (position, previous token), in float64."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table.clone())

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, **_: Any) -> SimpleNamespace:
        """Return the logits as a Hugging Face model does; masks and caches mean nothing to it."""
        positions = torch.arange(input_ids.shape[1]) if position_ids is None else position_ids
        return SimpleNamespace(logits=self.table[positions, input_ids])


def random_table(seed: int) -> Tensor:
    """Return random logits under which an answer to `PROMPTS` is one or two words and the end token, nothing else."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(POSITIONS, VOCABULARY, VOCABULARY, generator=generator, dtype=torch.float64)
    for prompt in PROMPTS:
        first = len(prompt) - 1  # the position whose logits are of the first answer token
        for position, possible in enumerate((WORDS, (END, *WORDS), (END,)), start=first):
            impossible = [token for token in range(VOCABULARY) if token not in possible]
            table[position, :, impossible] = IMPOSSIBLE
    return table


def answer_logps(model: TableModel) -> Tensor:
    """Return log p(answer | prompt), shape (prompts, answers), read off the table without any code of the project."""
    logs = model.table.detach().log_softmax(-1)

    def of(prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
        steps = zip((prompt[-1], *answer), answer, strict=False)
        return torch.stack([logs[position, *step] for position, step in enumerate(steps, start=len(prompt) - 1)]).sum()

    return torch.stack([torch.stack([of(prompt, answer) for answer in ANSWERS]) for prompt in PROMPTS])


def all_ordered_pairs() -> TokenStore:
    """Return the store of every answer against every other, per prompt."""
    builder = StoreBuilder()
    for prompt in PROMPTS:
        answers = [builder.add_response(prompt, answer) for answer in ANSWERS]
        for chosen in answers:
            for rejected in answers:
                if chosen != rejected:
                    builder.add_item([chosen, rejected])
    return builder.build()


@dataclass(frozen=True)
class World:
    """A reference, the true reward of each answer, and all pairs: the population that real pairs are drawn from."""

    reference: TableModel
    rewards: Tensor
    """(prompts, answers)."""
    store: TokenStore

    @classmethod
    def random(cls, seed: int) -> "World":
        """Return a world with rewards of variance 1."""
        rewards = torch.randn(len(PROMPTS), len(ANSWERS), generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
        return cls(TableModel(random_table(seed)), rewards, all_ordered_pairs())

    @property
    def batch(self) -> ItemBatch:
        """Every pair at once."""
        return PaddedLayout().items(self.store, range(self.store.num_pairs))

    def wins(self) -> Tensor:
        """Return P(a beats b) = sigmoid(r(a) - r(b)), shape (prompts, answers, answers)."""
        return torch.sigmoid(self.rewards.unsqueeze(2) - self.rewards.unsqueeze(1))

    def preferences(self, flipped: float = 0.0) -> Tensor:
        """Return the probability of every pair's order, shape (pairs,), when labels are turned round with `flipped`."""
        distinct = ~torch.eye(len(ANSWERS), dtype=torch.bool)
        wins = self.wins()[:, distinct].flatten()
        return (1 - flipped) * wins + flipped * (1 - wins)

    def module(self, loss: PreferenceLoss) -> PreferenceModule:
        """Return the project's own module, the policy starting at the reference."""
        policy, reference = copy.deepcopy(self.reference), copy.deepcopy(self.reference)
        scorer = FrozenScorer(reference, own_logits=True)
        return PreferenceModule(policy, scorer, loss, AdamW(), total_steps=1, seed=0, own_logits=True)

    def optimum(self, loss: PreferenceLoss, flipped: float = 0.0) -> TableModel:
        """Return the policy that minimises the expected loss: store, layout, scoring and loss are the project's."""
        module, batch, weights = self.module(loss), self.batch, self.preferences(flipped)
        optimizer = torch.optim.LBFGS(
            module.policy.parameters(),
            max_iter=400,
            tolerance_grad=1e-10,
            tolerance_change=1e-14,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def expected_loss() -> float:
            optimizer.zero_grad()
            expected: Tensor = (weights * loss(*module.logps(batch))).sum() / weights.sum()
            expected.backward()
            return float(expected.detach())

        optimizer.step(expected_loss)
        assert isinstance(module.policy, TableModel)
        return module.policy

    def tilted(self, utility: Tensor) -> Tensor:
        """Return log of reference x exp(utility) / Z, shape (prompts, answers)."""
        return (answer_logps(self.reference) + utility).log_softmax(1)

    def best(self, beta: float) -> Tensor:
        """Return DPO's optimum: reference x exp(reward / beta) / Z (Rafailov et al. 2023, eq. 4)."""
        return self.tilted(self.rewards / beta)

    def best_of_ipo(self, beta: float) -> Tensor:
        """Return IPO's optimum: reference x exp(u / beta) / Z with u(a) the mean over b of P(a beats b) - 1/2.

        With h(a, b) = v(a) - v(b) and c = 1 / (2 beta), the expected loss sum of P(a beats b) (v(a) - v(b) - c)^2 over ordered
        pairs is least where sum over b of [v(a) - v(b) - c (2 P(a beats b) - 1)] = 0 for every a, since
        P(a beats b) + P(b beats a) = 1: v(a) = 2 c mean_b (P(a beats b) - 1/2) + a constant. (b = a adds 0 to both.)
        """
        return self.tilted((self.wins().mean(2) - 0.5) / beta)


def divergence(policy: TableModel, target: Tensor) -> float:
    """Return KL(policy || target) over answers in nats, the larger of the prompts' two."""
    logs = answer_logps(policy)
    return float((logs.exp() * (logs - target)).sum(1).max())

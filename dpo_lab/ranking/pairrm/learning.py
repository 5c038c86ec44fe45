"""How a tiny PairRM learns to rank film reviews: the preference, and what a reader of the prompt has to notice on the way.

From the preference alone a network of this size does not learn to compare the film that an answer names with the one that the
prompt asks about (docs/log.md). So each layer is also told what it is for, through linear maps that are not kept: the first,
which of the three texts a token belongs to; the second, which words of titles stand in the prompt too; the last, what the reward
is made of.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as yes_or_no
from torch.nn.functional import cross_entropy, mse_loss

from dpo_lab.durable_files import read_sealed, sealed_file
from dpo_lab.ranking.pairrm.examples import STEPS_AT_A_TIME, Examples, steps_of
from dpo_lab.ranking.pairrm.network import PairNetwork
from dpo_lab.ranking.pairrm.texts import PairTexts
from dpo_lab.seeding import derive

LAYERS = 3
"""The first finds segments, the second compares words, the last sums up what prefixes ask."""
SHARPNESS = 1.5
"""Of the second layer's queries and keys, which are equal at the start: a token then looks for the same token elsewhere."""
WARM_UP, LEVEL, LOWEST = 50, 0.5, 0.02
"""Steps until the rate is full, the share of steps until it falls, and where it ends, as a share of it."""
SHORT, KEPT = 0.6, 0.35
"""Share of steps in which reviews are short, and of their sentences behind the opener that stay: half the time for a step."""
TONE = 4.0
"""Weight of the squared error of a tone, which goes from -1 to 1."""
PORTIONS_KEPT = 4
"""After so many portions of 16 steps the state is kept for a call after a kill."""


class Advance(Protocol):
    """Hears of steps that are done."""

    def __call__(self, steps: int, *, resumed: bool) -> object:
        """Count steps, those of an earlier call apart."""
        ...


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How long and how fast a network learns."""

    seed: int
    steps: int
    pairs: int
    """Of a step."""
    lr: float

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0.

        >>> how = Learning(seed=0, steps=200, pairs=32, lr=1.0)
        >>> how.rate(0), how.rate(100), how.rate(150), how.rate(199)
        (0.02, 1.0, 0.5, 0.02)
        """
        falling = (1 - step / self.steps) / (1 - LEVEL)
        return self.lr * min(1.0, (step + 1) / WARM_UP) * max(LOWEST, min(1.0, falling))

    def kept_sentences(self, portion: int) -> float:
        """Return the share of sentences that stay in the reviews of a portion."""
        return KEPT if portion * STEPS_AT_A_TIME < SHORT * self.steps else 1.0


class Readings(nn.Module):
    """Linear maps that say what the states of a layer have to tell; they are not part of the ranker."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.segment = nn.Linear(size, 3)
        self.word_asked = nn.Linear(size, 1)
        self.middle = nn.Linear(size, 2)
        self.last = nn.Linear(size, 5)

    def losses(self, layers: list[Tensor], of: Examples) -> dict[str, Tensor]:
        """Return one loss for each thing that is read, from the states after each layer."""
        first, second, last = layers[0], layers[1], layers[-1]
        answers = second[torch.arange(len(of.ids))[:, None], of.anchors[:, 1:]]
        middle, end = self.middle(answers), self.last(last[:, 1:])
        return {
            "segment": cross_entropy(self.segment(first).transpose(1, 2), of.segment),
            "words": yes_or_no(self.word_asked(second[of.title_words])[:, 0], of.word_asked),
            "tone of layer 2": TONE * mse_loss(middle[..., 0], of.tone),
            "spoiler of layer 2": yes_or_no(middle[..., 1], of.spoiler),
            "tone": TONE * mse_loss(end[..., 0], of.tone),
            "spoiler": yes_or_no(end[..., 1], of.spoiler),
            "film": yes_or_no(end[..., 2], of.asked.prod(-1)),
            "adjective": yes_or_no(end[..., 3], of.asked[..., 0]),
            "noun": yes_or_no(end[..., 4], of.asked[..., 1]),
        }


def begin(network: nn.Module, seed: int) -> None:
    """Give a module its random weights, the same for the same seed."""
    generator = torch.Generator().manual_seed(derive(seed, type(network).__name__))
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim == 2:
                spread = 0.3 if "embeddings" in name else 0.7 * weight.shape[1] ** -0.5
                weight.normal_(0, spread, generator=generator)
            elif name.endswith("bias"):
                weight.zero_()


def look_for_equals(network: PairNetwork) -> None:
    """Make the second layer's queries equal to its keys, so that it begins by comparing tokens."""
    attention = network.pretrained_model.encoder.layer[1].attention.get_submodule("self")
    with torch.no_grad():
        attention.query_proj.weight.mul_(SHARPNESS)
        attention.key_proj.weight.copy_(attention.query_proj.weight)


def learn(
    network: PairNetwork,
    texts: PairTexts,
    how: Learning,
    *,
    state: Path | None = None,
    advance: Advance = lambda steps, *, resumed: None,
) -> dict[str, float]:
    """Train a network from random weights; return the mean losses of the last 16 steps.

    Args:
        state: file in which the training is kept while it runs; a call after a kill resumes there, to the bit.
        advance: told how many steps are done, those of earlier calls first (`resumed`).
    """
    readings = Readings(network.pretrained_model.shape.hidden_size)
    begin(network, how.seed)
    begin(readings, how.seed)
    look_for_equals(network)
    both = nn.ModuleDict({"network": network, "readings": readings}).train()
    optimizer = torch.optim.AdamW(both.parameters(), lr=how.lr, betas=(0.9, 0.98), weight_decay=0.01)
    portion = _resumed(state, both, optimizer) if state else 0
    advance(portion * STEPS_AT_A_TIME, resumed=True)
    losses: dict[str, float] = {}
    while (done := portion * STEPS_AT_A_TIME) < how.steps:
        steps = steps_of(texts, how.seed, pairs=how.pairs, part=portion, kept=how.kept_sentences(portion))
        figures = [
            _step(network, readings, optimizer, examples, how.rate(step))
            for step, examples in zip(range(done, how.steps), steps, strict=False)
        ]
        losses = {name: float(torch.stack([figure[name] for figure in figures]).mean()) for name in figures[0]}
        portion += 1
        advance(len(figures), resumed=False)
        if state and portion % PORTIONS_KEPT == 0 and portion * STEPS_AT_A_TIME < how.steps:
            _keep(state, both, optimizer, portion)
    network.eval()
    return losses


def _step(
    network: PairNetwork, readings: Readings, optimizer: torch.optim.Optimizer, examples: Examples, rate: float
) -> dict[str, Tensor]:
    """Make one update; return the losses before it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    layers = list(network.pretrained_model.each_layer(examples.ids, examples.mask, examples.anchors))
    preference = yes_or_no(network.compared(layers[-1]), examples.first_is_better)
    losses = {"preference": preference, **readings.losses(layers, examples)}
    optimizer.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()
    nn.utils.clip_grad_norm_([*network.parameters(), *readings.parameters()], 1.0)
    optimizer.step()
    return {name: loss.detach() for name, loss in losses.items()}


def _keep(path: Path, both: nn.Module, optimizer: torch.optim.Optimizer, portion: int) -> None:
    path.parent.mkdir(exist_ok=True)
    with sealed_file(path) as file:
        torch.save({"weights": both.state_dict(), "optimizer": optimizer.state_dict(), "portion": portion}, file)


def _resumed(path: Path, both: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put back what was kept, if it is whole; return how many portions are done."""
    if not path.exists() or (content := read_sealed(path)) is None:
        return 0
    kept = torch.load(io.BytesIO(content), weights_only=True)
    both.load_state_dict(kept["weights"])
    optimizer.load_state_dict(kept["optimizer"])
    return int(kept["portion"])

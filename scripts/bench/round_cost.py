"""What one round of a 7B costs on one GPU, worked out: tokens and operations counted, seconds and bytes computed from them.

Nothing here is measured. Operations leave out attention's products of positions, 2 % of the rest at these lengths.
"""

import json
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpo_lab.drawn import Drawn
from dpo_lab.records import Candidates, PreferencePair, Prompt


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """The shape of a language model; the defaults are Mistral-7B's (config.json)."""

    hidden: int = 4096
    inner: int = 14336
    layers: int = 32
    heads: int = 32
    key_heads: int = 8
    vocabulary: int = 32000

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the matrices of a layer."""
        keys = self.hidden // self.heads * self.key_heads
        attention = [(self.hidden, self.hidden), (self.hidden, keys), (self.hidden, keys), (self.hidden, self.hidden)]
        return [*attention, (self.hidden, self.inner), (self.hidden, self.inner), (self.inner, self.hidden)]

    @property
    def body(self) -> int:
        """Weights of the layers' matrices.

        >>> Decoder().body
        6979321856
        """
        return self.layers * sum(rows * columns for rows, columns in self.shapes)

    @property
    def head(self) -> int:
        """Weights of the head."""
        return self.hidden * self.vocabulary

    def adapter(self, rank: int) -> int:
        """Return the weights of LoRA on every matrix of the layers.

        >>> Decoder().adapter(16)
        41943040
        """
        return self.layers * sum(rank * (rows + columns) for rows, columns in self.shapes)

    @property
    def cached(self) -> int:
        """Bytes of the keys and values of a token, two bytes a number.

        >>> Decoder().cached
        131072
        """
        return self.layers * 2 * self.hidden // self.heads * self.key_heads * 2


RANKER_BODY = 24 * 12 * 1024**2
"""Weights of the layers of DeBERTa-v3-large, PairRM's encoder."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """Counts of a round; the lengths are means, in tokens."""

    prompts: int
    answers: int
    prompt_tokens: int
    answer_tokens: int
    longest: int
    """Tokens after which an answer is cut."""
    together: int
    """Answers that are drawn together."""
    epochs: int
    rank: int
    """Of the adapter."""
    quantised: bool
    """Whether the base is held in 4 bits."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU: dense bf16 products and memory as published; the shares of both that are reached are assumed."""

    name: str
    tflops: float
    terabytes: float
    """Per second."""
    products: float = 0.35
    """Share of the products' rate; LoRA of 7-8B on one H100 reaches .30 to .43 in what others publish."""
    bandwidth: float = 0.6
    """Share of the memory's rate while answers are drawn."""
    launch: float = 0.025
    """Seconds that the host needs at least for a token of a batch: transformers launches some thousand kernels."""


CARDS = (
    Card(name="H100 80 GB", tflops=989, terabytes=3.35),
    Card(name="A100 80 GB", tflops=312, terabytes=2.04),
    Card(name="RTX 4090 24 GB", tflops=165, terabytes=1.01),
)


def tokens(this: Round) -> dict[str, int]:
    """Return how many tokens each part reads or draws.

    >>> lengths = {"prompt_tokens": 7, "answer_tokens": 5, "longest": 8}
    >>> tokens(Round(prompts=10, answers=3, together=6, epochs=2, rank=1, quantised=False, **lengths))
    {'sample, read': 70, 'sample, drawn': 150, 'rank': 1020, 'reference': 170, 'train': 340}
    """
    row = this.prompt_tokens + 2 * this.answer_tokens
    return {
        "sample, read": this.prompts * this.prompt_tokens,
        "sample, drawn": this.prompts * this.answers * this.answer_tokens,
        "rank": this.prompts * this.answers * (this.answers - 1) * row,
        "reference": this.prompts * row,
        "train": this.epochs * this.prompts * row,
    }


def operations(this: Round, model: Decoder) -> dict[str, float]:
    """Return the floating-point operations of each part.

    A product is 2 per weight and token. Training an adapter takes the forward product and the gradient by the input of the frozen
    weights, and of the adapter the gradient by its weights too; the head is computed for response tokens alone, and for a
    prompt's last token where answers are drawn.
    """
    count, adapter = tokens(this), model.adapter(this.rank)
    responses = 2 * this.prompts * this.answer_tokens
    forward = model.body + adapter
    return {
        "sample, read": 2.0 * (count["sample, read"] * model.body + this.prompts * model.head),
        "sample, drawn": 2.0 * count["sample, drawn"] * (model.body + model.head),
        "rank": 2.0 * count["rank"] * RANKER_BODY,
        "reference": 2.0 * (count["reference"] * model.body + responses * model.head),
        "train": 2.0 * (count["train"] * (2 * forward + adapter) + this.epochs * responses * 2 * model.head),
    }


def step_bytes(this: Round, model: Decoder) -> float:
    """Return the bytes that a token of a batch of answers moves: weights, and keys and values of half an answer and the prompt.

    A base in 4 bits is read, written and read again in 2 bytes, since products of a batch are computed on dequantised weights.
    """
    weights = model.body * ((0.5 + 4) if this.quantised else 2) + 2 * model.head
    prompts = this.together / this.answers * this.prompt_tokens
    return weights + model.cached * (this.together * this.answer_tokens / 2 + prompts)


def seconds(this: Round, model: Decoder, card: Card) -> dict[str, float]:
    """Return the seconds of each part on a card.

    A batch of answers takes as many steps as its longest, taken to be cut; answers that have ended leave it.
    """
    done = {name: each / (card.products * card.tflops * 1e12) for name, each in operations(this, model).items()}
    steps = this.prompts * this.answers / this.together * this.longest
    moved = steps * step_bytes(this, model) / (card.bandwidth * card.terabytes * 1e12)
    return {**done, "sample, drawn": max(steps * card.launch, moved) + done["sample, drawn"]}


def disk(this: Round, model: Decoder, characters: float = 4.4) -> dict[str, float]:
    """Return the bytes of a round's artifacts; of the files of text from one record of each kind, made and written as they are.

    Args:
        characters: of a token; of English in Mistral's tokenizer, assumed.
    """
    draw = random.Random(0)

    def text(length: int) -> str:
        return "".join(draw.choices("abcdefghijklmnopqrstuvwxyz ", k=round(length * characters)))

    def drawn() -> Drawn:
        ids = draw.choices(range(model.vocabulary // 32, model.vocabulary), k=this.answer_tokens)
        return Drawn.of(ids, [-draw.random() for _ in ids])

    def size(record: dict[str, Any]) -> int:
        return this.prompts * (len(json.dumps(record, ensure_ascii=False)) + 1)

    def scores() -> tuple[float, ...]:
        return tuple(array("f", [draw.uniform(-9, 9) for _ in range(this.answers)]))

    answers = Candidates(
        prompt=Prompt.from_text(text(this.prompt_tokens)),
        responses=tuple(text(this.answer_tokens) for _ in range(this.answers)),
        drawn=tuple(drawn() for _ in range(this.answers)),
        finished=(True,) * this.answers,
    )
    ranked = replace(answers, scores=scores(), pairwise=tuple(scores() for _ in range(this.answers)))
    one, other = ranked.responses[:2]
    pair = PreferencePair(prompt=ranked.prompt, chosen=one, rejected=other, drawn=ranked.drawn[:2])
    adapter = 4.0 * model.adapter(this.rank)
    return {
        "candidates": size(answers.to_record()),
        "ranking": size(ranked.to_record()),
        "pairs": size(pair.to_record("train")),
        "tokens": 4.0 * this.prompts * (this.prompt_tokens + 2 * this.answer_tokens),
        "reference": 4.0 * this.prompts * 2 * this.answer_tokens,
        "policy, an adapter": adapter,
        "checkpoint while it trains": 3 * adapter,
    }


def table(this: Round, model: Decoder, cards: Sequence[Card] = CARDS) -> list[str]:
    """Return the table of tokens, operations and hours in Markdown."""
    took = {card.name: seconds(this, model, card) for card in cards}
    rows = [f"| part | million tokens | PFLOP | {' | '.join(f'{name}, h' for name in took)} |", "|---" * (3 + len(took)) + "|"]
    count, done = tokens(this), operations(this, model)
    for part, each in count.items():
        hours = " | ".join(f"{parts[part] / 3600:.1f}" for parts in took.values())
        rows.append(f"| {part} | {each / 1e6:.1f} | {done[part] / 1e15:.0f} | {hours} |")
    hours = " | ".join(f"{sum(parts.values()) / 3600:.1f}" for parts in took.values())
    return [*rows, f"| together | {sum(count.values()) / 1e6:.1f} | {sum(done.values()) / 1e15:.0f} | {hours} |"]


def disk_table(this: Round, model: Decoder) -> list[str]:
    """Return the table of what a round leaves on the disk."""
    sizes = disk(this, model)
    rows = [f"| {name} | {each / 1e9:.2f} |" for name, each in sizes.items()]
    return ["| artifact | GB |", "|---|---|", *rows, f"| together | {sum(sizes.values()) / 1e9:.2f} |"]

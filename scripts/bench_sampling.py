"""Sampling side by side with transformers' generate, after equal greedy tokens: python scripts/bench_sampling.py."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import torch

from dpo_lab.models.load import evaluating
from dpo_lab.sampling.hf import HFSampler
from scripts.bands import machine
from scripts.bench.figures import Spread, ratio, spread
from scripts.bench.task import language_model, pairs

TARGETS = {"one generate per answer": 4.5, "one padded generate": 2.2}
"""How many times our CPU-seconds each should take."""
Answers = list[list[int]]


class Contest:
    """A model without an end token, so that every answer has the same length, and some prompts of HH lengths.

    Args:
        prompts: token ids, or how many of the task's.
        samples: answers to each prompt.
    """

    def __init__(self, layers: int, prompts: int | Sequence[list[int]], samples: int, tokens: int) -> None:
        self.model = language_model(layers).eval()
        self.model.config.eos_token_id = self.model.generation_config.eos_token_id = None
        self.model.config.use_cache = self.model.generation_config.use_cache = True  # `generate` reads the latter
        self.prompts = [pair.prompt for pair in pairs()][:prompts] if isinstance(prompts, int) else list(prompts)
        self.samples, self.tokens = samples, tokens
        self.tokenizer: Any = SimpleNamespace(eos_token_id=None)

    def ours(self, temperature: float, batch_size: int = 256) -> Answers:
        """Return our sampler's answers, those to one prompt side by side."""
        sampler = HFSampler(num_samples=self.samples, temperature=temperature, max_new_tokens=self.tokens, batch_size=batch_size)
        drawn = sampler.of(self.model, self.tokenizer).draw(self.prompts, 0)
        return [answer.ids.tolist() for each in drawn for answer in each]

    def one_by_one(self, temperature: float) -> Answers:
        """Return the answers of one call of `generate` each."""
        return [self._generate([prompt], temperature)[0] for prompt in self.prompts for _ in range(self.samples)]

    def padded(self, temperature: float) -> Answers:
        """Return the answers of one call with all prompts padded on the left, each as often as it is answered."""
        return self._generate([prompt for prompt in self.prompts for _ in range(self.samples)], temperature)

    def _generate(self, prompts: Sequence[Sequence[int]], temperature: float) -> Answers:
        time_steps = max(map(len, prompts))
        ids = torch.tensor([[2] * (time_steps - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (time_steps - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        how: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        new = {"min_new_tokens": self.tokens, "max_new_tokens": self.tokens, "pad_token_id": 2}
        found: Answers = self.model.generate(ids, attention_mask=mask, **new, **how)[:, time_steps:].tolist()
        return found


def unequal(contest: Contest) -> int:
    """Return how many greedy answers differ from those of one `generate` per prompt."""
    expected = [contest._generate([prompt], 0.0)[0] for prompt in contest.prompts]
    ours = contest.ours(0.0)
    return sum(answer != expected[place // contest.samples] for place, answer in enumerate(ours))


def changed_by_composition(layers: int, prompts: int, samples: int, tokens: int, dtype: torch.dtype) -> tuple[int, int]:
    """Return how many answers at temperature 1 another composition of the batches changes, and how many there are.

    All prompts are answered in one batch, and then each prompt in its own batch.
    """
    contest = Contest(layers, prompts, samples, tokens)
    contest.model.to(dtype)
    together = contest.ours(1.0)
    alone = contest.ours(1.0, batch_size=samples)
    return sum(one != other for one, other in zip(together, alone, strict=True)), len(together)


def composition(layers: int, prompts: int, samples: int, tokens: int) -> int:
    """Print the share of answers that the composition of batches changes; return 1 if it changes any in fp32."""
    print(f"{machine()}, one thread; torch {version('torch')}, transformers {version('transformers')}")
    print("| number format | answers | changed by another composition of the batches |\n|---|---|---|")
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        changed, count = found[dtype] = changed_by_composition(layers, prompts, samples, tokens, dtype)
        print(f"| {str(dtype).removeprefix('torch.')} | {count} | {changed} ({changed / count:.0%}) |")
    return int(found[torch.float32][0] > 0)


def timed(contestants: Mapping[str, Callable[[float], Answers]], rounds: int) -> dict[str, Spread]:
    """Return the CPU-seconds of each contestant at temperature 1; they take turns, a first turn warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, answers in contestants.items():
            began = time.process_time()
            answers(1.0)
            if turn:
                seconds[name].append(time.process_time() - began)
    return {name: spread(each) for name, each in seconds.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if greedy tokens differ, for then nothing is timed, or if batches change answers in fp32."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=5, help="answers to each prompt")
    parser.add_argument("--tokens", type=int, default=48, help="of each answer")
    parser.add_argument("--layers", type=int, default=8, help="8: 57 M weights")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--composition", action="store_true", help="the share of answers that other batches change; nothing is timed"
    )
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if asked.composition:
        return composition(asked.layers, asked.prompts, asked.samples, asked.tokens)
    contest = Contest(asked.layers, asked.prompts, asked.samples, asked.tokens)
    with evaluating(contest.model):
        if count := unequal(contest):
            print(f"{count} greedy answers are not those of generate: nothing is timed.")
            return 1
        turns = {"ours": contest.ours, "one padded generate": contest.padded, "one generate per answer": contest.one_by_one}
        seconds = timed(turns, asked.rounds)
    print(f"{machine()}, one thread; torch {version('torch')}, transformers {version('transformers')}")
    print(
        f"{asked.prompts} prompts x {asked.samples} answers x {asked.tokens} tokens, {asked.rounds} rounds; greedy tokens equal"
    )
    print("| | CPU-seconds | times ours | target |\n|---|---|---|---|")
    for name, each in seconds.items():
        print(f"| {name} | {each} | {ratio(each, seconds['ours'])} | {TARGETS.get(name, '')} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The parts of the round of bench_round.py: each contestant's CPU-seconds, after what can be equal was found equal."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dpo_lab.models.load import evaluating
from dpo_lab.ranking.pairrm.ranker import PairRM
from dpo_lab.records import Candidates
from scripts.bench import task
from scripts.bench.contestants import Contestant, competing
from scripts.bench.figures import objections
from scripts.bench.plain_pairrm import PlainPairRM
from scripts.bench.round_task import SAMPLES, RoundTask, best_and_worst, candidates
from scripts.bench.task import Pair, Result
from scripts.bench_ranking import ALONE, DEFAULT_BATCH, TOLERANCE, Blender, largest_gap
from scripts.bench_sampling import Contest, unequal

ONE_BY_ONE, PADDED = "one generate per answer", "one padded generate"
ONE_PROMPT, BLENDER = "one prompt at a time", "llm-blender"
TRAINERS = ("ours", "naive", "TRL defaults", "TRL best")
CPU = torch.device("cpu")
GATED = 4
"""Prompts of a portion whose greedy tokens, and whose scores by llm-blender one prompt at a time, are compared."""


class UnequalError(Exception):
    """Contestants do not do the same work, so none of them is timed."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """CPU-seconds of each contestant, and what ours made: the next part of everyone begins with it."""

    seconds: dict[str, float]
    made: Any


def clock(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a function returns, and the CPU-seconds that it took."""
    began = time.process_time()
    found = work()
    return found, time.process_time() - began


def sample(asked: RoundTask, portion: int) -> Timed:
    """Return the seconds of drawing a portion's answers at temperature 1, and ours: a list of token ids per answer.

    Raises:
        UnequalError: if greedy tokens differ from those of one `generate` per prompt.
    """
    prompts = asked.prompt_ids(portion)
    contest = Contest(asked.layers, prompts[:GATED], SAMPLES, asked.tokens)
    seconds, answers = {}, {}
    with evaluating(contest.model):
        if count := unequal(contest):
            raise UnequalError(f"{count} greedy answers of portion {portion} are not those of generate")
        contest.prompts = prompts
        turns = [("ours", contest.ours), (PADDED, contest.padded), (ONE_BY_ONE, contest.one_by_one)]
        for name, draw in turns if portion % 2 == 0 else reversed(turns):
            answers[name], seconds[name] = clock(lambda draw=draw: draw(1.0))  # type: ignore[misc]
    if lengths := {len(answer) for each in answers.values() for answer in each} - {asked.tokens}:
        raise UnequalError(f"answers have {sorted(lengths)} tokens, not {asked.tokens}")
    return Timed(seconds=seconds, made=answers["ours"])


def rank(sets: Sequence[Candidates], directory: Path, python: str = "") -> Timed:
    """Return the seconds of ranking some prompts' answers, and our scores.

    Args:
        python: interpreter that has llm-blender, in its default batches of 8 prompts; without it llm-blender is left out.

    Raises:
        UnequalError: if scores differ by more than 1e-4, or if ours are so alike that being equal says nothing. llm-blender's
            are compared at one prompt a batch, where they depend on nothing else.
    """
    plain = PlainPairRM(directory, directory / "backbone")
    with PairRM(path=str(directory), backbone=str(directory / "backbone")).open(CPU) as opened:
        ours, own_seconds = clock(lambda: opened.rank(sets))
    scores = [list(verdict.scores) for verdict in ours]
    if (spread := max(max(score) - min(score) for score in scores)) < 100 * TOLERANCE:
        raise UnequalError(f"scores of a prompt differ by {spread:.2g} at most, so equal ones say nothing")
    theirs, plain_seconds = clock(lambda: plain.rank(sets))
    seconds, others = {"ours": own_seconds, ONE_PROMPT: plain_seconds}, {ONE_PROMPT: theirs}
    if python:
        blender = Blender(python, str(directory), str(directory / "backbone"))
        others[BLENDER] = blender.rank(sets[:GATED], ALONE)[0]
        seconds[BLENDER] = blender.rank(sets, DEFAULT_BATCH)[1]
    for name, found in others.items():
        if not (gap := largest_gap(scores[: len(found)], found)) <= TOLERANCE:
            raise UnequalError(f"scores of {name} differ from ours by up to {gap:.2g}")
    return Timed(seconds=seconds, made=scores)


def pairs_of(prompts: Sequence[list[int]], answers: Sequence[list[int]], scores: Sequence[Sequence[float]]) -> list[Pair]:
    """Return the best against the worst answer of each prompt, as token ids."""
    made = []
    for place, (prompt, of_prompt) in enumerate(zip(prompts, scores, strict=True)):
        best, worst = best_and_worst(of_prompt)
        own = answers[place * SAMPLES : (place + 1) * SAMPLES]
        made.append(Pair(prompt, own[best], own[worst]))
    return made


def trainers(asked: Any, file: Path, steps: int) -> Iterator[Contestant]:
    """Yield who trains on the pairs of a file: one epoch without warm-up, the losses of all steps reported.

    Args:
        asked: the command line: `trl_python`, `swift_python`, `token_budget`.
    """
    more = ("--warm-up", "0", "--compared", str(steps), "--file", str(file.resolve()))
    for each in competing(asked):
        if each.name in TRAINERS:
            yield replace(each, more=more, epochs_per_repetition=1)


def train(contestant: Contestant, asked: Any) -> Result:
    """Return what one contestant reports of the round's training."""
    return contestant.run(asked, 1)


def refuse_unequal(results: dict[str, Result], steps: int) -> None:
    """Raise UnequalError if losses or gradient norms of any step differ."""
    if found := objections(results, "fp32", steps):
        raise UnequalError("; ".join(found))


def write_pairs(file: Path, pairs: Sequence[Pair]) -> int:
    """Write pairs for the contestants; return how many optimizer steps they are."""
    file.write_text(json.dumps([[pair.prompt, pair.chosen, pair.rejected] for pair in pairs]), encoding="utf-8")
    return len(pairs) // task.PAIRS_PER_STEP


def sets_of(asked: RoundTask, portion: int, answers: Sequence[Sequence[int]]) -> list[Candidates]:
    """Return the sets of a portion as texts."""
    return candidates(asked.prompt_ids(portion), answers)

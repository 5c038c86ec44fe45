"""A whole round beside what is assembled from parts today: python scripts/bench_round.py sample|rank|train|report --state DIR.

One fixed round: a random Mistral of 57 M weights in float32, 64 prompts of HH's lengths, 5 answers of 45 tokens to each at
temperature 1, a random PairRM of 256 x 6, best against worst, 64 pairs, one epoch of DPO in 8 steps of 8 pairs (AdamW, beta .1),
one thread. The parts run one after another, each kept in DIR/round.json, so that no call takes long:

    python scripts/bench_round.py sample --state DIR --portion 0     # and 1, 2, 3
    python scripts/bench_round.py rank   --state DIR --portion 0 --blender-python BLENDER/bin/python     # and 1, 2, 3
    python scripts/bench_round.py train  --state DIR --trl-python TRL/bin/python --only "ours,TRL best"
    python scripts/bench_round.py report --state DIR

Assembled: transformers' `generate`, one call per answer or one padded call for a portion; PairRM on transformers' encoder one
prompt at a time, and llm-blender; TRL as it is and at its best. Everyone begins a part with what ours made in the part before,
and nothing is kept unless greedy tokens, scores and losses are equal. What lies between (texts, pairs, files) is not timed.
bench_ranking.py and bench_train.py say how the other environments are made.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import argparse
from collections.abc import Sequence
from dataclasses import asdict, fields

import torch

from scripts.bench import round_parts
from scripts.bench.kept import State, keep, load, where
from scripts.bench.round_report import lines
from scripts.bench.round_task import RoundTask, write_ranker
from scripts.bench.task import Pair, Result

STATE, PAIRS = "round.json", "pairs.json"


def command_line() -> argparse.ArgumentParser:
    """Return what can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("sample", "rank", "train", "report"))
    parser.add_argument("--state", type=Path, required=True, help="directory that keeps the results of the parts")
    parser.add_argument("--portion", type=int, action="append", help="of the prompts, from 0 on; default: all")
    parser.add_argument("--only", default="", help="train: comma-separated names of contestants; default: all")
    parser.add_argument("--blender-python", default="", help="interpreter that has llm-blender; without it it is left out")
    parser.add_argument("--trl-python", default="", help="interpreter that has TRL; without it TRL is left out")
    parser.add_argument("--token-budget", type=int, default=2048, help="ours: tokens per forward pass of the training")
    for field in fields(RoundTask):
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, type=int, default=field.default, help="a smaller round is not a benchmark")
    return parser


def run_portions(asked: argparse.Namespace, sizes: RoundTask, state: State) -> None:
    """Sample or rank the portions that are asked for, and keep each."""
    ranker = write_ranker(asked.state / "pairrm", sizes) if asked.part == "rank" else Path()
    for portion in map(str, asked.portion or range(sizes.portions)):
        if asked.part == "sample":
            made = round_parts.sample(sizes, int(portion))
            state.get("rank", {}).pop(portion, None)
        else:
            if portion not in state.get("sample", {}):
                raise SystemExit(f"error: portion {portion} has no answers yet. Type: sample --portion {portion} first.")
            sets = round_parts.sets_of(sizes, int(portion), state["sample"][portion]["made"])
            made = round_parts.rank(sets, ranker, asked.blender_python)
        state.setdefault(asked.part, {})[portion] = asdict(made)
        state.pop("train", None)  # of other pairs
        keep(asked.state / STATE, state)
        took = ", ".join(f"{name} {taken:.1f} s" for name, taken in made.seconds.items())
        print(f"{asked.part} {portion}: {took}", flush=True)


def all_pairs(sizes: RoundTask, state: State) -> list[Pair]:
    """Return the pairs of all portions."""
    if (ranked := len(state.get("rank", {}))) < sizes.portions:
        raise SystemExit(f"error: {ranked} of {sizes.portions} portions are ranked. Type: rank first.")
    made = []
    for portion in map(str, range(sizes.portions)):
        answers, scores = state["sample"][portion]["made"], state["rank"][portion]["made"]
        made += round_parts.pairs_of(sizes.prompt_ids(int(portion)), answers, scores)
    return made


def run_training(asked: argparse.Namespace, sizes: RoundTask, state: State) -> None:
    """Train with the contestants that are asked for, and keep each whose losses are those of the others."""
    steps = round_parts.write_pairs(asked.state / PAIRS, all_pairs(sizes, state))
    wanted = {name.strip() for name in asked.only.split(",") if name.strip()}
    there = {trainer.name: trainer for trainer in round_parts.trainers(asked, asked.state / PAIRS, steps)}
    if unknown := wanted - there.keys():
        raise SystemExit(f"error: --only: {sorted(unknown)} do not compete here; there are {list(there)}.")
    kept = state.setdefault("train", {})
    for name in [name for name in there if not wanted or name in wanted]:
        made = round_parts.train(there[name], asked)
        first = {each: Result(**runs[0]) for each, runs in kept.items()}
        round_parts.refuse_unequal({**first, name: made}, steps)
        kept.setdefault(name, []).append(asdict(made))
        keep(asked.state / STATE, state)
        print(f"train {name}: {sum(made.epoch_seconds):.1f} s, reference {sum(made.reference_seconds):.1f} s", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a part; return 1 where contestants do not do the same work, for then nothing is kept."""
    asked = command_line().parse_args(arguments)
    asked.adapter, asked.precision, asked.threads, asked.swift_python = "none", "fp32", 1, ""
    sizes = RoundTask(**{field.name: getattr(asked, field.name) for field in fields(RoundTask)})
    asked.state.mkdir(parents=True, exist_ok=True)
    state = load(asked.state / STATE, sizes.settings())
    torch.set_num_threads(1)
    if asked.part == "report":
        print(where(state), *lines(state), sep="\n")
        return 0
    try:
        (run_training if asked.part == "train" else run_portions)(asked, sizes, state)
    except round_parts.UnequalError as error:
        print(f"{error}: nothing is kept.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

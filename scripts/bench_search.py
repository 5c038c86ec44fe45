"""What a search saves: python scripts/bench_search.py --state DIR --seed 0, then 1 and 2, then --report.

On the embedded world, one round: 200 prompts x 5 answers of the fine-tuned policy, best against worst, at most 14 steps of DPO.
Space: recipe.lr 2e-5, 1e-4, 5e-4 x recipe.beta .3, 1, 3; nine points, `hydra.sweeper.sampler=grid`. The same points are run
twice, each time in an outputs directory of its own with a copy of the parts that all runs share: once to their ends, once with
successive halving (measured every 2 steps on 48 held-out prompts; all are trained to step 6, one in three to the end).
The study counts the steps of both; the winner is the point with the highest gold/after. DIR/search.json keeps the results.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import argparse
import json
import shutil
import subprocess
from typing import Any

import yaml

SPACE = ("recipe.lr=2e-5,1e-4,5e-4", "recipe.beta=0.3,1,3")
ROUND = (
    *("iteration.rounds=1", "prompts.num_prompts=200", "evaluation.every=2", "evaluation.max_prompts=48"),
    *("evaluation.num_samples=1", "trainer=cpu"),
)
SEARCH = ("hydra/sweeper=search", "hydra.sweeper.sampler=grid")
SHARED = ("model", "candidates", "answers", "ranking", "pairs", "tokens", "reference")


def searched(place: Path, seed: int, *words: str) -> dict[str, Any]:
    """Run a search; return its steps and its winner."""
    command = [sys.executable, str(ROOT / "train.py"), "-m", "--quiet", *SEARCH, *SPACE, *ROUND, *words]
    subprocess.run([*command, f"seed={seed}", f"paths.outputs={place}"], check=True, stdout=subprocess.DEVNULL)
    (directory,) = (place / "sweep").iterdir()
    state = json.loads((directory / "search.json").read_text())
    best = yaml.safe_load((directory / "best.yaml").read_text())
    winner = [each for each in best["overrides"] if each.startswith(("recipe.lr=", "recipe.beta="))]
    return {
        "steps": state["steps"],
        "planned": state["planned"],
        "pruned": state["pruned"],
        "winner": winner,
        "gold": best["value"],
    }


def one_seed(state: Path, seed: int) -> dict[str, Any]:
    """Run all points to their ends, then with an early end of those that are behind."""
    whole, early = state / f"whole-{seed}", state / f"early-{seed}"
    for place in (whole, early):
        shutil.rmtree(place, ignore_errors=True)
    of_whole = searched(whole, seed, "hydra.sweeper.prune_by=null")
    for kind in SHARED:
        if (whole / kind).is_dir():
            shutil.copytree(whole / kind, early / kind)
    return {"seed": seed, "whole": of_whole, "early": searched(early, seed)}


def lines(results: list[dict[str, Any]]) -> list[str]:
    """Return the table."""
    table = [
        "| seed | steps, all to their ends | steps, search | saved | winner of all | winner of the search |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        whole, early = result["whole"], result["early"]
        saved = 1 - early["steps"] / whole["steps"]
        winners = (f"{' '.join(found['winner'])} ({found['gold']:.3f})" for found in (whole, early))
        table.append(f"| {result['seed']} | {whole['steps']} | {early['steps']} | {saved:.0%} | {' | '.join(winners)} |")
    return table


def main() -> None:
    """Run one seed, or print what is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="directory of outputs and results")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    file = asked.state / "search.json"
    results = json.loads(file.read_text()) if file.is_file() else []
    if asked.seed is not None:
        asked.state.mkdir(parents=True, exist_ok=True)
        results = [*(result for result in results if result["seed"] != asked.seed), one_seed(asked.state, asked.seed)]
        results.sort(key=lambda each: int(each["seed"]))
        file.write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(lines(results)))


if __name__ == "__main__":
    main()

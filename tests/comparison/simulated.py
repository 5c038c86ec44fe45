"""Runs with simulated figures of single prompts, as they stand in memory or on disk."""

from pathlib import Path
from typing import Any

import numpy as np

from dpo_lab.artifacts import Plan
from dpo_lab.comparison.metric import Metric
from dpo_lab.comparison.runs import EMPTY, Run
from dpo_lab.evaluation.intervals import OBSERVED, records_of
from dpo_lab.evaluation.statistics import Observed
from dpo_lab.figures import Figure
from dpo_lab.records import write_jsonl
from dpo_lab.report.record import RunRecord
from dpo_lab.run_directory import CHANGING, KIND, METRICS, RunDirectory

GOLD = Figure(name="gold", title="gold reward", better="max", interval=True, before="measured", main=True)
KL = Figure(name="kl", title="KL", interval=True, start=0.0)
METRIC = Metric("gold/after", GOLD)


class Simulated(Run):
    """A run whose observations are given."""

    def observed(self, name: str) -> Observed | None:
        found: dict[str, Observed] = self.record.run["observed"]
        return found.get(name)


def simulated(name: str, gold: np.ndarray, **values: Any) -> Run:
    """Return a finished run with one answer to each held-out prompt."""
    observed = {"gold": Observed(gold, range(len(gold)))}
    run = {"figures": [GOLD.record()], "observed": observed}
    record = RunRecord(**{**EMPTY.__dict__, "summary": {"gold/after": float(gold.mean())}, "run": run})
    return Simulated(name=name, values=values, record=record)


def on_disk(
    outputs: Path, name: str, gold: np.ndarray, config: dict[str, Any], *, kl: float = 1.0, note: str = "", answer: str = "fine"
) -> Path:
    """Write a finished run; return its directory."""
    low, high = gold.mean() - 0.05, gold.mean() + 0.05
    observed = {"gold": Observed(gold, [f"p{at}" for at in range(len(gold))])}

    def measured(directory: Path) -> dict[str, Any]:
        write_jsonl(directory / OBSERVED, records_of(observed))
        return {"gold": float(gold.mean())}

    made = Plan(outputs, "evaluation", f"{name}-round1-after", {"name": name}).make(measured)

    def run(directory: Path) -> dict[str, Any]:
        shared = {"kind": "model", "name": "tiny-1", "id": "shared", "path": "m", "seconds": 9.5, "parents": [], "facts": {}}
        own = {"kind": "evaluation", "name": made.path.name, "id": made.id, "path": str(made.path), "seconds": 1.0}
        about = {
            "name": directory.name,
            "notes": note,
            "command": f"python train.py seed={config.get('seed', 0)}",
            "lineage": [shared, own],
            "figures": [GOLD.record(), KL.record()],
            "samples": [{"prompt": f"question {at}?", "before": "old", "after": f"{answer} {at}"} for at in range(3)],
        }
        RunDirectory(directory).begin(call=None, config=config, run=about)
        rows = [{"step": step, "round": 1, "loss": 0.7 - 0.01 * step, "rewards/margins": 0.1 * step} for step in range(1, 41)]
        write_jsonl(directory / METRICS, rows)
        summary = {"gold/after": float(gold.mean()), "gold/low": low, "gold/high": high, "kl": kl, "seconds/total": 12.0}
        RunDirectory(directory).finish(screen=[], summary=summary, run=about)
        return {}

    return Plan(outputs, KIND, name, {"name": name, **config}, parents=[made.id], apart=CHANGING).make(run).path

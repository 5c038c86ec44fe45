"""Of what a run is, for the first screen of its page: model, data, ranker, loss, beta, seed, pairs and what was held out."""

import json
from collections.abc import Mapping
from typing import Any

from dpo_lab.report.figures import exact, number
from dpo_lab.report.record import RunRecord

MOST_DIFFERENCES = 4
NOT_TOLD = ("outputs", "logger.", "seed", "paths.", "force")
"""How keys begin that say nothing of why a run was made."""


def facts_of(record: RunRecord) -> list[tuple[str, str]]:
    """Return name and value of each fact that the run's files tell, why it was made last: what differs from the defaults."""
    loss, rounds = record.config.get("loss") or {}, record.run.get("rounds") or []
    facts = {name: str(value) for name, value in (record.run.get("of") or {}).items()}
    facts["loss"] = str(loss.get("class", "")).rpartition(".")[2].removesuffix("Loss")
    facts["beta"] = "" if loss.get("beta") is None else number(loss["beta"])
    facts["seed"] = exact(record.config["seed"]) if "seed" in record.config else ""
    facts["rounds"] = str(len(rounds)) if len(rounds) > 1 else ""
    facts["pairs"] = " + ".join(f"{one_round['pairs']:,}" for one_round in rounds if "pairs" in one_round)
    facts["held out"] = str(record.run.get("held_out") or "").removeprefix("held-out ")
    facts["differs from the defaults"] = differences(record.run)
    return [(name, value) for name, value in facts.items() if value]


def differences(run: Mapping[str, Any]) -> str:
    """Return what was set for this run, as it is typed.

    >>> differences({"differences": [{"key": "loss.beta", "value": 0.5}, {"key": "outputs", "value": "x"}]})
    'loss.beta=0.5'
    """
    told = [difference for difference in run.get("differences") or () if not difference["key"].startswith(NOT_TOLD)]
    shown = [_typed(difference["key"], difference["value"]) for difference in told]
    more = len(shown) - MOST_DIFFERENCES
    return ", ".join(shown[:MOST_DIFFERENCES]) + (f" and {more} more" if more > 0 else "")


def _typed(key: str, value: Any) -> str:
    """Return a value under its key; of a class the name alone.

    >>> _typed("data._target_", "dpo_lab.data.sources.FilePairs")
    'data=FilePairs'
    """
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={str(value).rpartition('.')[2]}"
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"

"""What a benchmark that runs in pieces keeps between them: one JSON file, with the machine, the days and the loads."""

import json
import os
import time
from pathlib import Path
from typing import Any

from scripts.bands import machine

State = dict[str, Any]


def load(file: Path, settings: dict[str, Any]) -> State:
    """Return what the pieces before have kept.

    Raises:
        SystemExit: if they were of other sizes.
    """
    state: State = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"settings": settings}
    if state["settings"] != settings:
        raise SystemExit(f"error: {file} was made with {state['settings']}. Type another --state, or the same sizes.")
    return state


def keep(file: Path, state: State) -> None:
    """Write the state, whole or not at all."""
    state["machine"] = machine()
    state.setdefault("days", {})[time.strftime("%Y-%m-%d")] = None
    state.setdefault("loads", []).append(round(os.getloadavg()[0], 1))
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(json.dumps(state), encoding="utf-8")
    beside.replace(file)


def where(state: State) -> str:
    """Return the machine, the days and the loads of what was kept.

    >>> where({"machine": "a machine", "days": {"2026-11-29": None}, "loads": [0.5, 3.0, 1.0]})
    'a machine; 2026-11-29; load 0.5 to 3.0'
    >>> where({}) == machine()
    True
    """
    parts = [str(state.get("machine", machine())), ", ".join(state.get("days", {}))]
    loads = state.get("loads", [])
    return "; ".join([part for part in parts if part] + ([f"load {min(loads)} to {max(loads)}"] if loads else []))

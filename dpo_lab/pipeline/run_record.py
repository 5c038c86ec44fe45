"""What a run writes about itself: who it is, the call that asked for it, what it was made by and from, samples and lengths."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dpo_lab.alignment import Alignment
from dpo_lab.artifacts import Artifact, Plan, write_durably
from dpo_lab.components import plain_fields
from dpo_lab.environment import current_call, environment
from dpo_lab.loggers.base import RunIdentity
from dpo_lab.records import Candidates, read_jsonl
from dpo_lab.tokens.store import TokenStore

RUN, CALL, CONFIG, SUMMARY, SCREEN = "run.json", "call.json", "config.json", "summary.json", "screen.txt"
MAX_LENGTHS, MAX_SAMPLES = 2000, 20


def identity_of(
    config: dict[str, Any], plan: Plan, *, tags: tuple[str, ...] = (), notes: str = "", group: str | None = None
) -> RunIdentity:
    """Return what loggers are told of a run; `config` is that of a run from Python, which no call has."""
    call = current_call()
    return RunIdentity(
        name=plan.path.name,
        id=plan.id,
        directory=plan.path,
        config=call.config if call else config,
        tags=tags,
        notes=notes,
        group=group,
    )


def begin(alignment: Alignment, identity: RunIdentity) -> dict[str, Any]:
    """Write down, before anything is trained, what is asked for and what it will be made by; return what run.json holds."""
    directory, call = identity.directory, current_call()
    if call:
        write(directory / CALL, call.to_record())
    about = {
        "name": identity.name,
        "id": identity.id,
        "tags": list(identity.tags),
        "notes": identity.notes,
        "group": identity.group,
        "command": call.command if call else None,
        "repeat": shlex.join(["python", "train.py", f"rerun={directory}"]) if call else None,
        "differences": list(call.differences) if call else None,  # not known of a run from Python
        "precision": alignment.precision.explained(alignment.trainer.device()),
        "environment": environment(),
    }
    write(directory / CONFIG, plain_fields(alignment))
    write(directory / RUN, about)
    return about


def write(path: Path, content: Any) -> None:
    """Write plain data durably."""
    write_durably(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def ancestry(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Return the artifacts that a run is made from, as plain data, each once."""
    return [
        {
            "kind": each.manifest["kind"],
            "name": each.path.name,
            "id": each.id,
            "path": str(each.path),
            "seconds": each.seconds,
            "parents": each.manifest["parents"],
            "facts": each.facts,
        }
        for each in {each.id: each for each in artifacts}.values()
    ]


def lengths_of(store: TokenStore) -> dict[str, list[int]]:
    """Return tokens of prompts and of the chosen and rejected responses, of at most 2000 pairs evenly spread."""
    spread = np.linspace(0, store.num_pairs - 1, min(store.num_pairs, MAX_LENGTHS)).astype(int)
    chosen, rejected = store.pairs[spread].T
    return {
        "prompt": store.prompt_lengths[store.response_prompt[chosen]].tolist(),
        "chosen": store.response_lengths[chosen].tolist(),
        "rejected": store.response_lengths[rejected].tolist(),
    }


def samples_of(before: Sequence[Candidates], after: Sequence[Candidates]) -> list[dict[str, Any]]:
    """Return the first answers to the first prompts, from before and from after."""
    return [
        {
            "prompt": one.prompt.text,
            "before": one.responses[0],
            "after": other.responses[0],
            "score_before": one.scores[0],
            "score_after": other.scores[0],
        }
        for one, other in zip(before[:MAX_SAMPLES], after, strict=False)
        if one.scores and other.scores  # a judge may have failed
    ]


def read_samples(directory: Path) -> list[dict[str, Any]]:
    """Return the samples of a finished run."""
    run: dict[str, Any] = json.loads((directory / RUN).read_text(encoding="utf-8"))
    return list(run.get("samples", ()))


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a training that has some."""
    return list(read_jsonl(path)) if path.exists() else []

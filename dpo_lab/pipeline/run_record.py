"""What a run writes about itself: who it is, the call that asked for it, what it was made by and from, samples and lengths."""

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.call import Call
from dpo_lab.environment import environment
from dpo_lab.loggers.base import RunIdentity
from dpo_lab.records import Candidates, read_jsonl
from dpo_lab.run_directory import EVALUATIONS, SAMPLES
from dpo_lab.tokens.pieces import pieces_of
from dpo_lab.tokens.store import TokenStore

MAX_LENGTHS, MAX_SAMPLES = 2000, 20
PARTS = {"model": "pretrain", "candidates": "sample", "ranking": "rank", "pairs": "rank", "evaluation": "evaluate"}
"""Kinds of artifacts by what making one is called in the summary; one that a user's data made by its own name."""


def identity_of(
    config: dict[str, Any],
    plan: Plan,
    call: Call | None,
    *,
    tags: tuple[str, ...] = (),
    notes: str = "",
    group: str | None = None,
) -> RunIdentity:
    """Return what loggers are told of a run; `config` is that of a run from Python, which no call has."""
    return RunIdentity(
        name=plan.path.name,
        id=plan.id,
        directory=plan.path,
        label=call.label if call else "",
        config=call.config if call else config,
        tags=tags,
        notes=notes,
        group=group,
    )


def about_run(identity: RunIdentity, call: Call | None, precision: str) -> dict[str, Any]:
    """Return what run.json says before anything is trained: what is asked for, and what it will be made by.

    Args:
        precision: in words.
    """
    return {
        "name": identity.name,
        "id": identity.id,
        "tags": list(identity.tags),
        "notes": identity.notes,
        "group": identity.group,
        "command": call.command if call else None,
        "repeat": shlex.join([*shlex.split(call.command)[:2], f"rerun={identity.directory}"]) if call else None,
        "differences": list(call.differences) if call else None,  # not known of a run from Python
        "precision": precision,
        "environment": environment(),
    }


def ancestry(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Return the artifacts that a run is made from, as plain data, each once; `data` is the digest of a token store's pairs."""
    return [
        {
            "kind": artifact.manifest["kind"],
            "name": artifact.path.name,
            "id": artifact.id,
            "path": str(artifact.path),
            "seconds": artifact.seconds,
            "parents": artifact.manifest["parents"],
            "facts": artifact.facts,
            **({"data": artifact.manifest["content"]["pairs"]} if artifact.manifest["kind"] == "tokens" else {}),
        }
        for artifact in {artifact.id: artifact for artifact in artifacts}.values()
    ]


def seconds_of(lineage: Sequence[Artifact]) -> dict[str, float]:
    """Return how long each part of a run took when it was made, all rounds together."""
    seconds: dict[str, float] = defaultdict(float)
    for artifact in {artifact.id: artifact for artifact in lineage}.values():  # a ranker is used in every round
        kind = artifact.manifest["kind"]
        if kind == "policy":  # its own seconds are those of all of this
            for name in ("reference", "dpo", "held_out"):
                if (key := f"seconds/{name}") in artifact.facts:
                    seconds[name] += artifact.facts[key]
        elif kind != "tokens":
            seconds[PARTS.get(kind, kind)] += artifact.seconds
    return dict(seconds)


def answers_of(lineage: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Return the answers of each round's policy while it was trained, where it was asked."""
    policies = [artifact for artifact in lineage if artifact.manifest["kind"] == "policy"]
    return [{"round": number, **row} for number, policy in enumerate(policies, start=1) for row in rows_of(policy.path / SAMPLES)]


def evaluations_of(lineage: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Return what was measured of each round's policy while it was trained."""
    policies = [artifact for artifact in lineage if artifact.manifest["kind"] == "policy"]
    return [
        {"round": number, **row} for number, policy in enumerate(policies, start=1) for row in rows_of(policy.path / EVALUATIONS)
    ]


def credit_texts(credit: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[dict[str, Any]]:
    """Return pairs with the log-ratios of their tokens, each token as the text that it adds."""

    def side(found: Mapping[str, Any]) -> dict[str, Any]:
        shown = {name: found[name] for name in ("ratios", "rest", "left_out")}
        return {"pieces": pieces_of(tokenizer, found["ids"]), **shown}

    return [
        {
            "end": pair.get("end", "some"),
            "margin": pair["margin"],
            "prompt": tokenizer.decode(pair["prompt"], skip_special_tokens=True).strip(),
            **{name: side(pair[name]) for name in ("chosen", "rejected")},
        }
        for pair in credit
    ]


def lengths_of(lineage: Sequence[Artifact]) -> dict[str, list[int]]:
    """Return tokens of prompts, chosen and rejected responses of the first round, of at most 2000 pairs evenly spread.

    Of a ranked list, chosen is the best and rejected the worst answer.
    """
    store = TokenStore.open(next(artifact.path for artifact in lineage if artifact.manifest["kind"] == "tokens"))
    spread = np.linspace(0, store.num_items - 1, min(store.num_items, MAX_LENGTHS)).astype(int)
    chosen, rejected = store.first_and_last[spread].T
    return {
        "prompt": store.prompt_lengths[store.response_prompt[chosen]].tolist(),
        "chosen": store.response_lengths[chosen].tolist(),
        "rejected": store.response_lengths[rejected].tolist(),
    }


def samples_of(before: Sequence[Candidates], after: Sequence[Candidates]) -> list[dict[str, Any]]:
    """Return the first answers to some prompts, evenly spread; scores are None where the judge gave none.

    Neighbours in a file often ask about the same thing.
    """
    spread = dict.fromkeys(np.linspace(0, len(before) - 1, min(len(before), MAX_SAMPLES)).astype(int).tolist())
    chosen = {before[at].prompt.text: (before[at], after[at]) for at in spread if at < len(after)}
    return [
        {
            "prompt": one.prompt.text,
            "before": one.responses[0],
            "after": other.responses[0],
            "score_before": one.scores[0] if one.scores else None,
            "score_after": other.scores[0] if other.scores else None,
        }
        for one, other in chosen.values()
    ]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a training that has some."""
    return list(read_jsonl(path)) if path.exists() else []

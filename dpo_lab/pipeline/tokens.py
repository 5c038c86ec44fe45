"""The token store of some pairs, kept on disk and found again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import Artifact, Plan, write_durably
from dpo_lab.data.base import Data
from dpo_lab.models.load import ModelOnDisk, load_tokenizer
from dpo_lab.records import Candidates, PreferencePair, digest_of
from dpo_lab.tokens.build import tokenise_items
from dpo_lab.tokens.store import TokenStore

LEFT_OUT = "left_out.json"
"""Positions of the pairs that are not in the store, where there are any."""


def token_store(
    pairs: Sequence[PreferencePair | Candidates], data: Data, base: ModelOnDisk, *, root: Path, name: str, force: bool
) -> tuple[TokenStore, Artifact]:
    """Return the token store of some pairs or ranked lists and the artifact it stands in."""
    content = {
        "pairs": digest_of(pair.said for pair in pairs),
        "tokenizer": base.id,
        "max_length": data.max_length,
        "truncation": data.truncation,
    }
    if any(pair.drawn for pair in pairs):  # other rounding may have given the same ids
        content["logps"] = digest_of(answer.logps.tobytes() for pair in pairs for answer in pair.drawn if answer)
    plan = Plan(root, "tokens", name, content, parents=[base.id])

    def produce(directory: Path) -> dict[str, Any]:
        tokenizer = load_tokenizer(base.path, base.storage.revision)
        made = tokenise_items(pairs, tokenizer, max_length=data.max_length, truncation=data.truncation, model=base.path)
        made.store.save(directory)
        if made.left_out:
            write_durably(directory / LEFT_OUT, json.dumps(made.left_out) + "\n")
        return {"pairs": made.store.num_items, "notes": made.notes(data.max_length, base.path), **made.counts}

    artifact = plan.make(produce, force=force)
    return TokenStore.open(artifact.path), artifact


def pairs_in(pairs: Sequence[PreferencePair | Candidates], made: Artifact) -> list[PreferencePair | Candidates]:
    """Return the pairs that are in a store, in its order."""
    path = made.path / LEFT_OUT
    left_out = set(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else set()
    return [pair for at, pair in enumerate(pairs) if at not in left_out]

"""The token store of some pairs, kept on disk and found again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.data.base import Data
from dpo_lab.models.load import ModelOnDisk, load_tokenizer
from dpo_lab.records import Candidates, PreferencePair, digest_of
from dpo_lab.tokens.build import tokenise_items
from dpo_lab.tokens.store import TokenStore


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
        content["logps"] = digest_of(each.logps.tobytes() for pair in pairs for each in pair.drawn if each)
    plan = Plan(root, "tokens", name, content, parents=[base.id])

    def produce(directory: Path) -> dict[str, Any]:
        tokenizer = load_tokenizer(base.path, base.storage.revision)
        made = tokenise_items(pairs, tokenizer, max_length=data.max_length, truncation=data.truncation, model=base.path)
        made.store.save(directory)
        return {"pairs": made.store.num_items, "notes": made.notes(data.max_length, base.path), **made.counts}

    artifact = plan.make(produce, force=force)
    return TokenStore.open(artifact.path), artifact

"""The artifact `pairs`: preference pairs that follow from ranked candidates."""

from pathlib import Path
from typing import Any

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.data.pairs import PAIRS
from dpo_lab.pipeline.answers import stream_candidates
from dpo_lab.ranking.base import Ranker
from dpo_lab.ranking.pairing import Pairing
from dpo_lab.records import PreferencePair, read_jsonl, write_jsonl


def paired(ranking: Artifact, ranker: Ranker, pairing: Pairing, *, root: Path, name: str, force: bool) -> Artifact:
    """Return the artifact with the pairs of ranked candidates; one prompt at a time is held in memory.

    Args:
        ranking: an artifact `ranking`.
        ranker: the one that made it: it says how sure it is of a pair.
        name: readable part of the directory's name.
    """
    content = {"ranking": ranking.id, "pairing": pairing.content()}
    plan = Plan(root, "pairs", name, content, parents=[ranking.id])

    def produce(directory: Path) -> dict[str, Any]:
        pairs = pairing.pairs(stream_candidates(ranking), ranker)
        count = write_jsonl(directory / PAIRS, (pair.to_record("train") for pair in pairs))
        return {name: ranking.facts[name] for name in ("prompts", "failed")} | {"pairs": count}

    return plan.make(produce, force=force)


def read_pairs(artifact: Artifact) -> list[PreferencePair]:
    """Return the pairs of an artifact `pairs`."""
    return [PreferencePair.from_record(record) for record in read_jsonl(artifact.path / PAIRS)]

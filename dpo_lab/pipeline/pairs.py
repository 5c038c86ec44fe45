"""The artifact `pairs`: candidates with the scores of a ranker, and the preference pairs that follow from them."""

from pathlib import Path
from typing import Any

import torch

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.continuing import remove_kept
from dpo_lab.memory.host import give_back
from dpo_lab.pipeline.answers import CANDIDATES, read_candidates
from dpo_lab.ranking.base import Ranker, refuse_if_all_failed, verdicts_of, without_failed
from dpo_lab.ranking.pairing import Pairing
from dpo_lab.records import PreferencePair, read_jsonl, write_jsonl

PAIRS = "pairs.jsonl"


def ranked(
    candidates: Artifact, ranker: Ranker, pairing: Pairing, *, root: Path, name: str, device: torch.device, force: bool
) -> Artifact:
    """Return the artifact with ranked candidates and their pairs; after a stop, prompts that are ranked are not ranked again.

    Args:
        name: readable part of the directory's name.
    """
    content = {"candidates": candidates.id, "ranker": ranker.content(), "pairing": pairing.content()}
    plan = Plan(root, "pairs", name, content, parents=[candidates.id])

    def produce(directory: Path) -> dict[str, Any]:
        sets = read_candidates(candidates)
        verdicts = verdicts_of(ranker, sets, device, name="rank", directory=directory)
        give_back()
        scored = without_failed(sets, verdicts)
        refuse_if_all_failed(f"ranker={ranker.label}", sets, scored)
        pairs = pairing.pairs(scored, ranker)
        write_jsonl(directory / CANDIDATES, (each.to_record() for each in scored))
        write_jsonl(directory / PAIRS, (pair.to_record("train") for pair in pairs))
        remove_kept(directory)
        return {"prompts": len(sets), "failed": len(sets) - len(scored), "pairs": len(pairs)}

    return plan.make(produce, force=force, resume=True)


def read_pairs(artifact: Artifact) -> list[PreferencePair]:
    """Return the pairs of an artifact `pairs`."""
    return [PreferencePair.from_record(record) for record in read_jsonl(artifact.path / PAIRS)]

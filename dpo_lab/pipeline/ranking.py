"""The artifact `ranking`: candidates with the scores of a ranker, whatever pairs are made of them."""

from itertools import islice
from pathlib import Path
from typing import Any

import torch

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.continuing import kept_part, remove_kept
from dpo_lab.memory.host import give_back
from dpo_lab.pipeline.answers import CANDIDATES, stream_candidates
from dpo_lab.ranking.base import Ranker, failed, rank_kept, refuse_if_all_failed, with_verdict
from dpo_lab.records import write_jsonl


def ranked(candidates: Artifact, ranker: Ranker, *, root: Path, name: str, device: torch.device, force: bool) -> Artifact:
    """Return the artifact with ranked candidates; after a stop, prompts that are ranked are not ranked again.

    A few prompts at a time are held in memory, however many there are. A prompt for which the ranker fails is left out and
    counted.

    Args:
        candidates: an artifact `candidates`, with the number of its prompts among its facts.
        name: readable part of the directory's name.
    """
    content = {"candidates": candidates.id, "ranker": ranker.content()}
    plan = Plan(root, "ranking", name, content, parents=[candidates.id])
    label = f"ranker={ranker.label}"
    total = int(candidates.facts["prompts"])

    def produce(directory: Path) -> dict[str, Any]:
        with ranker.open(device) as opened, kept_part("rank", total, directory) as keep:
            judged = rank_kept(opened, stream_candidates(candidates), keep, label=label)
            scored = (with_verdict(each, verdict) for each, verdict in judged if not failed(verdict))
            count = write_jsonl(directory / CANDIDATES, (each.to_record() for each in scored))
        give_back()
        refuse_if_all_failed(label, list(islice(stream_candidates(candidates), 1)), total, count)
        remove_kept(directory)
        return {"prompts": total, "failed": total - count}

    return plan.make(produce, force=force, resume=True)

"""The artifact `ranking`: candidates with the scores of a ranker, whatever pairs are made of them."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from dpo_lab.artifacts import MANIFEST, Artifact, Plan, write_durably
from dpo_lab.continuing import kept_part, remove_kept
from dpo_lab.evaluation.ranker_agreement import ranker_agreement
from dpo_lab.evaluation.ranker_report import ranker_report
from dpo_lab.memory.host import give_back
from dpo_lab.memory.loading import check_ranker_fits
from dpo_lab.pipeline.answers import CANDIDATES, stream_candidates
from dpo_lab.pipeline.ranker import ready
from dpo_lab.ranking.asking import opened
from dpo_lab.ranking.base import Ranker, failed, rank_kept, refuse_if_all_failed, with_verdict
from dpo_lab.records import Candidates, read_jsonl, write_jsonl
from dpo_lab.report.page import write_ranker_page

REPORT, PAGE = "ranking_report.json", "ranking_report.html"


def ranked(candidates: Artifact, ranker: Ranker, *, root: Path, name: str, device: torch.device, force: bool) -> Artifact:
    """Return the artifact with ranked candidates; after a stop, prompts that are ranked are not ranked again.

    A few prompts at a time are held in memory, however many there are. A prompt for which the ranker fails is left out and
    counted. `ranking_report.json`, the page beside it and the fact `report` say what the ranking looks like and, where people
    said which answers they prefer, how the ranker agrees (the fact `people` too).

    Args:
        candidates: an artifact `candidates`, with the number of its prompts among its facts.
        name: readable part of the directory's name.
    """
    content = {"candidates": candidates.id, "ranker": ranker.content()}
    ranker, trained = ready(ranker, root)
    plan = Plan(root, "ranking", name, content, parents=[candidates.id, *(artifact.id for artifact in trained)], apart=(PAGE,))
    label = f"ranker={ranker.label}"
    total = int(candidates.facts["prompts"])

    def produce(directory: Path) -> dict[str, Any]:
        check_ranker_fits(ranker, device)
        with opened(ranker, device, label, in_one_order=True) as ready_ranker, kept_part("rank", total, directory) as keep:
            judged = rank_kept(ready_ranker, stream_candidates(candidates), keep, label=label)
            scored = (with_verdict(answered, verdict) for answered, verdict in judged if not failed(verdict))
            count = write_jsonl(directory / CANDIDATES, (ranked_set.to_record() for ranked_set in scored))
        give_back()
        refuse_if_all_failed(label, list(islice(stream_candidates(candidates), 1)), total, count)
        remove_kept(directory)
        report = _reported(directory, ranker)
        people = {"people": report} if candidates.facts.get("labelled", 0) else {}
        return {"prompts": total, "failed": total - count, "report": report, **people}

    return plan.make(produce, force=force, resume=True)


def _reported(directory: Path, ranker: Ranker) -> dict[str, Any]:
    """Write what a ranking looks like, as JSON and as a page, and return it."""
    report = ranker_report(map(Candidates.from_record, read_jsonl(directory / CANDIDATES)), ranker.preference)
    write_durably(directory / REPORT, json.dumps({"ranker": ranker.label, **report}, indent=1) + "\n")
    write_ranker_page(directory / PAGE, ranker.label, report)
    return report


def agreements(ranking: Artifact) -> dict[str, dict[str, Any]]:
    """Return how a ranking agrees with each other one of the same answers that stands beside it, by the name of its directory."""
    answers, found = ranking.manifest["content"]["candidates"], dict[str, dict[str, Any]]()
    for path in sorted(ranking.path.parent.glob(f"*/{MANIFEST}")):
        other = Artifact.open(path.parent) if path.parent != ranking.path else None
        if other and other.manifest["content"].get("candidates") == answers:
            found[other.path.name] = ranker_agreement(stream_candidates(ranking), stream_candidates(other))
    return found

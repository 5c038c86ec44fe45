"""The artifact `candidates` of answers that were made elsewhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.data.answers.files import AnswerFiles
from dpo_lab.data.problems import Report
from dpo_lab.pipeline.answers import CANDIDATES
from dpo_lab.progress import say
from dpo_lab.records import Candidates, write_jsonl


def gathered(answers: AnswerFiles, *, root: Path, name: str, force: bool) -> Artifact:
    """Return the artifact with the answers of files; one row at a time is held in memory.

    Args:
        name: readable part of the directory's name.

    Raises:
        DataError: if a file cannot be read, or holds too many rows that cannot be used.
    """
    plan = Plan(root, "candidates", name, {"answers": answers.content()})

    def produce(directory: Path) -> dict[str, Any]:
        reports: list[Report] = []
        counts = {"prompts": 0, "answers": 0, "labelled": 0}

        def counted() -> Iterator[Candidates]:
            for candidates in answers.read(reports):
                counts["prompts"] += 1
                counts["answers"] += len(candidates.responses)
                counts["labelled"] += bool(candidates.preferred)
                yield candidates

        write_jsonl(directory / CANDIDATES, (candidates.to_record() for candidates in counted()))
        say(*(line for report in reports for line in report.lines()))
        return {**counts, "rows": sum(report.num_rows for report in reports)}

    return plan.make(produce, force=force)

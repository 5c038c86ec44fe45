"""The artifact `pairs`: preference pairs that follow from ranked candidates."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.data.pairs import PAIRS
from dpo_lab.pipeline.answers import stream_candidates
from dpo_lab.pipeline.made_pairs import Tally, made_by
from dpo_lab.ranking.base import Ranker
from dpo_lab.ranking.pairing.base import Pairing
from dpo_lab.records import PreferencePair, read_jsonl, write_jsonl


def paired(
    ranking: Artifact,
    ranker: Ranker,
    pairing: Pairing,
    *,
    root: Path,
    name: str,
    force: bool,
    answers: Artifact | None = None,
) -> Artifact:
    """Return the artifact with the pairs of ranked candidates; one prompt at a time is held in memory, and what is selected.

    Its facts say which model drew the answers and how, who ranked them and which pairing made the pairs (`made_by`), and count
    prompts, answers, pairs, prompts without any, and under `left_out` the pairs of answers that were left out, by reason
    (`ranking.pairing.base.REASONS`).

    Args:
        ranking: an artifact `ranking`.
        ranker: the one that made it: it says how sure it is of a pair.
        name: readable part of the directory's name.
        answers: the artifact `candidates` that was ranked; None: nothing is known of it.
    """
    content = {"ranking": ranking.id, "pairing": pairing.content(), "facts": "made by"}
    plan = Plan(root, "pairs", name, content, parents=[ranking.id])

    def produce(directory: Path) -> dict[str, Any]:
        left_out, rows, tally = Counter[str](), set[int](), Tally()
        made = pairing.pairs(tally.of_candidates(stream_candidates(ranking)), ranker, left_out)
        pairs = noting_rows(tally.of_pairs(made), rows)
        count = write_jsonl(directory / PAIRS, (pair.to_record("train") for pair in pairs))
        of_ranking = {name: ranking.facts[name] for name in ("prompts", "failed")}
        return {
            **of_ranking,
            "pairs": count,
            "prompts_without_pair": of_ranking["prompts"] - len(rows),
            "left_out": dict(left_out),
            **tally.facts(scores_compare=ranker.scores_alone),
            "made_by": {**made_by(ranking, answers), "pairing": pairing.content()},
        }

    return plan.make(produce, force=force)


def noting_rows(pairs: Iterable[PreferencePair], rows: set[int]) -> Iterator[PreferencePair]:
    """Yield pairs and add the rows of their prompts to a set."""
    for pair in pairs:
        rows.add(pair.row)
        yield pair


def read_pairs(artifact: Artifact) -> list[PreferencePair]:
    """Return the pairs of an artifact `pairs`."""
    return [PreferencePair.from_record(record) for record in read_jsonl(artifact.path / PAIRS)]

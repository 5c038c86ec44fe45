"""The artifact `pairs`: preference pairs that follow from ranked candidates."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.data.pairs import PAIRS
from dpo_lab.pipeline.answers import stream_candidates
from dpo_lab.pipeline.made_pairs import Tally, made_by
from dpo_lab.ranking.base import Ranker
from dpo_lab.ranking.pairing.base import Pairing
from dpo_lab.records import Candidates, PreferencePair, digest_of, read_jsonl, write_jsonl

LISTS = "lists.jsonl"
"""Ranked lists in place of pairs, best answer first."""


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
        counted = {name: ranking.facts[name] for name in ("prompts", "failed")}
        made = _written(directory, counted, stream_candidates(ranking), ranker, pairing)
        return {**made, "made_by": {**made_by(ranking, answers), "pairing": pairing.content()}}

    return plan.make(produce, force=force)


def paired_with_data(
    answers: Artifact, own: Mapping[str, str], pairing: Pairing, *, root: Path, name: str, force: bool
) -> Artifact:
    """Return the artifact with pairs of the data's own answers and drawn ones, which nobody has ranked; its facts as of `paired`.

    Args:
        answers: an artifact `candidates`.
        own: the data's answer by the id of the prompt; an empty text for none.
        name: readable part of the directory's name.
    """
    content = {"answers": answers.id, "own": digest_of(own.items()), "pairing": pairing.content()}
    plan = Plan(root, "pairs", name, content, parents=[answers.id])

    def produce(directory: Path) -> dict[str, Any]:
        counted = {"prompts": answers.facts["prompts"], "failed": 0}

        def beside(drawn: Iterable[Candidates]) -> Iterator[Candidates]:
            return (beside_own(answer, own.get(answer.prompt.id, "")) for answer in drawn)

        made = _written(directory, counted, stream_candidates(answers), None, pairing, beside)
        return {**made, "made_by": {**made_by(None, answers), "pairing": pairing.content()}}

    return plan.make(produce, force=force)


def beside_own(candidates: Candidates, own: str) -> Candidates:
    """Return candidates with the data's own answer in front, which no model drew."""
    finished = candidates.finished or (True,) * len(candidates.responses)
    return replace(
        candidates,
        responses=(own, *candidates.responses),
        finished=(True, *finished),
        drawn=(None, *candidates.drawn) if candidates.drawn else (),
    )


def _written(
    directory: Path,
    counted: Mapping[str, int],
    candidates: Iterable[Candidates],
    ranker: Ranker | None,
    pairing: Pairing,
    beside: Callable[[Iterable[Candidates]], Iterable[Candidates]] = iter,
) -> dict[str, Any]:
    """Write the pairs of candidates; return what is counted of them.

    Args:
        beside: puts what is paired beside the answers that are counted.
    """
    left_out, rows, tally = Counter[str](), set[int](), Tally()
    made = pairing.items(beside(tally.of_candidates(candidates)), ranker, left_out)
    items = noting_rows(tally.of_pairs(made), rows)
    records = (item.to_record() if isinstance(item, Candidates) else item.to_record("train") for item in items)
    count = write_jsonl(directory / (LISTS if pairing.makes_lists else PAIRS), records)
    return {
        **counted,
        "pairs": count,
        **({"noun": "ranked list"} if pairing.makes_lists else {}),
        "prompts_without_pair": counted["prompts"] - len(rows),
        "left_out": dict(left_out),
        **tally.facts(scores_compare=ranker is not None and ranker.scores_alone),
    }


def noting_rows(pairs: Iterable[PreferencePair | Candidates], rows: set[int]) -> Iterator[PreferencePair | Candidates]:
    """Yield pairs and add the rows of their prompts to a set."""
    for pair in pairs:
        rows.add(pair.row)
        yield pair


def read_pairs(artifact: Artifact) -> list[PreferencePair]:
    """Return the pairs of an artifact `pairs`."""
    return [PreferencePair.from_record(record) for record in read_jsonl(artifact.path / PAIRS)]


def read_lists(artifact: Artifact) -> list[Candidates]:
    """Return the ranked lists of an artifact `pairs`, as `Pairing.makes_lists` writes them."""
    return [Candidates.from_record(record) for record in read_jsonl(artifact.path / LISTS)]

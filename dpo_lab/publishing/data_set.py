"""A preference data set as a folder in the Hub's layout: parquet files by split. A home of pyarrow."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from dpo_lab.components import RunError
from dpo_lab.publishing.rows import Round, largest_set, rows_of

ROWS_PER_FILE = 20_000
ROWS_AT_A_TIME = 500
TURNS = pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))
NUMBERS = pa.list_(pa.float64())
COLUMNS = {
    "prompt_id": (pa.string(), "the same for equal prompts, in every split"),
    "prompt": (pa.string(), "the last turn of the user"),
    "chosen": (TURNS, "the conversation with the preferred answer at its end"),
    "rejected": (TURNS, "the conversation with the other answer at its end"),
    "all_generated_responses": (pa.list_(pa.string()), "all answers to the prompt"),
    "all_rm_scores": (NUMBERS, "their scores by the ranker, higher is better"),
    "rm_scores": (NUMBERS, "the same, under SPPO's name"),
    "probability": (
        pa.list_(NUMBERS),
        "entry (i, j): probability that answer i is better than j; empty if the ranker gives none",
    ),
    "chosen_probs": (pa.float64(), "probability that the chosen answer is better than the rejected one"),
    "chosen_probs_win": (pa.float64(), "mean probability that the chosen answer is better than one of all, itself at 1/2"),
    "chosen_probs_lose": (pa.float64(), "the same of the rejected answer"),
    "score_chosen": (pa.float64(), "score of the chosen answer"),
    "score_rejected": (pa.float64(), "score of the rejected answer"),
    "margin": (pa.float64(), "score_chosen - score_rejected"),
    "preference": (pa.float64(), "chosen_probs, under this project's name"),
    "ranker": (pa.string(), "what scored the answers"),
    "source": (pa.string(), "where the pair comes from"),
    "generator_model": (pa.string(), "the model that answered; empty if the answers were made elsewhere"),
    "temperature": (pa.float64(), "with which answers were drawn"),
    "top_p": (pa.float64(), "with which answers were drawn"),
    "seed": (pa.string(), "with which answers were drawn"),
    "iteration": (pa.int64(), "round of the training, counted from 1"),
    "finished": (pa.list_(pa.bool_()), "whether the chosen and the rejected answer ended by themselves"),
}
"""Name, type and meaning of the columns, a superset of Snorkel's and SPPO's; beside them `generate_0` and so on, one for each
answer."""


OF_LISTS = {
    "ranked_answers": (
        pa.list_(pa.string()),
        "the ranked list, best answer first; chosen and rejected are its first and its last",
    ),
    "ranked_scores": (NUMBERS, "the scores of these answers"),
}
"""The columns beside those where ranked lists are published (pairing=all_k)."""


def schema_of(answers: int, *, lists: bool = False) -> pa.Schema:
    """Return the columns of a data set whose prompts have at most so many answers.

    Args:
        lists: whether it holds ranked lists.
    """
    own = [(f"generate_{number}", pa.string()) for number in range(answers)]
    columns = {**COLUMNS, **(OF_LISTS if lists else {})}
    return pa.schema([*((name, kind) for name, (kind, _) in columns.items()), *own])


def test_prompts(prompts: Iterable[str], share: float) -> set[str]:
    """Return the ids of the prompts that stand in test splits: the same ones whatever the order, of every round.

    Args:
        share: of all prompts, rounded; at least one where there are two and the share is not 0.

    >>> len(test_prompts([f"{number}" for number in range(40)], 0.05)), test_prompts(["a"], 0.5), test_prompts(["a", "b"], 0)
    (2, set(), set())
    """
    ordered = sorted(set(prompts), key=lambda each: hashlib.sha256(f"test {each}".encode()).hexdigest())
    count = min(len(ordered) - 1, max(1, round(share * len(ordered)))) if share and ordered else 0
    return set(ordered[:count])


def write_data_set(rounds: Sequence[Round], directory: Path, test_share: float) -> dict[str, int]:
    """Write the parquet files of every split; return how many rows each split has.

    Of several rounds the splits are `train_iteration_1`, `test_iteration_1` and so on, as Snorkel's; of one `train`, `test`.

    Raises:
        RunError: if there are no pairs.
    """
    ids = {iteration.number: [pair.prompt.id for pair, _ in iteration.items()] for iteration in rounds}
    held_out = test_prompts((prompt for some in ids.values() for prompt in some), test_share)
    if empty := [number for number, some in ids.items() if not some]:
        raise RunError(
            f"round {empty[0]} has no pairs, so there is nothing to publish of it. Lower pairing.min_gap and run again."
        )
    schema, splits = schema_of(largest_set(rounds), lists=any(one_round.has_lists for one_round in rounds)), dict[str, int]()
    (directory / "data").mkdir(exist_ok=True)
    for iteration in rounds:
        behind = f"_iteration_{iteration.number}" if len(rounds) > 1 else ""
        tests = sum(prompt in held_out for prompt in ids[iteration.number])
        for name, count, is_test in (("train", len(ids[iteration.number]) - tests, False), ("test", tests, True)):
            if count:
                rows = (row for row in rows_of(iteration) if (row["prompt_id"] in held_out) == is_test)
                splits[f"{name}{behind}"] = _write_split(rows, count, directory / "data", f"{name}{behind}", schema)
    return splits


def _write_split(rows: Iterator[dict[str, Any]], count: int, directory: Path, split: str, schema: pa.Schema) -> int:
    files = math.ceil(count / ROWS_PER_FILE)
    for number in range(files):
        left = iter(islice(rows, ROWS_PER_FILE))
        path = directory / f"{split}-{number:05d}-of-{files:05d}.parquet"
        with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            while some := list(islice(left, ROWS_AT_A_TIME)):
                writer.write_table(pa.Table.from_pylist(some, schema))
    return count


def first_rows(directory: Path, count: int) -> list[dict[str, Any]]:
    """Return the first rows of a written data set."""
    paths = sorted((directory / "data").glob("train*.parquet"))
    rows: list[dict[str, Any]] = []
    for path in paths[:1]:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=count):
            rows += batch.to_pylist()
            break
    return rows[:count]

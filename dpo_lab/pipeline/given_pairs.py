"""Pairs that exist before a run: read, and refused if they lack a label that the loss reads."""

import json
from collections.abc import Sequence

from dpo_lab.components import RunError, plain_fields
from dpo_lab.data.base import Data, GivenPairs
from dpo_lab.evaluation.base import Measure
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.training.iteration import Iteration

NOT_READ = ("max_length", "truncation", "order", "sampler", "ranker", "pairing")
"""Fields of data that change nothing of what is read."""
Found = Exception | list[GivenPairs]
"""What reading data found: pairs, none where they are made later, or why they cannot be used."""


def read_pairs(data: Data, rounds: int) -> list[GivenPairs]:
    """Return the pairs of each round, none if they are made in the rounds; DataError if they cannot be read."""
    return data.load(rounds)


def given_pairs(data: Data, loss: PreferenceLoss, rounds: int) -> list[GivenPairs]:
    """Return the pairs of each round like `read_pairs`; RunError if they lack a label that the loss reads."""
    given = read_pairs(data, rounds)
    refuse_unlabelled(loss, given, data.label)
    return given


def data_key(data: Data, evaluation: Measure, iteration: Iteration) -> str:
    """Return what decides what reading finds: not how long rows may be, nor in which order they are taken."""
    parts = (data, data.asks, evaluation.asks)
    fields = [plain_fields(part) if part else None for part in parts]
    kept = [{name: value for name, value in of_part.items() if name not in NOT_READ} if of_part else None for of_part in fields]
    return json.dumps([kept, iteration.rounds, iteration.prompts, data.reads_answers], sort_keys=True)


def refuse_unlabelled(loss: PreferenceLoss, given: Sequence[GivenPairs], source: str) -> None:
    """Raise RunError if the loss reads a score or a preference that given pairs do not have."""
    pairs = [pair for split in given for pair in (*split.train, *split.held_out)]
    unknown = {name: sum(getattr(pair, name) is None for pair in pairs) for name in loss.needs_labels}
    if lacking := {name: count for name, count in unknown.items() if count}:
        counts = ", ".join(f"{count} of {len(pairs)} pairs of {source} have no {name}" for name, count in lacking.items())
        raise RunError(f"this loss reads {' and '.join(loss.needs_labels)}; {counts}. Add the columns, or use loss=dpo.")

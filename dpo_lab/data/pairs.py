"""What a pairwise loss takes of the rows that data holds: pairs, and of a ranked list the best against the worst answer."""

from dpo_lab.data.problems import RowProblem, excerpt
from dpo_lab.records import Example, Label, PreferencePair

PAIRS = "pairs.jsonl"
"""The file of the pairs that this project made."""


def pair_of(example: Example) -> PreferencePair:
    """Return the pair of an example; of a ranked list the best against the worst answer, as the Snorkel recipe does.

    Raises:
        RowProblem: it is one labelled answer, which has no other to be compared with.
    """
    if isinstance(example, PreferencePair):
        return example
    if isinstance(example, Label):
        said = "desirable" if example.desirable else "not desirable"
        raise RowProblem("unpaired_labels", f"{excerpt(example.response, 40)} is labelled as {said}")
    best, worst = example.best_and_worst
    return PreferencePair(
        prompt=example.prompt,
        chosen=example.responses[best],
        rejected=example.responses[worst],
        score_chosen=example.scores[best],
        score_rejected=example.scores[worst],
    )


def left_out(example: Example, pair: Example) -> str:
    """Return how many answers of a ranked list its pair does without; "" for none.

    >>> from dpo_lab.records import Candidates, Prompt
    >>> ranked = Candidates(prompt=Prompt.from_text("Why?"), responses=("a", "b", "c"), scores=(0.0, -1.0, -2.0))
    >>> left_out(ranked, pair_of(ranked))
    'the row ranks 3 answers, of which 1 are not used'
    """
    count = len(example.responses) - len(pair.responses)
    return f"the row ranks {len(example.responses)} answers, of which {count} are not used" if count else ""

"""What can be wrong with preference data: the codes, one problem of one row, and the report of a file or split."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["keep", "drop", "error"]

CONSEQUENCES: dict[Verdict, str] = {
    "keep": "kept and counted",
    "drop": "left out",
    "error": "the run stops here",
}
"""What happens to a row, by verdict."""


@dataclass(frozen=True)
class Code:
    """One kind of problem."""

    verdict: Verdict
    """What happens to the row, unless the place that finds it decides otherwise."""
    meaning: str
    remedy: str


CODES: dict[str, Code] = {
    "unknown_layout": Code(
        "error",
        "the columns match no known row format",
        'README.md, "Your own pairs", lists the formats, and docs/example_pairs.jsonl shows one.',
    ),
    "ambiguous_columns": Code(
        "error",
        "a column with text is neither read nor known to describe the row",
        "Name the columns that are meant, as shown with the row; those that you do not name are left out.",
    ),
    "unread_input": Code(
        "error",
        "the rows hold more than text, and the text alone is not the example",
        "Remove the rows that need it, or what is not text if the answers do not depend on it.",
    ),
    "json_text": Code(
        "error",
        "a column holds JSON as text, which would be trained on letter by letter",
        "Write the turns as JSON, not as text with JSON in it.",
    ),
    "several_values": Code(
        "error", "a column holds a list of texts where one text is needed", "Choose one by its position, counted from 0."
    ),
    "answer_object": Code(
        "error", "an answer is an object, and which of its keys is the answer is not known", "Name the key that holds the answer."
    ),
    "unpaired_labels": Code(
        "error",
        "the rows label single answers, and a pairwise loss needs pairs",
        "Every loss so far is pairwise: write rows with two answers to the same prompt, chosen and rejected.",
    ),
    "no_prompt": Code("error", "no column holds the prompt", "Otherwise add a column prompt that holds it."),
    "no_effect": Code("error", "a setting changes nothing", "Leave the setting out."),
    "mixed_formats": Code("error", "the row has another format than the rows before it", "Put one format in one file."),
    "missing_field": Code("error", "a needed column or key is absent", "Add it, or remove the row."),
    "wrong_type": Code("error", "a value is not text where text is needed", "Write the text in quotes, or remove the row."),
    "bad_roles": Code(
        "error",
        "the roles of the turns cannot be used",
        "Use system (first turn only), user and assistant, and end chosen and rejected with an assistant turn.",
    ),
    "bad_score": Code("error", "a score is not a finite number", "Write a number, or null where it is unknown."),
    "score_order": Code(
        "error",
        "the label says one thing and the scores the other",
        "Exchange chosen and rejected, correct the scores, or remove them (a higher score is better).",
    ),
    "prompt_mismatch": Code(
        "drop", "the two responses do not answer the same prompt", "Give both the same turns before the last."
    ),
    "empty_prompt": Code("drop", "there is nothing to answer", "Write the prompt's text, or remove the row."),
    "empty_response": Code("drop", "a response has no text to train on", "Write the response, or remove the row."),
    "chosen_equals_rejected": Code(
        "drop",
        "both responses are the same text, so the loss has no gradient",
        "Write two different responses, or remove the row.",
    ),
    "one_answer": Code(
        "drop", "there are no two answers to compare", "Put all answers to a prompt in one row, or remove the row."
    ),
    "equal_answers": Code(
        "drop", "all answers are the same text, so none can be preferred", "Draw more or more different answers, if you can."
    ),
    "tie": Code(
        "drop", "equal scores carry no preference", "Correct the scores, remove them if the label is right, or remove the row."
    ),
    "control_character": Code("drop", "the text holds a control character, which breaks tokenizers and viewers", "Delete it."),
    "bad_unicode": Code("drop", "the text holds half of a surrogate pair, which no file can store", "Write the whole character."),
    "unusable_answer": Code(
        "keep", "an answer has no text or breaks tokenizers; the others are compared", "No change is needed."
    ),
    "equal_prompt": Code("keep", "the prompt stands in an earlier row; each row is ranked by itself", "No change is needed."),
    "answers_left_out": Code(
        "keep", "the row ranks more than two answers; the best and the worst make the pair", "No change is needed."
    ),
    "consecutive_roles": Code(
        "keep",
        "the turns do not alternate, which some chat templates refuse",
        "Merge the turns if your model's template needs it.",
    ),
    "missing_score": Code("keep", "only one of the two scores is given", "Write both scores or neither."),
    "special_token_in_text": Code(
        "keep",
        "the text holds chat markup or a special token",
        "Remove it unless the text is about it: the template adds its own.",
    ),
    "outer_whitespace": Code("keep", "outer whitespace is stripped under a chat template", "No change is needed."),
    "near_duplicate_responses": Code(
        "keep", "the responses differ only in invisible characters, spacing or accents' encoding", "Check that both are meant."
    ),
    "duplicate_row": Code("keep", "the same pair stands in an earlier row and counts twice", "Remove one unless it is meant."),
    "contradiction": Code("keep", "an earlier row prefers the other response", "Remove one unless raters really disagree."),
}
"""Every code of a row; those that need a tokenizer or its chat template are counted in `dpo_lab.tokens.build`."""


class RowProblem(Exception):  # noqa: N818 - also raised for rows that are only left out
    """Ends the reading of one row: why, and what happens to it."""

    def __init__(self, code: str, found: str, *, verdict: Verdict | None = None) -> None:
        super().__init__(f"{found} [{code}]")
        self.code = code
        self.found = found
        self.verdict: Verdict = verdict or CODES[code].verdict


class DataError(ValueError):
    """A file that cannot be used; the message is all that the user sees."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message.encode("utf-8", "backslashreplace").decode())  # a column's name can hold anything
        self.code = code
        """The kind of fault, as in `CODES`, or one of the file's own: no_file, bad_encoding, too_many_dropped, ..."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing found in one row.

    >>> print(Problem(file="pairs.jsonl", row=3, code="control_character", verdict="drop", found="chosen holds U+0000"))
    pairs.jsonl row 3: chosen holds U+0000 [control_character]; left out. Delete it.
    """

    file: str
    row: int
    """Line of a JSON Lines file, or position in a list, counted from 1."""
    code: str
    verdict: Verdict
    found: str

    def __str__(self) -> str:
        return f"{self.file} row {self.row}: {self.found} [{self.code}]; {CONSEQUENCES[self.verdict]}. {CODES[self.code].remedy}"


KEPT = 100
"""Problems of one code and verdict that are kept with what was found; of the others only the number, however many they are."""


class Problems:
    """What was found in many rows: every problem is counted, and the first ones of each code are kept.

    >>> found = Problems()
    >>> for row in range(1, 1001):
    ...     found.append(Problem(file="pairs.jsonl", row=row, code="tie", verdict="drop", found="both scores are 1"))
    >>> found.counts["drop", "tie"], len(list(found))
    (1000, 100)
    """

    def __init__(self) -> None:
        self.counts = Counter[tuple[Verdict, str]]()
        self._first: list[Problem] = []

    def append(self, problem: Problem) -> None:
        """Count a problem; keep it if it is among the first of its code and verdict."""
        self.counts[problem.verdict, problem.code] += 1
        if self.counts[problem.verdict, problem.code] <= KEPT:
            self._first.append(problem)

    def extend(self, others: "Problems") -> None:
        """Add what was found elsewhere in the same rows."""
        self.counts += others.counts
        self._first += others._first

    def __iter__(self) -> Iterator[Problem]:
        """Yield the problems that are kept, by file and row."""
        return iter(sorted(self._first, key=lambda problem: (problem.file, problem.row)))


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of the rows of one file, or of one split of a data set."""

    file: str
    num_rows: int
    num_kept: int
    noun: str = "pairs"
    """What the rows are kept as."""
    problems: Problems = field(default_factory=Problems)
    unread_columns: tuple[str, ...] = ()
    """Columns that hold something and are not read; named so that nothing is ignored in silence."""
    notes: tuple[str, ...] = ()
    """How the rows were read, where their columns do not say it."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of problems by code, in the order of `CODES`."""
        found = Counter[str]()
        for (_, code), count in self.problems.counts.items():
            found[code] += count
        return {code: found[code] for code in CODES if code in found}

    def number(self, verdict: Verdict) -> int:
        """Return how many problems have this verdict."""
        return sum(count for (one, _), count in self.problems.counts.items() if one == verdict)

    def codes(self, verdict: Verdict) -> dict[str, int]:
        """Return the number of problems with this verdict by code, in the order of `CODES`."""
        return {code: count for code in CODES if (count := self.problems.counts[verdict, code])}

    def of(self, verdict: Verdict) -> list[Problem]:
        """Return the problems with this verdict that are kept, by file and row."""
        return [problem for problem in self.problems if problem.verdict == verdict]

    def spot(self, problem: Problem) -> str:
        """Return where a problem is: its row, and which file where the split has several."""
        return f"row {problem.row}" if problem.file == self.file else f"{problem.file} row {problem.row}"

    def lines(self) -> list[str]:
        """Return a summary for people: what was kept, then per code the count, the first rows, and what to change."""
        dropped = self.number("drop")
        lines = [f"{self.file}: {self.num_rows} rows, {self.num_kept} {self.noun}" + (f", {dropped} left out" if dropped else "")]
        lines += [f"  {note}" for note in self.notes]
        verdicts: tuple[Verdict, ...] = ("error", "drop", "keep")
        for verdict in verdicts:
            found = self.of(verdict)
            for code, count in self.codes(verdict).items():
                of_code = [problem for problem in found if problem.code == code]
                what, remedy = CODES[code].meaning, CODES[code].remedy
                line = f"  {count} x {code} ({first_of(map(self.spot, of_code))}): {what}; {CONSEQUENCES[verdict]}. {remedy}"
                example = f" For instance {self.spot(of_code[0])}: {of_code[0].found}."
                lines.append(line + example if verdict == "drop" else line)
        if self.unread_columns:
            lines.append(f"  columns not read: {excerpt(list(self.unread_columns), 200)}")
        return lines


def first_of(spots: Iterable[str], limit: int = 5) -> str:
    """Return the first distinct places for a message.

    >>> first_of(["row 4", "row 4", "row 9", "row 12"], limit=2)
    'rows 4, 9, ...'
    >>> first_of(["b.parquet row 4", "b.parquet row 5"])
    'b.parquet row 4, b.parquet row 5'
    """
    distinct = list(dict.fromkeys(spots))
    more = ", ..." if len(distinct) > limit else ""
    if len(distinct) > 1 and all(spot.startswith("row ") for spot in distinct):
        return f"rows {', '.join(spot.removeprefix('row ') for spot in distinct[:limit])}{more}"
    return ", ".join(distinct[:limit]) + more


def excerpt(value: object, limit: int = 60) -> str:
    """Return a value as one printable line, cut to `limit` characters.

    >>> excerpt("half a pair: \\ud83d")
    "'half a pair: \\\\ud83d'"
    """
    shown = repr(value)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."

"""A file with one answer to each prompt, such as the outputs of a model: every row is read, or the file is refused."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpo_lab.amounts import count_of
from dpo_lab.data.answers.columns import AnswerColumns, answer_roles_of, refuse_absent
from dpo_lab.data.answers.files import TABLES, AnswerFiles
from dpo_lab.data.answers.rows import AnswerReader, is_own, own
from dpo_lab.data.columns import Row
from dpo_lab.data.files import Rows
from dpo_lab.data.problems import DataError, RowProblem, excerpt
from dpo_lab.data.reader import sample_of
from dpo_lab.data.validation import SURROGATE, refuse_faults, stripped
from dpo_lab.records import Candidates

SETTINGS = {"candidates.columns": "columns", "candidates.path": "answers"}
"""What the readers of answers call their settings, and what they are called where answers are compared."""


def single_answers(path: Path, columns: AnswerColumns, notes: list[str]) -> list[Candidates]:
    """Return the answer to each prompt, in the order of the rows; an empty answer is one.

    Args:
        path: a file that `AnswerFiles` reads, or a directory of some.
        columns: which column holds what; without a name in it, known names decide.
        notes: a line is added on how each file is read.

    Raises:
        DataError: a file cannot be read, its columns can be read in no way or in several, a row cannot be used or has several
            answers, or a prompt stands there twice.
    """
    try:
        found = dict[str, Candidates]()
        for file in AnswerFiles(path=path, columns=columns).files():
            for answer in _answers_in(file, columns, notes):
                if (earlier := found.setdefault(answer.prompt.id, answer)) is not answer:
                    raise DataError(
                        f"{file} row {answer.row}: the prompt {excerpt(answer.prompt.text, 60)} of {earlier.source} row "
                        f"{earlier.row} again, so nothing is compared. Leave one of the two rows out.",
                        code="equal_prompt",
                    )
    except DataError as error:
        message = str(error)
        for name, here in SETTINGS.items():
            message = message.replace(name, here)
        raise DataError(message, code=error.code) from None
    return list(found.values())


def rows_of(path: Path) -> Iterator[tuple[str, int, Row]]:
    """Yield file, number and row of what `single_answers` reads, as the rows stand there; the file as the answer's source is."""
    for file in AnswerFiles(path=path).files():
        yield from ((file.name, number, row) for number, row in _opened(file))


def _opened(file: Path) -> Any:
    """Return the rows of a file with their numbers."""
    table = TABLES.get(file.suffix.lower())
    return table(file) if table else Rows(file, key="answers")


def _answers_in(file: Path, columns: AnswerColumns, notes: list[str]) -> Iterator[Candidates]:
    rows = _opened(file)
    sample = sample_of(rows.again(), [path for paths in columns.named.values() for path in paths])
    if not sample:
        raise DataError(
            f"{file} has no rows, so there are no answers to compare. Give a file with a prompt and an answer in each row.",
            code="no_rows",
        )
    number, count = 1, 0
    try:
        take, note = _reading(sample, columns, file)
        for number, row in rows:
            count += 1
            yield replace(_usable(take(row)), source=file.name, row=number)
        notes.append(f"{file.name}: {count_of(count, 'answer')}{note}")
    except RowProblem as problem:
        raise DataError(
            f"{file} row {number} [{problem.code}], so nothing is compared: {problem.found}", code=problem.code
        ) from None


def _reading(sample: Row, columns: AnswerColumns, file: Path) -> tuple[Callable[[Row], Candidates], str]:
    """Return how rows become candidates, and which columns they are read from, for people."""
    if not columns.named and is_own(sample):
        return own, ""
    refuse_absent(columns, sample, str(file))
    roles = answer_roles_of(sample, columns, one=True)
    return AnswerReader(roles, columns).read, f"; {roles.note()}"


def _usable(candidates: Candidates) -> Candidates:
    """Return candidates of one answer as text, the prompt as other files write it; RowProblem if they cannot be used."""
    if len(candidates.responses) != 1:
        raise RowProblem(
            "several_values",
            f"the prompt has {count_of(len(candidates.responses), 'answer')}, and a file holds one answer to each prompt. "
            "Write the answers of each model into a separate file, or name one column: columns.responses=NAME",
        )
    plain = replace(candidates, drawn=(), preferred=())
    plain = plain if plain.prompt.rendered else stripped(plain)
    refuse_faults(replace(plain, responses=("one", "other")))  # of the prompt: an empty answer is an answer
    if match := SURROGATE.search(plain.responses[0]):
        raise RowProblem("bad_unicode", f"the answer holds U+{ord(match[0]):04X}. Write the whole character")
    return plain

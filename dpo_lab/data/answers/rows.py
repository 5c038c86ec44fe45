"""One row of a file of answers as candidates, without the answers that cannot be used."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpo_lab.data.answers.columns import AnswerColumns, AnswerRoles, listed, texts_of_list, words_for
from dpo_lab.data.answers.labels import preferred_of
from dpo_lab.data.columns import ABSENT, Row, value_at
from dpo_lab.data.formats.base import Parts, user
from dpo_lab.data.formats.transcripts import HH_START, hh_turns, rendered_turns, style_of
from dpo_lab.data.inputs import refuse_inputs, refuse_marks
from dpo_lab.data.json_text import answer_of, refuse_told, unwrapped
from dpo_lab.data.kinds import is_empty
from dpo_lab.data.parts import system_text
from dpo_lab.data.problems import RowProblem, excerpt
from dpo_lab.data.turns import same_turns, split_last, turns_of
from dpo_lab.data.unread import ReadTexts, unexplained
from dpo_lab.data.validation import CONTROL, SURROGATE, refuse_faults, stripped, visible
from dpo_lab.data.written import is_shown, is_turns
from dpo_lab.records import Candidates, Message, PreferencePair, Prompt

OWN = frozenset(("prompt_id", "prompt", "responses", "scores", "finished"))
"""Columns of the candidates that this project writes."""
AS_THEY_STAND = "If a model wrote the turns as they stand, type candidates.columns.text=chat"


@dataclass(frozen=True)
class AnswerReader:
    """How the rows of one file are read."""

    roles: AnswerRoles
    columns: AnswerColumns

    def read(self, row: Row) -> Candidates:
        """Return the candidates of a row, all its answers among them; RowProblem if the row has none."""
        values = self._values(row)
        try:
            answers = [self._answer(value, name) for value, name in values]
        except RowProblem as problem:
            if self.columns.text is None and any(is_shown(value) for value, _ in values):
                raise RowProblem(problem.code, f"{problem.found}. {AS_THEY_STAND}", verdict=problem.verdict) from None
            raise
        self._refuse_mixed(values, answers)
        turns, told = self._prompt(row), [before for before, _ in answers if before]
        if turns is None and not told:
            raise RowProblem("empty_prompt", "no turn stands before the answers")
        turns = told[0] if turns is None else turns
        if any(not same_turns(before, turns) for before in told):
            shown = any(is_shown(value) for value, _ in values) and self.columns.text is None
            found = "the answers do not all answer the same prompt"
            raise RowProblem("prompt_mismatch", f"{found}. {AS_THEY_STAND}" if shown else found)
        texts = [text for _, text in answers]
        labels = {name: value_at(row, name) for name in self.roles.labels}
        said = {name: None if value is ABSENT else value for name, value in labels.items()}
        candidates = Candidates(
            prompt=Prompt.of(turns),
            responses=tuple(texts),
            preferred=preferred_of(said, self.roles.suffixes, texts),
        )
        self._refuse_lost(row, candidates)
        return candidates

    def _values(self, row: Row) -> list[tuple[Any, str]]:
        """Return (value, place) of every answer of a row; a column that is absent or null has none."""
        if not self.roles.in_list:
            found = [(value_at(row, name), name) for name in self.roles.answers]
            if all(value is ABSENT for value, _ in found):
                raise RowProblem("missing_field", f"no column {' or '.join(self.roles.answers)} in this row", verdict="drop")
            return [("" if value is ABSENT or value is None else value, name) for value, name in found]
        (name,) = self.roles.answers
        value = listed(row, name)
        if value is ABSENT:
            raise RowProblem("missing_field", f"no {name!r} among the columns {', '.join(row)}", verdict="drop")
        items = texts_of_list(value) if ABSENT not in (value if isinstance(value, list) else ()) else None
        if items is None:
            raise RowProblem("wrong_type", f"{name} is {excerpt(value)}, not a list of answers", verdict="drop")
        return [(item, f"{name}.{position}") for position, item in enumerate(items)]

    def _answer(self, value: Any, name: str) -> tuple[list[Message], str]:
        """Return the turns before an answer, and its text."""
        if not isinstance(value, str | dict | list):
            raise RowProblem("wrong_type", f"{name} is {excerpt(value)} ({type(value).__name__}), not text", verdict="drop")
        said = self.columns.text is not None
        if not said:
            refuse_told(value, name)
        value = unwrapped(value, name, literal=True, said=said) if value else ""
        if isinstance(value, dict) and not is_turns(value):
            try:
                value, _ = answer_of(value, name)
            except RowProblem as problem:
                (column, *_) = self.roles.answers
                words = words_for((f"{column}.KEY",))
                raise RowProblem(problem.code, f"{problem.found}. Type which key of it is the answer: {words}") from None
        if isinstance(value, str):
            return [], value
        return split_last(turns_of(value, name), name)

    def _refuse_mixed(self, values: Sequence[tuple[Any, str]], answers: Sequence[tuple[list[Message], str]]) -> None:
        """Raise RowProblem if one answer was read as turns and another is plain text, or if it shows turns and stands alone."""
        texts = [(value, name, text) for (value, name), (_, text) in zip(values, answers, strict=True) if isinstance(value, str)]
        read = [(value, name) for value, name, text in texts if text != value]
        plain = [name for value, name, text in texts if text == value and text.strip()]
        if read and (plain or (len(values) == 1 and is_shown(read[0][0]))):
            value, name = read[0]
            beside = f"; {plain[0]} is other text" if plain else ""
            words = AS_THEY_STAND if is_shown(value) else "No setting reads both: write all answers as turns, or each as its text"
            raise RowProblem("wrong_type", f"{name} is {excerpt(value)}, which writes turns{beside}. {words}")

    def _prompt(self, row: Row) -> list[Message] | None:
        """Return the turns of the prompt; None where the answers hold it."""
        beside = self.roles.beside
        if "prompt" not in beside:
            return None
        value = value_at(row, beside["prompt"])
        if value is ABSENT or is_empty(value):
            raise RowProblem("empty_prompt", f"{beside['prompt']} is {'absent' if value is ABSENT else excerpt(value)}")
        values = {role: found for role, name in beside.items() if (found := value_at(row, name)) is not ABSENT}
        if "system" in values:
            values["system"] = system_text(values["system"], beside["system"])
        values["prompt"] = unwrapped(value, beside["prompt"], literal=True)
        parts = Parts(values, dict(beside), is_question=True)
        if isinstance(values["prompt"], str) and (turns_in := transcript_reader(values["prompt"])):
            turns = turns_in(parts, "prompt")
            turns = turns[:-1] if turns and turns[-1]["role"] == "assistant" and not turns[-1]["content"].strip() else turns
        elif isinstance(values["prompt"], str):
            context = parts.text("input")
            turns = [user(f"{values['prompt']}\n\n{context}" if context.strip() else values["prompt"])]
        else:
            turns = parts.turns("prompt")
        turns = parts.before(turns) + turns
        if not turns or turns[-1]["role"] != "user":
            raise RowProblem("bad_roles", f"{beside['prompt']} does not end with a user turn", verdict="drop")
        return turns

    def _refuse_lost(self, row: Row, read: Candidates) -> None:
        """Raise RowProblem if a column that is not read may belong to the prompt; with a mapping, those are left out."""
        if self.columns.named:
            return
        rest = {name: value for name, value in row.items() if name not in self.roles.columns}
        refuse_inputs(rest)
        refuse_marks(read.prompt.messages)
        texts = ReadTexts(tuple(turn["content"] for turn in read.prompt.messages), read.responses)
        if lost := unexplained(rest, texts, strict=False):
            found = f"columns found: {', '.join(row)}; {', '.join(lost)} would not be read and may belong to the prompt"
            raise RowProblem("ambiguous_columns", f"{found}. To leave it out, type {words_for(self.roles.answers)}")


def transcript_reader(text: str) -> Callable[[Parts, str], list[Message]] | None:
    """Return what reads a prompt that holds marks of turns, `Human: ...` or those of a chat template; None for other text."""
    if HH_START.match(text):
        return hh_turns
    return rendered_turns if style_of(text) else None


def of_pair(pair: PreferencePair) -> Candidates:
    """Return the answers of a pair with the chosen one preferred, in an order that the texts' digest decides.

    Chosen answers always in the first place would let a ranker that prefers the first place look right.
    """
    order = (0, 1) if int(pair.id, 16) % 2 else (1, 0)
    return Candidates(
        prompt=pair.prompt,
        responses=tuple(pair.responses[position] for position in order),
        finished=tuple(pair.finished[position] for position in order),
        drawn=tuple(pair.drawn[position] for position in order) if pair.drawn else (),
        preferred=(order.index(0),),
    )


def own(row: Row) -> Candidates:
    """Return the candidates that this project wrote, with their drawn tokens and without the scores of a ranker."""
    try:
        return replace(Candidates.from_record(row), scores=(), pairwise=())
    except (KeyError, TypeError, ValueError) as error:
        raise RowProblem("wrong_type", f"not a row of candidates of this project ({error})", verdict="drop") from error


def is_own(sample: Row) -> bool:
    """Return whether rows are the candidates that this project writes."""
    return sample.keys() >= OWN and is_turns(sample["prompt"])


def usable(candidates: Candidates) -> tuple[Candidates, list[str]]:
    """Return candidates without the answers that cannot be used, and why each is left out; RowProblem if nothing is to compare.

    Answers with drawn tokens are kept as they were drawn.
    """
    remaining = candidates if candidates.drawn or candidates.prompt.rendered else stripped(candidates)
    faults = dict(_faulty(remaining)) if not remaining.drawn else {}
    kept = [position for position in range(len(remaining.responses)) if position not in faults]
    if faults:
        remaining = replace(
            remaining,
            responses=tuple(remaining.responses[position] for position in kept),
            finished=tuple(remaining.finished[position] for position in kept) if remaining.finished else (),
            preferred=tuple(kept.index(position) for position in remaining.preferred if position in kept),
        )
    if len(remaining.responses) < 2:
        holds = f"{len(candidates.responses)} answer{'' if len(candidates.responses) == 1 else 's'}"
        left = f", of which {len(faults)} cannot be used" if faults else ""
        raise RowProblem("one_answer", f"the prompt has {holds}{left}")
    if len({text.strip() for text in remaining.responses}) == 1:
        raise RowProblem("equal_answers", f"all answers are {excerpt(remaining.responses[0])}")
    any_two = ("one", "other")  # drawn texts stay as they are
    refuse_faults(replace(remaining, responses=any_two) if remaining.drawn else remaining)
    return remaining, list(faults.values())


def _faulty(candidates: Candidates) -> Iterator[tuple[int, str]]:
    """Yield (position, what is wrong) of the answers that no pair could be made of."""
    for position, text in enumerate(candidates.responses):
        if not visible(text):
            yield position, "empty"
        elif match := CONTROL.search(text) or SURROGATE.search(text):
            yield position, f"holds U+{ord(match[0]):04X}"

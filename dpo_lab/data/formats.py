"""Layouts of preference rows: `detect` names a row's layout, and one adapter per layout makes it a pair.

Adapters keep texts as they stand; `validation` strips them where a chat template will render them.
"""

from collections.abc import Callable
from typing import Literal

from dpo_lab.data.problems import RowProblem, excerpt
from dpo_lab.data.turns import (
    TRANSCRIPT_START,
    Row,
    common_beginning,
    number_of,
    same_turns,
    split_last,
    text_of,
    transcript_of,
    turns_of,
)
from dpo_lab.records import Message, PreferencePair, Prompt

PROMPT_PARTS = (
    "prompt instruction input question query context system system_prompt history conversations tools".split()  # noqa: SIM905
)
"""Columns that may belong to the prompt: a layout that does not read one of them cannot be the row's layout."""
SCORE_COLUMNS = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen_rating", "rejected_rating"))
SCORED_RESPONSES = ("all_generated_responses", "all_rm_scores")
"""Columns with every answer to the prompt and the score of each, as in the Snorkel data set."""
METADATA = ("id", "prompt_id", "source", "row", "split", "rendered", "preference")
READ_COLUMNS = frozenset(
    {"chosen", "rejected", *PROMPT_PARTS, *METADATA, *SCORED_RESPONSES, *(name for names in SCORE_COLUMNS for name in names)}
)


def detect(row: Row) -> str:
    """Return the name of the row's layout, a key of `ADAPTERS`.

    >>> detect({"prompt": "Q: 1 + 1?\\nA:", "chosen": " 2", "rejected": " 3"})
    'trl_plain_explicit'
    >>> detect({"chosen": "\\n\\nHuman: Hi\\n\\nAssistant: Hello!", "rejected": "\\n\\nHuman: Hi\\n\\nAssistant: What?"})
    'hh_transcript'

    Raises:
        RowProblem: the columns are no layout that is read, or one is absent or holds neither text nor turns.
    """
    absent = [name for name in ("chosen", "rejected") if name not in row]
    if len(absent) == 2:
        raise RowProblem("unknown_layout", f"columns found: {', '.join(row) or '(none)'}")
    if absent:
        raise RowProblem("missing_field", f"no {absent[0]!r} among the columns {', '.join(row)}")
    kinds = {kind for name in ("chosen", "rejected") if (kind := _kind(row, name))}
    if not kinds:
        raise RowProblem("empty_response", "chosen and rejected are both empty")
    if len(kinds) == 2:
        raise RowProblem("wrong_type", "one of chosen and rejected is text and the other is turns")
    layout = _layout(row, kinds.pop())
    unread = [name for name in PROMPT_PARTS if row.get(name) and name not in PROMPT_COLUMNS[layout]]
    if unread:
        raise RowProblem(
            "unknown_layout", f"columns found: {', '.join(row)}; {', '.join(unread)} may belong to the prompt and would be lost"
        )
    return layout


def _kind(row: Row, name: str) -> Literal["text", "turns", ""]:
    """Return what a column holds; nothing for null, blank text and an empty list."""
    value = row.get(name)
    if value is None or value == [] or (isinstance(value, str) and not value.strip()):
        return ""
    if not isinstance(value, str | list | dict):
        raise RowProblem("wrong_type", f"{name} is {excerpt(value)} ({type(value).__name__}), neither text nor turns")
    return "text" if isinstance(value, str) else "turns"


def _layout(row: Row, kind: Literal["text", "turns"]) -> str:
    """Return the layout by columns and by what chosen and rejected hold."""
    if kind == "turns":
        if "prompt" not in row or isinstance(row["prompt"], str):
            return "trl_conversational_implicit"
        return "canonical" if "rendered" in row else "trl_conversational_explicit"
    if "prompt" in row:
        return "trl_plain_explicit"
    if "instruction" in row:
        return "instruction"
    transcript = any(isinstance(row[name], str) and TRANSCRIPT_START.match(row[name]) for name in ("chosen", "rejected"))
    return "hh_transcript" if transcript else "trl_plain_implicit"


def from_canonical(row: Row) -> PreferencePair:
    """Return the pair of a record that `PreferencePair.to_record` wrote."""
    rendered = row["rendered"]
    if not isinstance(rendered, bool):
        raise RowProblem("wrong_type", f"rendered is {excerpt(rendered)}, neither true nor false")
    pair = from_conversational_explicit(row)
    if not rendered:
        return pair
    if [turn["role"] for turn in pair.prompt.messages] != ["user"]:
        raise RowProblem("bad_roles", "a rendered prompt is one user turn with the whole text")
    return _pair(row, list(pair.prompt.messages), pair.chosen, pair.rejected, rendered=True)


def from_conversational_explicit(row: Row) -> PreferencePair:
    """Return the pair of prompt, chosen and rejected as turns; the responses may repeat the prompt's turns."""
    prompt = turns_of(row["prompt"], "prompt")
    responses = []
    for name in ("chosen", "rejected"):
        before, response = split_last(turns_of(row[name], name), name)
        if before and not same_turns(before, prompt):
            raise RowProblem("prompt_mismatch", f"the turns in {name} before its last are not those of prompt")
        responses.append(response)
    return _pair(row, prompt, *responses)


def from_conversational_implicit(row: Row) -> PreferencePair:
    """Return the pair of two whole conversations; a prompt column of text must be their first or last user turn.

    Conversations of one assistant turn take that text as the user turn.
    """
    chosen, rejected = (turns_of(row[name], name) for name in ("chosen", "rejected"))
    text = row.get("prompt")
    if text is None:
        return _from_conversations(row, chosen, rejected)
    if len(chosen) == 1 and len(rejected) == 1:
        return _pair(row, [_user(text)], split_last(chosen, "chosen")[1], split_last(rejected, "rejected")[1])
    pair = _from_conversations(row, chosen, rejected)
    asked = [turn["content"].strip() for turn in pair.prompt.messages if turn["role"] == "user"]
    if text.strip() not in (asked[:1] + asked[-1:]):
        raise RowProblem("prompt_mismatch", f"prompt is {excerpt(text)}, which the conversations do not ask")
    return pair


def from_hh_transcript(row: Row) -> PreferencePair:
    """Return the pair of two transcripts; the last Assistant turn is the response, one space after a colon is markup."""
    return _from_conversations(row, *(transcript_of(row, name) for name in ("chosen", "rejected")))


def from_instruction(row: Row) -> PreferencePair:
    """Return the pair of instruction, input, chosen and rejected; the prompt is one user turn, its parts two newlines apart."""
    instruction, context = text_of(row, "instruction"), text_of(row, "input")
    text = f"{instruction}\n\n{context}" if context.strip() else instruction
    return _pair(row, [_user(text)], text_of(row, "chosen"), text_of(row, "rejected"))


def from_plain_explicit(row: Row) -> PreferencePair:
    """Return the pair of prompt, chosen and rejected as text that never meets a chat template."""
    return _pair(row, [_user(text_of(row, "prompt"))], text_of(row, "chosen"), text_of(row, "rejected"), rendered=True)


def from_plain_implicit(row: Row) -> PreferencePair:
    """Return the pair of two whole texts, whose common beginning is the prompt.

    No mark says where the prompt ends. Taken is the longest common beginning after which both texts go on with
    whitespace, as in TRL, so no response begins inside a word; words that both responses share at their start fall to
    the prompt, where they are not trained. Give a prompt column where that matters.

    >>> pair = from_plain_implicit({"chosen": "Q: 7 + 8?\\nA: It is 15.", "rejected": "Q: 7 + 8?\\nA: It is 16."})
    >>> pair.prompt.text, pair.chosen, pair.rejected
    ('Q: 7 + 8?\\nA: It is', ' 15.', ' 16.')
    """
    chosen, rejected = text_of(row, "chosen"), text_of(row, "rejected")
    if not chosen.strip() or not rejected.strip():
        raise RowProblem("empty_response", f"{'rejected' if chosen.strip() else 'chosen'} has no text")
    if chosen.strip() == rejected.strip():
        raise RowProblem("chosen_equals_rejected", "chosen and rejected are the same text")
    end = common_beginning(chosen, rejected)
    if not end:
        raise RowProblem(
            "empty_prompt", "chosen and rejected have no word in common at their start, and there is no prompt column"
        )
    return _pair(row, [_user(chosen[:end])], chosen[end:], rejected[end:], rendered=True)


Adapter = Callable[[Row], PreferencePair]
ADAPTERS: dict[str, Adapter] = {
    "canonical": from_canonical,
    "trl_conversational_explicit": from_conversational_explicit,
    "trl_conversational_implicit": from_conversational_implicit,
    "trl_plain_explicit": from_plain_explicit,
    "trl_plain_implicit": from_plain_implicit,
    "instruction": from_instruction,
    "hh_transcript": from_hh_transcript,
}
PROMPT_COLUMNS = {**dict.fromkeys(ADAPTERS, ("prompt",)), "instruction": ("instruction", "input")}
"""Columns that each layout reads as the prompt."""


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _from_conversations(row: Row, chosen: list[Message], rejected: list[Message]) -> PreferencePair:
    """Return the pair of two conversations that must agree in all turns but the last."""
    prompt, answer = split_last(chosen, "chosen")
    other_prompt, other_answer = split_last(rejected, "rejected")
    if not same_turns(prompt, other_prompt):
        raise RowProblem("prompt_mismatch", "chosen and rejected differ before their last turns")
    return _pair(row, prompt, answer, other_answer)


def _pair(row: Row, prompt: list[Message], chosen: str, rejected: str, *, rendered: bool = False) -> PreferencePair:
    """Return the pair with the row's scores."""
    names = next((names for names in SCORE_COLUMNS if any(name in row for name in names)), None)
    score_chosen, score_rejected = (number_of(row, name) for name in names) if names else scores_by_text(row, chosen, rejected)
    preference = number_of(row, "preference")
    if preference is not None and not 0 <= preference <= 1:
        raise RowProblem("bad_score", f"preference is {preference}, not a probability from 0 to 1")
    return PreferencePair(
        prompt=Prompt.of(prompt, rendered=rendered),
        chosen=chosen,
        rejected=rejected,
        score_chosen=score_chosen,
        score_rejected=score_rejected,
        preference=preference,
    )


def scores_by_text(row: Row, chosen: str, rejected: str) -> tuple[float | None, float | None]:
    """Return the scores that a row's list of answers gives the two responses, None where there is none.

    A text that stands there twice was chosen for its higher score, or rejected for its lower one.

    >>> scores_by_text({"all_generated_responses": ["a", "b", "a"], "all_rm_scores": [1, -1, 2]}, "a", "b")
    (2.0, -1.0)
    """
    texts, numbers = (row.get(name) or [] for name in SCORED_RESPONSES)
    if not isinstance(texts, list) or not isinstance(numbers, list) or len(texts) != len(numbers):
        raise RowProblem("bad_score", f"{' and '.join(SCORED_RESPONSES)} are not two lists of one length")
    found: dict[str, list[float]] = {}
    for position, text in enumerate(texts):
        name = f"{SCORED_RESPONSES[1]}[{position}]"
        score = number_of({name: numbers[position]}, name)
        if isinstance(text, str) and score is not None:
            found.setdefault(text.strip(), []).append(score)
    of_chosen, of_rejected = (found.get(text.strip(), []) for text in (chosen, rejected))
    return max(of_chosen, default=None), min(of_rejected, default=None)

"""Values that stand in a column as something else: JSON text, a list of one text, an answer inside an object."""

from typing import Any

from dpo_lab.data.inputs import refuse_inputs
from dpo_lab.data.problems import RowProblem, excerpt
from dpo_lab.data.unread import ReadTexts, unexplained
from dpo_lab.data.written import CONVERSATION_KEYS, is_turns, turn_keys, written_in

ANSWER_KEYS = ("answer", "text", "content", "response", "output", "completion", "generation", "message", "value")
"""Keys of an object under which its answer is known to stand."""
SCORE_KEYS = ("score", "rating", "reward")


def of_text(text: str, name: str, *, literal: bool, said: bool = False) -> Any:
    """Return the turns that a text writes, or the text.

    Args:
        literal: other JSON is the text itself, because of what its column is.
        said: turns in a fence or behind a label are the text itself too, because the user said what text means here.

    Raises:
        RowProblem: the text is JSON and no turns, or the beginning of turns that cannot be parsed.
    """
    written = written_in(text)
    if written is None or (said and written.shown):
        return text
    if written.counts and is_turns(written.value):
        return written.value
    if written.value is None and written.begins_like_turns:
        raise RowProblem("json_text", f"{name} is {excerpt(text)}, which begins like turns and is neither JSON nor Python")
    if not written.counts or literal or not holds_structure(written.value):
        return text
    raise RowProblem("json_text", f"{name} is {excerpt(text)}, JSON that holds no turns")


def refuse_told(value: Any, name: str) -> None:
    """Raise RowProblem if an answer is a sentence and turns behind it: `Here is the JSON: [...]`."""
    written = written_in(value) if isinstance(value, str) else None
    if written and written.told:
        raise RowProblem("json_text", f"{name} is {excerpt(value)}, turns behind a sentence")


def holds_structure(value: Any) -> bool:
    """Return whether parsed JSON is more than a list of numbers, which an answer may well be."""
    return isinstance(value, dict) or any(isinstance(item, str | dict | list) for item in value)


def unwrapped(value: Any, name: str, *, literal: bool = False, said: bool = False) -> Any:
    """Return the text or the turns that a column holds, out of JSON text, a list of one text, or an object around turns.

    Arguments as for `of_text`.

    Raises:
        RowProblem: it holds several texts, JSON that is not turns, or an object with more than turns in it.
    """
    if isinstance(value, str):
        value = of_text(value, name, literal=literal, said=said)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        if len(value) > 1:
            raise RowProblem(
                "several_values",
                f"{name} holds {len(value)} texts, and one is needed; {name}.0 is the first, {excerpt(value[0])}",
            )
        return unwrapped(value[0], name, literal=literal, said=said)
    if isinstance(value, dict) and not turn_keys(value):
        key = next((key for key in CONVERSATION_KEYS if is_turns(value.get(key))), "")
        if key:
            refuse_more(value, {key}, name)
            return value[key]
    return value


def answer_of(value: dict[str, Any], name: str) -> tuple[Any, Any]:
    """Return (answer, score or None) of an object that is not a turn; the answer is text or turns.

    Raises:
        RowProblem: none or several of its keys are known to hold the answer, or another key holds text.
    """
    keys = [key for key in ANSWER_KEYS if isinstance(value.get(key), str) or is_turns(value.get(key))]
    if len(keys) != 1:
        raise RowProblem("answer_object", f"{name} is an object with the keys {', '.join(map(str, value)) or '(none)'}")
    score = next((key for key in SCORE_KEYS if key in value), None)
    refuse_more(value, {keys[0], score}, name)
    return value[keys[0]], value[score] if score else None


def refuse_more(value: dict[str, Any], read: set[str | None], name: str) -> None:
    """Raise RowProblem if an object holds text or inputs beside the keys that are read."""
    rest = {f"{name}.{key}": item for key, item in value.items() if key not in read}
    refuse_inputs(rest)
    if left := unexplained(rest, ReadTexts(), strict=False):
        raise RowProblem("ambiguous_columns", f"{', '.join(left)} would be lost")

"""The words to type for a file whose columns nobody knows: data.columns.prompt=... with the names that the file has."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dpo_lab.data.columns import ABSENT, Row, paths_in, setting, value_at
from dpo_lab.data.json_text import ANSWER_KEYS, unwrapped
from dpo_lab.data.kinds import is_empty, is_word, words_of
from dpo_lab.data.problems import RowProblem
from dpo_lab.data.unread import ANSWERS, is_descriptive
from dpo_lab.data.written import is_turns

BETTER = frozenset(
    "chosen preferred better best good accepted positive winner winning win liked correct selected up".split()  # noqa: SIM905
)
WORSE = frozenset(
    "rejected dispreferred worse worst bad negative loser losing lose disliked incorrect wrong down".split()  # noqa: SIM905
)
NOT = frozenset(("non", "not", "un", "less"))
ANSWER_WORDS = ANSWERS | {"reply", "replies", "text", "summary", "translation", "solution", "candidate", "message", "messages"}
PROMPT_WORDS = [
    "prompt",
    "question",
    "query",
    "instruction",
    "messages",
    "conversations",
    "conversation",
    "input",
    "history",
    "context",
    "dialogue",
    "dialog",
    "request",
    "task",
    "user",
    "human",
    "problem",
    "post",
    "source",
    "article",
]
KNOWN_PROMPTS = frozenset("prompt instruction question query messages conversations conversation context input".split())  # noqa: SIM905
KNOWN_WORDS = BETTER | WORSE | ANSWER_WORDS | frozenset(PROMPT_WORDS)
NO_TEXTS = ("None", ["None"], "N/A", "nan")
"""What some programs write where there is no text."""
SCORE_WORDS = frozenset(("score", "rating", "reward"))
NOTHING: Mapping[str, str] = MappingProxyType({})
LABELS = frozenset(("label", "labels", "preference", "preferred", "choice", "winner", "better", "annotator"))


def mapping_for(row: Row, named: Mapping[str, str] = NOTHING, *, prompt: bool = True) -> str:
    """Return the words of the command line that say which column is what; arguments as for `mapped`.

    >>> mapping_for({"query": "Why is it so?", "good_reply": "It is.", "bad_reply": "It is not."})
    'data.columns.prompt=query data.columns.chosen=good_reply data.columns.rejected=bad_reply'
    """
    return " ".join(setting(role, path) for role, path in mapped(row, named, prompt=prompt).items())


def mapped(row: Row, named: Mapping[str, str] = NOTHING, *, prompt: bool = True) -> dict[str, str]:
    """Return the column of each role, as far as the names of the columns tell; NAME where they do not.

    Args:
        row: a row of the file.
        named: what is known already, by role.
        prompt: False where the answers hold the prompt. A prompt of a known name is not named where an input or a history belongs
            to it, which a prompt that is named comes without.
    """
    texts = [path for path in text_paths(row) if path not in named.values()]
    better = named.get("chosen") or first(texts, lambda words: is_better(words) and not is_worse(words))
    worse = named.get("rejected") or first((path for path in texts if path != better), is_worse)
    left = [path for path in texts if path not in (better, worse) and "system" not in words_of(path)]
    answers = [path for path in left if not ANSWER_WORDS.isdisjoint(words_of(path)[-2:])]
    missing = (better is None) + (worse is None)
    asked = named.get("prompt") or next((path for word in PROMPT_WORDS for path in left if word in words_of(path)), None)
    if len(answers) < missing:
        answers = [path for path in left if path != asked]
    if missing and len(answers) >= missing:
        better = better or answers.pop(0)
        worse = worse or answers.pop(0)
    prompt = prompt and ("prompt" in named or not (asked and has_more(row, asked.lower())))
    others = [path for path in left if path not in (better, worse)]
    roles = {
        "prompt": (asked or next(iter(others), None) or "NAME") if prompt else None,
        "chosen": better or "NAME",
        "rejected": worse or "NAME",
        "system": named.get("system") or first(texts, lambda words: "system" in words),
        "score_chosen": named.get("score_chosen") or score_path(row, is_better),
        "score_rejected": named.get("score_rejected") or score_path(row, is_worse),
    }
    return {role: path for role, path in roles.items() if path}


def has_more(row: Row, asked: str) -> bool:
    """Return whether an input or turns before it belong to a prompt of a known name.

    >>> has_more({"instruction": "Sort.", "input": "b a"}, "instruction"), has_more({"ask": "So?", "history": [["a"]]}, "ask")
    (True, False)
    """
    lower = {name.lower(): value for name, value in row.items()}
    context, history = lower.get("input"), lower.get("history")
    beside = asked == "instruction" and isinstance(context, str) and not is_empty(context)
    return beside or (asked in KNOWN_PROMPTS and isinstance(history, list) and not is_empty(history))


def explained_mapping(row: Row, named: Mapping[str, str] = NOTHING, *, prompt: bool = True) -> str:
    """Return what to type for a row, and what the words cannot say; arguments as for `mapping_for`."""
    words = mapping_for(row, named, prompt=prompt)
    roles = mapped(row, named, prompt=prompt)
    chosen, rejected = roles["chosen"], roles["rejected"]
    said = [f"Type which column is what, and the others are left out: {words}"]
    if "NAME" in roles.values():
        said.append("(NAME: the column; a pair needs a better and a worse answer, each in a separate column)")
    elif not ("chosen" in named or is_better(words_of(chosen)) or is_worse(words_of(rejected))):
        labels = [name for name in row if not LABELS.isdisjoint(words_of(name))]
        which = f"{', '.join(labels)} may say which answer is better in each row, and that is not read; " if labels else ""
        said.append(f"({which}{chosen} has to be the better answer in every row)")
    return " ".join(said)


def is_better(words: Sequence[str]) -> bool:
    """Return whether the words of a name say that an answer is the better one."""
    return not BETTER.isdisjoint(words) and NOT.isdisjoint(words)


def is_worse(words: Sequence[str]) -> bool:
    """Return whether the words of a name say that an answer is the worse one.

    >>> is_worse(words_of("non_preferred_output")), is_worse(words_of("preferred_output"))
    (True, False)
    """
    return not WORSE.isdisjoint(words) or (not BETTER.isdisjoint(words) and not NOT.isdisjoint(words))


def text_paths(row: Row) -> list[str]:
    """Return the columns, or paths into them, that hold one text or turns; single words only under known names."""
    strong: list[str] = []
    weak: list[str] = []
    for path in paths_in(row):
        value = value_at(row, path)
        if value is ABSENT or is_empty(value) or is_descriptive(path) or value in NO_TEXTS:
            continue
        try:
            value = unwrapped(value, path)
        except RowProblem:
            continue
        if is_turns(value) or isinstance(value, str):
            (weak if isinstance(value, str) and is_word(value) else strong).append(path)
    strong += [path for path in weak if "." not in path and not KNOWN_WORDS.isdisjoint(words_of(path))]
    return sorted(
        strong, key=lambda path: "." in path and path.rpartition(".")[2] not in ANSWER_KEYS
    )  # stable: else as in the file


def first(paths: Iterable[str], holds: Callable[[Sequence[str]], Any]) -> str | None:
    """Return the first path whose words a condition holds for."""
    return next((path for path in paths if holds(words_of(path))), None)


def score_path(row: Row, holds: Callable[[Sequence[str]], bool]) -> str | None:
    """Return the path of a number that is the score of the better or the worse answer by its name."""
    named = (path for path in paths_in(row) if holds(words_of(path)) and not SCORE_WORDS.isdisjoint(words_of(path)))
    return next((path for path in named if isinstance(value_at(row, path), int | float)), None)

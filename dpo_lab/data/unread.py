"""Columns that a format does not read: known metadata, repetitions of what is read, or text that would be lost.

A column may stay unread only if it can be told that nothing of the example is lost:

- it is empty, a number, true or false, a date, or a word (`is_word`);
- its name says that it describes the row (`DESCRIBES`, `JUDGES`) or holds another answer (`ANSWERS`); where no column holds the
  prompt, such a name is not enough: what is called a source or feedback may be the prompt;
- its texts repeat what is read, with or without chat markup around them.

Anything else may be the prompt or a part of it, so the rows are refused until a person says what is what.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from dpo_lab.data.kinds import MEDIA_WORDS, TOOL_WORDS, is_empty, is_media, is_word, texts_in, words_of
from dpo_lab.data.problems import RowProblem, excerpt

DESCRIBES = frozenset(
    [
        "id",
        "ids",
        "uid",
        "uuid",
        "idx",
        "index",
        "row",
        "rows",
        "key",
        "hash",
        "source",
        "sources",
        "origin",
        "dataset",
        "datasets",
        "subset",
        "split",
        "lang",
        "language",
        "model",
        "models",
        "generator",
        "generators",
        "annotator",
        "annotators",
        "rater",
        "raters",
        "author",
        "category",
        "categories",
        "tag",
        "tags",
        "label",
        "labels",
        "score",
        "scores",
        "rating",
        "ratings",
        "rank",
        "ranks",
        "reward",
        "rewards",
        "preference",
        "margin",
        "date",
        "time",
        "timestamp",
        "created",
        "updated",
        "url",
        "urls",
        "link",
        "links",
        "license",
        "licence",
        "version",
        "revision",
        "meta",
        "metadata",
        "annotation",
        "annotations",
        "critique",
        "critiques",
        "rationale",
        "rationales",
        "justification",
        "explanation",
        "explanations",
        "feedback",
        "verdict",
        "judgement",
        "judgment",
        "status",
        "type",
        "types",
        "domain",
        "difficulty",
        "quality",
        "config",
        "configs",
        "parameters",
    ]
)
"""Last words of names of columns about a row, its origin or its judgement; none of them is a part of the question."""
REMARKS = frozenset(
    [
        *("meta", "metadata", "annotation", "annotations", "critique", "critiques", "rationale", "rationales", "justification"),
        *("explanation", "explanations", "feedback", "verdict", "judgement", "judgment", "config", "configs", "parameters"),
        *("license", "licence"),
    ]
)
"""Those of them under which prose is expected; elsewhere, as in a source, it may be what the question is about."""
PROSE = 12
"""Words from which on a text is prose."""
JUDGES = frozenset(["judge", "labelling", "labeling"])
"""First words of names of columns about the judgement, a judge's own prompt among them."""
ANSWERS = frozenset(
    [
        "response",
        "responses",
        "output",
        "outputs",
        "completion",
        "completions",
        "answer",
        "answers",
        "generation",
        "generations",
        "generate",
    ]
)
"""Last words of names of columns with further answers, which no pair needs beside chosen and rejected: SPPO's `generate_0`."""
QUALIFIERS = frozenset(["chosen", "rejected", "preferred", "a", "b", "c", "j", "k", "w", "l"])
OF_ANSWERS = frozenset(["chosen", "rejected"])
PROMPT_PARTS = frozenset(
    [
        "prompt",
        "instruction",
        "input",
        "question",
        "query",
        "context",
        "system",
        "system_prompt",
        "history",
        "conversation",
        "conversations",
        "messages",
    ]
)
"""Names of columns that belong to a prompt: even one word in them would be missed."""
MARKUP = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos)>|\b(?:system|user|assistant|human|model)\b",
    re.IGNORECASE,
)


class ReadTexts(NamedTuple):
    """The texts of a pair."""

    prompt: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()


def is_descriptive(name: str) -> bool:
    """Return whether a column's name ends in a word that describes a row, before words that tell two answers apart, or speaks of
    a judge.

    >>> [is_descriptive(name) for name in ("prompt_id", "chosen_model", "model_chosen", "source_prompt", "reasoning", "ids.2")]
    [True, True, True, False, False, True]
    """
    return last_word(name) in DESCRIBES or (words_of(name) or ("",))[0] in JUDGES


@lru_cache(maxsize=4096)
def last_word(name: str) -> str:
    """Return the last word of a name that is neither a number nor a word that tells two answers apart; "" if there is none."""
    words = [word for word in words_of(name) if not word.isdigit() and word not in QUALIFIERS]
    return words[-1] if words else ""


def refuse_inputs(columns: Mapping[str, Any], place: str = "") -> None:
    """Raise RowProblem if a column holds what the answers depend on and text does not carry: tools, pictures, sounds, films.

    Args:
        columns: values by name.
        place: what stands before a name in the message.
    """
    for name, value in (place for column in columns.items() for place in places_in(*column)):
        if is_empty(value) or isinstance(value, bool | int | float):
            continue
        tools = last_word(name) in TOOL_WORDS or words_of(name)[-2:] == ("tool", "calls")
        if tools or not MEDIA_WORDS.isdisjoint(words_of(name)) or is_media(value):
            raise RowProblem(
                "unread_input",
                f"{place}{name} holds {excerpt(value)}, which the answers depend on and the text alone does not carry",
            )


def places_in(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a column and every object or list inside it, by its key: metadata may hold the tools of a conversation.

    >>> [name for name, _ in places_in("meta", {"tools": [{"name": "clock"}], "tool": "a name"})]
    ['meta', 'tools']
    """
    yield name, value
    for key, item in value.items() if isinstance(value, dict) else ():
        if isinstance(item, dict | list):
            yield from places_in(str(key), item)
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield from islice(places_in("", item), 1, None)


def unexplained(columns: Mapping[str, Any], read: ReadTexts, *, strict: bool) -> list[str]:
    """Return the columns with text that is neither known metadata nor in what is read.

    Args:
        columns: the columns of a row that nobody reads.
        read: the texts that are read.
        strict: no column holds the prompt, so that one word may be it.
    """
    left = []
    for name, value in columns.items():
        if isinstance(value, bool | int | float) or is_empty(value) or (last_word(name) in ANSWERS and not strict):
            continue
        describes = is_descriptive(name) and not is_prose(name, value)
        if describes and (not strict or not OF_ANSWERS.isdisjoint(words_of(name))):
            continue
        words_count = (strict and not describes) or name.lower() in PROMPT_PARTS
        if any((words_count or not is_word(text)) and not repeats(text, read) for text in texts_in(value)):
            left.append(name)
    return left


def is_prose(name: str, value: Any) -> bool:
    """Return whether a column that is named like a fact about the row holds prose.

    >>> is_prose("source", "evol_instruct"), is_prose("source", "The article says " * 9), is_prose("critique", "It is " * 9)
    (False, True, False)
    """
    a_fact = last_word(name) in DESCRIBES - REMARKS and words_of(name)[0] not in JUDGES
    return a_fact and any(len(text.split()) >= PROSE for text in texts_in(value))


def repeats(text: str, read: ReadTexts) -> bool:
    """Return whether a text says nothing beyond what is read: it is one of the texts, a part of the prompt, or several in markup.

    >>> question = ReadTexts(("Q: Is it late?\\nA:", "Is it late?"), ("No.",))
    >>> repeats("Is it late?", question), repeats("<|user|>\\nIs it late?<|end|><|assistant|>No.", question)
    (True, True)
    >>> repeats("Be brief. Is it late?", question)
    False
    """
    text = text.strip()
    if any(text in piece for piece in read.prompt) or any(text == piece.strip() for piece in read.answers):
        return True
    for piece in sorted((piece.strip() for piece in (*read.prompt, *read.answers) if piece.strip()), key=len, reverse=True):
        text = text.replace(piece, " ")
    return not re.search(r"\w", MARKUP.sub(" ", text))

"""Columns that a format does not read: known metadata, repetitions of what is read, or text that would be lost.

A column may stay unread only if it can be told that nothing of the example is lost:

- it is empty, a number, true or false, a date, or a word (`is_word`);
- its name says that it describes the row (`DESCRIBES`, `JUDGES`) or holds another answer (`ANSWERS`); facts are not sentences;
  where no column holds the prompt, such a name is not enough: what is called a source or feedback may be the prompt;
- its texts repeat what is read, with or without chat markup around them.

Anything else may be the prompt or a part of it, so the rows are refused until a person says what is what.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from dpo_lab.data.kinds import is_empty, is_sentence, is_word, texts_in, words_of
from dpo_lab.data.written import holds_turns, parsed

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
        "probability",
        "probabilities",
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
OF_ALL = frozenset(["all", "generated", "original", "other", "ranked", "raw"])
"""Words beside those in such names."""
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


def unexplained(columns: Mapping[str, Any], read: ReadTexts, *, strict: bool) -> list[str]:
    """Return the columns with text that is neither known metadata nor in what is read.

    Args:
        columns: the columns of a row that nobody reads.
        read: the texts that are read.
        strict: no column holds the prompt, so that one word may be it.
    """
    left = []
    for name, given in columns.items():
        value = parsed(given) if isinstance(given, str) else given
        if isinstance(value, bool | int | float) or is_empty(value) or (not strict and is_other_answer(name)):
            continue
        describes = is_descriptive(name) and not is_prose(name, value)
        if describes and (not strict or not OF_ANSWERS.isdisjoint(words_of(name))):
            if last_word(name) in REMARKS and any(not repeats(text, read) for text in asked_inside(value)):
                left.append(name)
            continue
        words_count = (strict and not describes) or name.lower() in PROMPT_PARTS or holds_turns(value)
        if any((words_count or not is_word(text)) and not repeats(text, read) for text in texts_in(value)):
            left.append(name)
    return left


def is_other_answer(name: str) -> bool:
    """Return whether a column's name says that it holds further answers to the same prompt, and of nobody in particular.

    >>> [is_other_answer(name) for name in ("generate_0", "all_generated_responses", "student_answer", "previous_output")]
    [True, True, False, False]
    """
    words = [word for word in words_of(name) if not word.isdigit() and word not in QUALIFIERS]
    return bool(words) and words[-1] in ANSWERS and ANSWERS.union(OF_ALL).issuperset(words)


def is_prose(name: str, value: Any) -> bool:
    """Return whether a column that is named like a fact about the row holds sentences or turns.

    >>> is_prose("source", "evol_instruct"), is_prose("task_type", "Answer as a pirate."), is_prose("critique", "It is wrong.")
    (False, True, False)
    """
    a_fact = last_word(name) in DESCRIBES - REMARKS and words_of(name)[0] not in JUDGES
    return a_fact and (holds_turns(value) or any(is_sentence(text) for text in texts_in(value)))


def asked_inside(value: Any) -> Iterator[str]:
    """Yield the texts inside an object of metadata that stand under names of parts of a prompt, but for single words.

    >>> list(asked_inside({"system": "Be brief.", "raw": {"output": "It is."}, "judge": {"prompt": "Judge it."}}))
    ['Be brief.']
    """
    for key, item in value.items() if isinstance(value, dict) else ():
        if last_word(str(key)) in PROMPT_PARTS:
            yield from (text for text in texts_in(item) if not is_word(text))
        elif JUDGES.isdisjoint(words_of(str(key))):
            yield from asked_inside(item)
    for item in value if isinstance(value, list) else ():
        yield from asked_inside(item)


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

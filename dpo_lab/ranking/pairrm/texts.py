"""How PairRM reads a prompt and two answers: three segments, each behind a token that says what it is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lab.components import ConfigError

SOURCE, FIRST, SECOND, EITHER = "<|source|>", "<|candidate1|>", "<|candidate2|>", "<|candidate|>"
TOKENIZER = "tokenizer.json"
PREFIXES = (SOURCE, FIRST, SECOND, EITHER)
CONTROL = ("[SEP]", *PREFIXES)
"""Tokens of the format that a text may hold literally: blanks stand for them, since one more would be read as a segment's own.

llm-blender blanks [SEP] and ends with an error at a prefix; it reads a literal [CLS] or [PAD] as the token, and so does this."""


@dataclass(frozen=True)
class Comparison:
    """One row: a prompt with two answers in the order in which they are shown."""

    ids: list[int]
    anchors: tuple[int, int, int]
    """Where the prefixes of prompt, first and second answer stand."""


class PairTexts:
    """Turns prompts and answers into rows, each text tokenised once.

    Args:
        source_length: tokens of a prompt at most, those of the format included.
        candidate_length: tokens of an answer at most; tokens that a short prompt leaves free are shared by both.
    """

    def __init__(self, tokenizer: Any, source_length: int, candidate_length: int) -> None:
        self.tokenizer, self.source_length, self.candidate_length = tokenizer, source_length, candidate_length
        self.start, self.end, self.second = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]", SECOND))

    def segments(self, texts: Iterable[str], prefix: str) -> dict[str, list[int]]:
        """Return each text's token ids as a segment: [CLS], its prefix, the text, [SEP]; not yet cut."""
        distinct = sorted(set(texts))
        encoded = self.tokenizer.encode_batch([prefix + without_control(text) for text in distinct], add_special_tokens=False)
        return {text: [self.start, *each.ids, self.end] for text, each in zip(distinct, encoded, strict=True)}

    def cut_prompt(self, segment: Sequence[int]) -> list[int]:
        """Return a prompt's segment at its greatest length; its end is cut, the closing [SEP] stays."""
        return cut(segment, self.source_length)

    def cut_answer(self, segment: Sequence[int], prompt: Sequence[int]) -> list[int]:
        """Return an answer's segment at the greatest length beside a prompt that is cut already."""
        return cut(segment, self.candidate_length + (self.source_length - len(prompt)) // 2)

    def comparison(self, prompt: list[int], first: list[int], second: list[int]) -> Comparison:
        """Return the row of segments that are cut; answers are segments behind the first prefix, whichever place they take."""
        ids = [*prompt, *first, second[0], self.second, *second[2:]]
        return Comparison(ids, (1, len(prompt) + 1, len(prompt) + len(first) + 1))


def without_control(text: str) -> str:
    """Return a text with blanks in place of the format's own tokens.

    >>> without_control("one[SEP]two <|candidate1|>")
    'one two  '
    """
    for token in CONTROL:
        text = text.replace(token, " ")
    return text


def cut(segment: Sequence[int], length: int) -> list[int]:
    """Return a segment of at most so many tokens that keeps its last.

    >>> cut([1, 7, 8, 9, 2], 4)
    [1, 7, 8, 2]
    """
    return list(segment) if len(segment) <= length else [*segment[: length - 1], segment[-1]]


def refuse_without_tokenizer(directory: Path) -> None:
    """Raise ConfigError if a directory has no tokenizer.json."""
    if not (directory / TOKENIZER).is_file():
        other = " Its spm.model alone does not serve." if (directory / "spm.model").is_file() else ""
        raise ConfigError(
            f"ranker.path={directory} has no {TOKENIZER}.{other} Copy it from llm-blender/PairRM, or give a whole directory."
        )


def load_tokenizer(directory: Path) -> Any:
    """Return a directory's tokenizer as its tokenizer.json describes it.

    transformers 5 builds one anew and loses the normaliser that DeBERTa-v3 was trained with (NFKC): an ellipsis, fractions or
    full-width digits become unknown, and scores change without a word (DebertaV2Tokenizer, tried
    with 5.17 to 5.23).

    Raises:
        ConfigError: if there is none that PairRM can use.
    """
    from tokenizers import Tokenizer

    refuse_without_tokenizer(directory)
    try:
        tokenizer = Tokenizer.from_file(str(directory / TOKENIZER))
    except Exception as error:  # the library raises Exception itself
        raise ConfigError(f"ranker.path={directory}: {TOKENIZER} cannot be read ({error}). Copy it again.") from error
    if absent := [token for token in ("[PAD]", "[CLS]", "[SEP]") if tokenizer.token_to_id(token) is None]:
        raise ConfigError(f"ranker.path={directory}: its tokenizer does not know {', '.join(absent)}, so it is not PairRM's.")
    tokenizer.add_tokens([token for token in PREFIXES if tokenizer.token_to_id(token) is None])
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer

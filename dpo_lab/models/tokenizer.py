"""Tokenizers: those that lack a chat template or name another end than their template writes, completed and said."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jinja2.exceptions import TemplateError

from dpo_lab.components import ConfigError
from dpo_lab.models.ends import remember_ends

MARK = "\u241f"
SOURCES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json", "added_tokens.json")
"""Files that a vocabulary was made from: sentencepiece's, Mistral's, and tokens that were added to those."""
STARTS_UNASKED = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer")
"""Classes of which version 4 puts the start token before a text, and no end token behind it, whatever tokenizer.json says."""

PLAIN_TEMPLATE = (
    "{% for turn in messages %}"
    "{% if turn['role'] == 'user' %}{{ '\n\nHuman: ' + turn['content'] | trim }}"
    "{% elif turn['role'] == 'assistant' %}{{ '\n\nAssistant: ' + turn['content'] | trim }}"
    "{% else %}{{ turn['content'] | trim }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)
"""For models without one: the transcripts of HH (Bai et al. 2022, arXiv:2204.05862), on which Rafailov et al. 2023 trained
Pythia-2.8B."""


def completed(tokenizer: Any, path: str, ends: Collection[int] = ()) -> tuple[str, ...]:
    """Give a tokenizer what training needs; return what was done, one line each.

    Everything later, a saved policy too, then has the same template and the same end of an answer.

    Args:
        ends: ids at which the model's configuration and generation settings end an answer.

    Raises:
        ConfigError: if nothing says where an answer ends.
    """
    notes = []
    remember_ends(tokenizer, SimpleNamespace(eos_token_id=ends))
    if not tokenizer.chat_template:
        tokenizer.chat_template = ("{{ bos_token }}" if adds_start(tokenizer) else "") + PLAIN_TEMPLATE
        notes.append("no chat template: turns are written as \\n\\nHuman: ... \\n\\nAssistant: ... and a system turn as it is")
    end, named = end_of_turn(tokenizer, ends), tokenizer.eos_token
    if not (end or named):
        raise ConfigError(
            f"model.path={path}: its tokenizer names no end token and its chat template writes none, so that answers would never "
            "end. Set eos_token in its tokenizer_config.json."
        )
    if end and end != named:
        notes.append(f"answers end with {end}, which the chat template writes{f', not with {named}' if named else ''}")
        tokenizer.eos_token = end
    return tuple(notes)


def has_own_template(tokenizer: Any) -> bool:
    """Return whether a completed tokenizer has a chat template that came with the model."""
    return not str(tokenizer.chat_template).endswith(PLAIN_TEMPLATE)


def adds_start(tokenizer: Any) -> bool:
    """Return whether a tokenizer puts its start token before a text unasked."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def end_of_turn(tokenizer: Any, ends: Collection[int] = ()) -> str | None:
    """Return the token with which the chat template ends an answer; None if it writes none.

    It is the first that tokenizer or model name as an end: sampling ends there, and what the template writes behind it (Phi-3's
    second end token) is never generated. If they name none of those, it is the first special token.
    """
    try:
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": MARK}]
        _, mark, tail = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(MARK)
    except TemplateError:
        return None
    written = tokenizer(tail, add_special_tokens=False)["input_ids"] if mark and tail else []
    added, named = tokenizer.added_tokens_decoder, {tokenizer.eos_token_id, *ends}
    first = next((token for token in written if token in named), next((token for token in written if token in added), None))
    return None if first is None else str(tokenizer.convert_ids_to_tokens(first))


def refuse_unembedded(tokenizer: Any, rows: int, path: str) -> None:
    """Raise ConfigError if a tokenizer has tokens that the model has no row for; those for padding are never used here."""
    padding = tokenizer.pad_token_id
    if lacking := sorted(token for token in tokenizer.get_vocab().values() if token >= rows and token != padding):
        first = tokenizer.convert_ids_to_tokens(lacking[0])
        raise ConfigError(
            f"model.path={path}: the tokenizer has {len(lacking)} token{'s'[: len(lacking) > 1]} that the model has no embedding "
            f"for ({first!r} is number {lacking[0]}, the model has {rows} rows). Take the tokenizer that belongs to these "
            "weights, or resize and train the embeddings first."
        )


def write_tokenizer(tokenizer: Any, directory: Path, source: Path | None) -> None:
    """Write a tokenizer with the files that its vocabulary was made from, which llama.cpp reads and the library leaves behind.

    Args:
        source: the base's directory; a policy from elsewhere has none of those files.
    """
    tokenizer.save_pretrained(str(directory))
    for each in (Path(tokenizer.name_or_path) if tokenizer.name_or_path else None, source):
        if each:
            bring_sources(each, directory)
    readable_by_version_4(directory, tokenizer)


def write_plain_tokenizer(tokenizer: Any, directory: Path, **special: Any) -> None:
    """Write a tokenizer of the library `tokenizers` in the files that transformers reads.

    Args:
        special: names of its special tokens, as transformers calls them.
    """
    from transformers import PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, **special).save_pretrained(str(directory))
    readable_by_version_4(directory)


def bring_sources(source: Path, directory: Path) -> None:
    """Copy those files a vocabulary was made from that are in one directory and not in another."""
    for name in SOURCES:
        if (source / name).is_file() and not (directory / name).exists():
            shutil.copyfile(source / name, directory / name)


def readable_by_version_4(directory: Path, tokenizer: Any = None) -> None:
    """Name in a written tokenizer's configuration what transformers 4 knows too, which converters and servers may have.

    Version 5 writes its own class (`TokenizersBackend`) and a list of extra tokens where 4 expects names; it reads both. It
    takes from tokenizer.json which tokens are put around a text, where some classes of 4 decide themselves.

    Args:
        tokenizer: the one that was written; None if its class does not put tokens around a text.
    """
    path = directory / "tokenizer_config.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    if about.get("tokenizer_class") == "TokenizersBackend":
        about["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(about.get("extra_special_tokens"), list):
        about["additional_special_tokens"] = about.pop("extra_special_tokens")
    if tokenizer is not None and str(about.get("tokenizer_class")).removesuffix("Fast") in STARTS_UNASKED:
        around = tokenizer("a")["input_ids"]
        starts, ends = around[:1] == [tokenizer.bos_token_id], around[-1:] == [tokenizer.eos_token_id]
        if (starts, ends) != (True, False):
            about |= {"add_bos_token": starts, "add_eos_token": ends}
    path.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

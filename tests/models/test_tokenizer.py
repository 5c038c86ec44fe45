"""Tokenizers of real models: without template, without padding, with another end, with tokens that have no weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.components import ConfigError
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.models.load import completed_tokenizer, load_model, load_tokenizer
from dpo_lab.models.tokenizer import completed, readable_by_version_4, write_tokenizer
from dpo_lab.records import Message, PreferencePair, Prompt
from dpo_lab.scoring.fitting import fitted
from dpo_lab.scoring.score import score
from dpo_lab.tokens.build import tokenise_items
from dpo_lab.tokens.template import ChatEncoder
from tests.models.directories import as_published, byte_fallback, byte_level, model_directory, tokenizer_of

ASKED = Prompt(id="a", messages=({"role": "user", "content": "what is a fox?"},))
TWO_TURNS: tuple[Message, ...] = (
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "one?"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three?"},
)
ENDS = {"mistral": "</s>", "llama2": "</s>", "llama3": "<|eot_id|>", "qwen2": "<|im_end|>", "qwen3": "<|im_end|>"}
ENDS |= {"gemma2": "<end_of_turn>", "gpt2": "<|endoftext|>", "pythia": "<|endoftext|>"}


@pytest.mark.parametrize("name", ENDS)
def test_an_answer_ends_with_the_token_that_the_model_ends_its_turns_with(tmp_path: Path, name: str) -> None:
    tokenizer = load_tokenizer(str(model_directory(tmp_path, name)))
    (encoded,) = ChatEncoder(tokenizer).encode([(ASKED, "a lazy dog")])
    assert tokenizer.decode(encoded.response).strip() == f"a lazy dog{ENDS[name]}"
    assert encoded.response.count(tokenizer.eos_token_id) == 1
    start = tokenizer.bos_token_id
    assert encoded.prompt.count(start) == (1 if name in ("mistral", "llama2", "llama3", "gemma2") else 0)


def test_another_end_than_the_tokenizer_names_is_said_and_saved(tmp_path: Path) -> None:
    tokenizer, notes = completed_tokenizer(str(model_directory(tmp_path / "gemma", "gemma2")))
    assert notes == ("answers end with <end_of_turn>, which the chat template writes, not with <eos>",)
    tokenizer.save_pretrained(tmp_path / "saved")
    again, notes = completed_tokenizer(str(tmp_path / "saved"))
    assert (again.eos_token, notes) == ("<end_of_turn>", ())


def test_without_a_template_turns_are_those_of_hh(tmp_path: Path) -> None:
    tokenizer, notes = completed_tokenizer(str(model_directory(tmp_path / "gpt2", "gpt2")))
    assert [note.partition(":")[0] for note in notes] == ["no chat template"]
    encoder = ChatEncoder(tokenizer)
    prompt = Prompt(id="b", messages=TWO_TURNS)
    text = "be brief\n\nHuman: one?\n\nAssistant: two\n\nHuman: three?\n\nAssistant:"
    assert encoder.prompt_text(prompt) == text
    (encoded,) = encoder.encode([(prompt, "four")])
    assert tokenizer.decode([*encoded.prompt, *encoded.response]) == text + " four<|endoftext|>"
    tokenizer.save_pretrained(tmp_path / "saved")  # what others load from a policy has the template it was trained with
    assert ChatEncoder(load_tokenizer(str(tmp_path / "saved"))).prompt_ids([prompt]) == encoder.prompt_ids([prompt])


def test_without_a_template_a_tokenizer_that_adds_a_start_token_gets_exactly_one() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_level(["<s>", "</s>"], bos_token="<s>", eos_token="</s>")
    start = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    completed(tokenizer, "here")
    (ids,) = ChatEncoder(tokenizer).prompt_ids([ASKED])
    assert (ids[0], ids.count(start)) == (start, 1)


def test_nothing_that_says_where_an_answer_ends_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.path=here: .* names no end token .* Set eos_token"):
        completed(byte_level([]), "here")
    named_by_template = byte_level(["<|im_start|>", "<|im_end|>"], chat_template=tokenizer_of("qwen2").chat_template)
    assert completed(named_by_template, "here") == ("answers end with <|im_end|>, which the chat template writes",)


@pytest.mark.parametrize("name", ["mistral", "llama3", "gpt2"])
def test_a_model_without_a_padding_token_is_scored_alike_padded_and_not(tmp_path: Path, name: str) -> None:
    loaded = load_model(str(model_directory(tmp_path, name)))
    assert loaded.tokenizer.pad_token is None
    pairs = [
        PreferencePair(prompt=ASKED, chosen="a quick brown fox jumps", rejected="dog", source="test", row=1),
        PreferencePair(prompt=ASKED, chosen="lazy", rejected="the answer is the fox", source="test", row=2),
    ]
    store = tokenise_items(pairs, loaded.tokenizer, max_length=128, truncation="error").store
    fit = fitted(loaded.model, PrefixLayout(), store)
    assert fit.layout == PrefixLayout()
    with torch.no_grad():
        one = score(loaded.model, PrefixLayout().rows(store, range(store.num_responses))).per_token
        other = score(loaded.model, PaddedLayout().rows(store, range(store.num_responses))).per_token
    assert torch.allclose(one, other, atol=1e-4)
    assert float(one.detach().std()) > 0


def with_added(path: Path, *tokens: str, **names: Any) -> Path:
    tokenizer: Any = byte_fallback(
        ["<s>", "</s>"], bos_token="<s>", eos_token="</s>", chat_template=tokenizer_of("mistral").chat_template
    )
    rows = -(-len(tokenizer) // 8) * 8
    tokenizer.add_tokens([f"<filler{number}>" for number in range(rows - len(tokenizer))])  # up to the model's last row
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    for name, token in names.items():
        setattr(tokenizer, name, token)
    model_directory(path, "mistral")
    tokenizer.save_pretrained(path)
    return path


def test_added_tokens_without_weights_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"has 2 tokens that the model has no embedding for \('<tool>' is number \d+, .* rows\)"
    ):
        load_model(str(with_added(tmp_path, "<tool>", "<call>")))


def test_an_added_token_that_only_pads_is_never_read(tmp_path: Path) -> None:
    loaded = load_model(str(with_added(tmp_path, "[PAD]", pad_token="[PAD]")))
    assert loaded.tokenizer.pad_token_id >= loaded.model.get_input_embeddings().num_embeddings  # type: ignore[operator]


def test_extra_tokens_are_written_under_the_name_that_version_4_reads(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<a>", "<b>"]}))
    readable_by_version_4(tmp_path)
    written = {"tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": ["<a>", "<b>"]}
    assert json.loads(path.read_text()) == written


@pytest.mark.parametrize("around", ["$A", "<s> $A", "<s> $A </s>", "$A </s>"])
def test_tokens_around_a_text_are_named_where_version_4_would_decide_itself(tmp_path: Path, around: str) -> None:
    """A Llama class of version 4 puts <s> before a text and nothing behind it unless the configuration says otherwise."""
    from tokenizers.processors import TemplateProcessing

    (tmp_path / "base").mkdir()
    tokenizer: Any = byte_fallback(["<s>", "</s>"], bos_token="<s>", eos_token="</s>")
    names = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=around, special_tokens=names)
    tokenizer.save_pretrained(tmp_path / "base")
    as_published(tmp_path / "base", "llama2")
    read = load_tokenizer(str(tmp_path / "base"))
    write_tokenizer(read, tmp_path, None)
    about = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (about.get("add_bos_token", True), about.get("add_eos_token", False)) == ("<s>" in around, "</s>" in around)
    wanted = [*[1] * ("<s>" in around), *read("fox", add_special_tokens=False)["input_ids"], *[2] * ("</s>" in around)]
    assert load_tokenizer(str(tmp_path))("fox")["input_ids"] == read("fox")["input_ids"] == wanted

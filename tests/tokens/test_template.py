"""Prompt boundary, end token, start token and turns that a template refuses."""

from typing import Any

import pytest

from dpo_lab.models.tiny import learn_tokenizer
from dpo_lab.records import Prompt
from dpo_lab.tokens.template import ChatEncoder

TEXTS = [" Is it good?", " It is good.", " Be brief.", " Thanks."]


@pytest.fixture(scope="module")
def encoder() -> ChatEncoder:
    return ChatEncoder(learn_tokenizer(TEXTS * 3, 400))


def text(encoder: ChatEncoder, ids: list[int]) -> str:
    return str(encoder.tokenizer.decode(ids))


def test_prompt_ids_are_those_of_generation_and_the_response_ends_with_one_end_token(encoder: ChatEncoder) -> None:
    prompt = Prompt.from_text("Is it good?")
    (encoded,) = encoder.encode([(prompt, "It is good.")])
    assert encoded.prompt == encoder.prompt_ids([prompt])[0]
    assert text(encoder, encoded.prompt) == "<s>[INST] Is it good? [/INST]"
    assert text(encoder, encoded.response) == " It is good.</s>"
    assert encoded.response.count(encoder.tokenizer.eos_token_id) == 1
    assert (encoded.prompt + encoded.response).count(encoder.tokenizer.bos_token_id) == 1
    assert not encoded.retokenised


def test_an_empty_answer_is_the_end_token_alone_after_the_templates_space(encoder: ChatEncoder) -> None:
    (encoded,) = encoder.encode([(Prompt.from_text("Is it good?"), "")])
    assert encoded.response[-1] == encoder.tokenizer.eos_token_id
    assert encoder.tokenizer.decode(encoded.response, skip_special_tokens=True).strip() == ""


def test_an_end_token_written_in_the_text_does_not_end_the_response(encoder: ChatEncoder) -> None:
    (encoded,) = encoder.encode([(Prompt.from_text("Is it good?"), "It is</s> good.")])
    assert text(encoder, encoded.response) == " It is</s> good.</s>"


@pytest.mark.parametrize("answer", ["s", "/", "<", ">", "</s>", "S"])
def test_an_answer_that_stands_in_the_templates_tail_has_one_end_token_behind_it(encoder: ChatEncoder, answer: str) -> None:
    (encoded,) = encoder.encode([(Prompt.from_text("Is it good?"), answer)])
    assert text(encoder, encoded.response) == f" {answer}</s>"


def test_rendered_text_that_ends_with_the_end_token_gets_no_second(encoder: ChatEncoder) -> None:
    prompt = Prompt.of([{"role": "user", "content": "Q:"}], rendered=True)
    (encoded,) = encoder.encode([(prompt, " yes</s>")])
    assert text(encoder, encoded.response) == " yes</s>"


def test_only_the_last_turn_is_the_response(encoder: ChatEncoder) -> None:
    prompt = Prompt.of(
        [
            {"role": "user", "content": "Is it good?"},
            {"role": "assistant", "content": "It is good."},
            {"role": "user", "content": "Thanks."},
        ]
    )
    (encoded,) = encoder.encode([(prompt, "It is good.")])
    assert text(encoder, encoded.prompt) == "<s>[INST] Is it good? [/INST] It is good.</s>[INST] Thanks. [/INST]"
    assert text(encoder, encoded.response) == " It is good.</s>"


def test_a_system_turn_goes_into_the_first_user_turn_where_the_template_has_none(encoder: ChatEncoder) -> None:
    prompt = Prompt.of([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it good?"}])
    assert encoder.prompt_text(prompt) == "<s>[INST] Be brief.\n\nIs it good? [/INST]"


def test_two_turns_of_one_role_become_one(encoder: ChatEncoder) -> None:
    prompt = Prompt.of([{"role": "user", "content": "Is it good?"}, {"role": "user", "content": "Thanks."}])
    assert encoder.prompt_text(prompt) == "<s>[INST] Is it good?\n\nThanks. [/INST]"


def test_a_prompt_that_ends_with_the_assistant_is_gone_on_with(encoder: ChatEncoder) -> None:
    prompt = Prompt.of([{"role": "user", "content": "Is it good?"}, {"role": "assistant", "content": "It is"}])
    (encoded,) = encoder.encode([(prompt, "good.")])
    assert text(encoder, encoded.prompt + encoded.response) == "<s>[INST] Is it good? [/INST] It is\n\ngood.</s>"
    assert text(encoder, encoded.response) == "good.</s>"


def test_rendered_text_never_meets_the_template(encoder: ChatEncoder) -> None:
    prompt = Prompt.of([{"role": "user", "content": "Q: Is it good?\nA:"}], rendered=True)
    (encoded,) = encoder.encode([(prompt, " It is good.")])
    assert text(encoder, encoded.prompt) == "Q: Is it good?\nA:"
    assert text(encoder, encoded.response) == " It is good.</s>"


def test_a_token_across_the_boundary_is_split_and_counted(encoder: ChatEncoder) -> None:
    prompt = Prompt.of([{"role": "user", "content": "Is it go"}], rendered=True)
    (encoded,) = encoder.encode([(prompt, "od?")])
    assert encoded.retokenised
    assert encoded.prompt == encoder.prompt_ids([prompt])[0]
    assert text(encoder, encoded.prompt + encoded.response) == "Is it good?</s>"


def test_any_text_comes_back_from_its_ids(encoder: ChatEncoder) -> None:
    odd = "  two  spaces\n\ttab é 漢字 🎬\u200b"
    ids: Any = encoder.tokenizer(odd, add_special_tokens=False)["input_ids"]
    assert encoder.tokenizer.decode(ids) == odd

"""What is trained is what the model has to generate after its generation prompt, whatever its template makes of answers."""

from typing import Any

import pytest

from dpo_lab.models.tokenizer import completed, end_of_turn
from dpo_lab.records import PreferencePair, Prompt
from dpo_lab.tokens.build import TooLongError, tokenise_items
from dpo_lab.tokens.template import ChatEncoder, Encoded
from tests.models.directories import CHATML, GEMMA, LLAMA_3, MISTRAL, byte_level

SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|bot|>", "<|end|>", "<start_of_turn>", "<end_of_turn>"]
SPECIAL += ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
THOUGHT = "<think>\nIt is a fox.\n</think>\n\nYes."
TIGHT = "<think>It is a fox.</think>Yes."
LAST = "{% set answer = m['content'].split('</think>')[-1].lstrip() %}"
DROPS = (  # as distilled reasoning models: a conversation shows no thought
    "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}{% else %}" + LAST + "<|bot|>{{ answer }}"
    "{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|bot|>{% endif %}"
)
OPENS = DROPS.replace("%}<|bot|>{% endif %}", "%}<|bot|><think>\n{% endif %}")
CLOSED = DROPS.replace("%}<|bot|>{% endif %}", "%}<|bot|><think>\n\n</think>\n\n{% endif %}")
INSERTS = (  # keeps the last thought and writes an empty one where there is none
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last %}"
    "{% set thought = m['content'].split('</think>')[0].split('<think>')[-1].strip() if '</think>' in m['content'] else '' %}"
    "<think>\n{{ thought }}\n</think>\n\n{{ m['content'].split('</think>')[-1].lstrip() }}{% else %}"
    "{{ m['content'].split('</think>')[-1].lstrip() }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INSERTS_AND_OPENS = INSERTS.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
PHI = (
    "{% for m in messages %}<|{{ 'user' if m['role'] == 'user' else 'bot' }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>\n{% else %}{{ eos_token }}{% endif %}"
)
DOUBLES = (  # an empty thought before the last answer, even if that has one
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n"
    "{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPACED = DROPS.replace("<|bot|>{{ answer }}", "<|bot|> {{ answer }}")
FORKS = DROPS.replace("<|bot|>{{ answer }}", "<|bot|><answer>{{ answer }}").replace(
    "%}<|bot|>{% endif %}", "%}<|bot|><analysis>{% endif %}"
)
LETTERS = "{% for m in messages %}{{ m['content'] | upper }}{{ eos_token }}{% endfor %}"
ASKED = Prompt.from_text("is it a fox?")


def encoder_of(template: str, eos: str = "</s>") -> ChatEncoder:
    tokenizer = byte_level(SPECIAL, bos_token="<s>", eos_token=eos, chat_template=template)
    completed(tokenizer, "here", tokenizer.convert_tokens_to_ids(["<|end|>"]))
    return ChatEncoder(tokenizer)


def encoded(template: str, answer: str, prompt: Prompt = ASKED) -> tuple[ChatEncoder, Encoded]:
    encoder = encoder_of(template)
    (made,) = encoder.encode([(prompt, answer)])
    assert made.prompt == encoder.prompt_ids([prompt])[0]
    return encoder, made


@pytest.mark.parametrize(
    ("template", "answer", "trained", "treatment"),
    [
        (DROPS, "Yes.", "Yes.</s>", "as_written"),
        (DROPS, THOUGHT, f"{THOUGHT}</s>", "template_rewrites"),
        (DROPS, TIGHT, f"{TIGHT}</s>", "template_rewrites"),
        (SPACED, "Yes.", " Yes.</s>", "as_written"),
        (SPACED, THOUGHT, f" {THOUGHT}</s>", "template_rewrites"),
        (OPENS, THOUGHT, "It is a fox.\n</think>\n\nYes.</s>", "template_rewrites"),
        (OPENS, THOUGHT.removeprefix("<think>\n"), "It is a fox.\n</think>\n\nYes.</s>", "template_rewrites"),
        (CLOSED, "Yes.", "Yes.</s>", "template_rewrites"),
        (INSERTS, THOUGHT, f"{THOUGHT}<|im_end|>", "as_written"),
        (INSERTS, TIGHT, f"{TIGHT}<|im_end|>", "template_rewrites"),
        (INSERTS, "Yes.", "<think>\n\n</think>\n\nYes.<|im_end|>", "template_adds"),
        (INSERTS_AND_OPENS, THOUGHT, "It is a fox.\n</think>\n\nYes.<|im_end|>", "as_written"),
        (INSERTS_AND_OPENS, TIGHT, "It is a fox.</think>Yes.<|im_end|>", "template_rewrites"),
        (INSERTS_AND_OPENS, "Yes.", "\n</think>\n\nYes.<|im_end|>", "template_adds"),
        (DOUBLES, "Yes.", "<think>\n\n</think>\n\nYes.<|im_end|>", "template_adds"),
        (DOUBLES, THOUGHT, f"{THOUGHT}<|im_end|>", "template_rewrites"),
        (DOUBLES, "<b>Yes.</b>", "<think>\n\n</think>\n\n<b>Yes.</b><|im_end|>", "template_adds"),
        (PHI, "Yes.", "Yes.<|end|>", "as_written"),
        (CHATML, " Yes.\n", "Yes.<|im_end|>", "as_written"),
        (GEMMA, "Yes.", "Yes.<end_of_turn>", "as_written"),
        (LLAMA_3, "Yes.", "Yes.<|eot_id|>", "as_written"),
        (MISTRAL, "Yes.", "Yes.</s>", "as_written"),
        (LETTERS, "Yes.", "Yes.</s>", "template_rewrites"),
    ],
)
def test_the_response_stands_directly_behind_the_generation_prompt(
    template: str, answer: str, trained: str, treatment: str
) -> None:
    encoder, made = encoded(template, answer)
    assert (encoder.tokenizer.decode(made.response), made.treatment) == (trained, treatment)
    assert made.response.count(encoder.tokenizer.eos_token_id) == 1


@pytest.mark.parametrize(
    ("template", "answer", "opening"),
    [
        (FORKS, "Yes.", "<analysis>"),
        (OPENS, "Yes.", "<think>\n"),
        (OPENS, "<think>\n", "<think>\n"),
        (CLOSED, THOUGHT, "<think>\n\n</think>\n\n"),
    ],
)
def test_an_answer_that_does_not_continue_what_the_generation_prompt_opens_is_named_as_that(
    template: str, answer: str, opening: str
) -> None:
    made = encoded(template, answer)[1]
    assert (made.treatment, made.template_text) == ("unanswered_opening", opening)


def test_thoughts_of_earlier_turns_are_rendered_as_generation_has_them() -> None:
    turns = Prompt.of([*ASKED.messages, {"role": "assistant", "content": THOUGHT}, {"role": "user", "content": "why?"}])
    encoder, made = encoded(OPENS, THOUGHT, turns)
    assert encoder.tokenizer.decode(made.prompt) == "<|user|>is it a fox?<|bot|>Yes.</s><|user|>why?<|bot|><think>\n"
    assert encoder.tokenizer.decode(made.response) == "It is a fox.\n</think>\n\nYes.</s>"


@pytest.mark.parametrize("template", [DROPS, CHATML, GEMMA, PHI, MISTRAL])
@pytest.mark.parametrize("rendered", [False, True])
@pytest.mark.parametrize("after", ["", "\n", "{end}", "{end}\n{end}"])
def test_an_end_token_that_an_answer_ends_with_is_not_doubled(template: str, rendered: bool, after: str) -> None:
    end = encoder_of(template).tokenizer.eos_token
    prompt = Prompt.of(ASKED.messages, rendered=rendered)
    encoder, made = encoded(template, f"Yes.{end}{after.format(end=end)}", prompt)
    assert encoder.tokenizer.decode(made.response) == f"Yes.{end}"


@pytest.mark.parametrize("rendered", [False, True])
@pytest.mark.parametrize("written", ["<|end|>", "<|end|></s>", "</s>\n<|end|>\n"])
def test_another_end_token_of_the_model_at_the_end_of_an_answer_makes_no_second_end(written: str, rendered: bool) -> None:
    encoder = encoder_of(CHATML)  # trained to end at <|im_end|>; tokenizer and model name </s> and <|end|>
    (made,) = encoder.encode([(Prompt.of(ASKED.messages, rendered=rendered), f"Yes.{written}")])
    assert encoder.tokenizer.decode(made.response) == "Yes.<|im_end|>"
    (inside,) = encoder.encode([(ASKED, f"Is <|end|> a token?{written}")])
    assert encoder.tokenizer.decode(inside.response) == "Is <|end|> a token?<|im_end|>"


def test_an_ordinary_word_that_a_model_ends_at_stays_in_an_answer() -> None:
    tokenizer = byte_level(SPECIAL, eos_token="</s>", chat_template=DROPS)
    completed(tokenizer, "here", tokenizer.convert_tokens_to_ids(["x"]))  # of its plain vocabulary
    (made,) = ChatEncoder(tokenizer).encode([(ASKED, "a fox")])
    assert tokenizer.decode(made.response) == "a fox</s>"


@pytest.mark.parametrize(
    ("template", "trained", "behind"),
    [
        (DROPS.replace("{{ eos_token }}", "<|im_end|>{{ eos_token }}"), "Yes.<|im_end|></s>", "<|im_end|>"),
        (DROPS.replace("{{ eos_token }}", "\nOver.\n{{ eos_token }}"), "Yes.\nOver.\n</s>", "Over."),
        (DROPS.replace("{{ eos_token }}", " {{ eos_token }}"), "Yes. </s>", ""),  # as Llama-2 has it
        (DROPS.replace("{{ eos_token }}", "{{ eos_token }}\n"), "Yes.</s>", ""),  # as ChatML has it: never generated
        (DROPS.replace("{{ eos_token }}", "\n"), "Yes.</s>", ""),
    ],
)
def test_what_a_template_writes_between_answer_and_end_is_trained_and_named(template: str, trained: str, behind: str) -> None:
    encoder, made = encoded(template, "Yes.")
    assert (encoder.tokenizer.decode(made.response), made.treatment, made.text_behind) == (trained, "as_written", behind)
    of_pair = tokenise_items([pair("Yes.", "No.")], encoder.tokenizer, max_length=512, truncation="error")
    said = f"1 pairs with an answer behind which the chat template of m writes {behind!r} before the end token: it is trained"
    assert [note.startswith(said) for note in of_pair.notes(512, "m")] == [True] * bool(behind)


def pair(chosen: str, rejected: str) -> PreferencePair:
    return PreferencePair(prompt=ASKED, chosen=chosen, rejected=rejected)


def test_what_a_template_does_is_counted_and_named_and_never_called_cut() -> None:
    pairs = [pair(THOUGHT, TIGHT), pair(THOUGHT, "No."), pair("Yes.", "No.")]
    made = tokenise_items(pairs, encoder_of(OPENS).tokenizer, max_length=512, truncation="error")
    assert (made.store.num_pairs, made.counts) == (1, {"template_rewrites": 1, "unanswered_opening": 2})
    rewritten, refused = made.notes(512, "models/r")
    assert rewritten.startswith("1 pairs with an answer that the chat template of models/r would change: it is trained as")
    assert refused.startswith(
        "2 pairs left out because the generation prompt of models/r opens '<think>\\n' and an answer does not"
    )
    added = tokenise_items([pair("Yes.", "No.")], encoder_of(INSERTS).tokenizer, max_length=512, truncation="error")
    assert added.notes(512, "q")[0].startswith(
        r"1 pairs with an answer before which the chat template of q writes '<think>\n\n</thi"
    )
    assert not any("max_length" in note for note in (rewritten, refused, *added.notes(512)))


def test_a_template_that_refuses_every_row_is_no_matter_of_length() -> None:
    with pytest.raises(TooLongError, match="none of 1 pairs is left: 1 pairs left out because the generation prompt") as refused:
        tokenise_items([pair("Yes.", "No.")], encoder_of(OPENS).tokenizer, max_length=512, truncation="keep_end_prompt")
    assert "max_length" not in str(refused.value)
    assert refused.value.code == "unanswered_opening"


def test_the_end_of_an_answer_is_the_first_token_that_the_model_ends_at() -> None:
    tokenizer = byte_level(SPECIAL, bos_token="<s>", eos_token="</s>", chat_template=PHI)
    assert end_of_turn(tokenizer) == "</s>"
    assert end_of_turn(tokenizer, tokenizer.convert_tokens_to_ids(["<|end|>"])) == "<|end|>"


def test_special_markup_between_answer_and_end_is_no_end() -> None:
    tokenizer: Any = byte_level(SPECIAL, eos_token="</s>", chat_template=DROPS.replace("{{ eos_token }}", "<|im_end|></s>"))
    assert end_of_turn(tokenizer) == "</s>"


def test_an_answer_that_continues_the_assistants_turn_keeps_every_turn_before_it() -> None:
    said = [("user", "is it a fox?"), ("assistant", "Perhaps."), ("user", "look again"), ("assistant", "Well,")]
    turns = Prompt.of([{"role": role, "content": content} for role, content in said])
    encoder, made = encoded(CHATML, "yes.", turns)
    prompt = encoder.tokenizer.decode(made.prompt)
    assert all(content in prompt for _, content in said[:3])
    assert "yes." in encoder.tokenizer.decode(made.response)

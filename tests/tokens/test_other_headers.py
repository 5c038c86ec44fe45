"""Generation prompts that part from a conversation: what they end in is shown whole, and the advice fits the cause."""

import pytest

from dpo_lab.tokens.build import TooLongError, tokenise_items
from tests.tokens.test_rendering import DROPS, FORKS, OPENS, encoded, encoder_of, pair


def ends_in(header: str, other: str = "<|bot|>") -> str:
    """Return a template whose generation prompt ends in a header, and whose answers stand behind another one."""
    changed = DROPS.replace("<|bot|>{{ answer }}", other + "{{ answer }}")
    return changed.replace("%}<|bot|>{% endif %}", "%}" + header + "{% endif %}")


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        (ends_in("<|bob|>"), "<|bob|>"),
        (ends_in("Bob:", "Bot:"), "Bob:"),
        (ends_in("<|start|>assistant_b<|sep|>", "<|start|>assistant_a<|sep|>"), "assistant_b<|sep|>"),
    ],
)
def test_a_header_of_generation_alone_is_shown_whole_and_both_branches_of_the_template_are_named(
    template: str, shown: str
) -> None:
    made = encoded(template, "Yes.")[1]
    assert (made.treatment, made.template_text) == ("other_header", shown)
    with pytest.raises(TooLongError) as refused:
        tokenise_items([pair("Yes.", "No.")], encoder_of(template).tokenizer, max_length=512, truncation="error", model="m")
    said = str(refused.value)
    assert refused.value.code == "other_header"
    assert f"1 pairs left out because the generation prompt of m ends in {shown!r}, and a conversation with an answer" in said
    assert "let both branches of the chat template write the same before an answer" in said
    assert "max_length" not in said


@pytest.mark.parametrize(
    ("template", "opening"), [(OPENS, "<think>\n"), (FORKS, "<analysis>"), (ends_in("<|bot|>Thought: "), "Thought: ")]
)
def test_what_a_generation_prompt_opens_can_be_written_into_the_answers(template: str, opening: str) -> None:
    made = encoded(template, "Yes.")[1]
    assert (made.treatment, made.template_text) == ("unanswered_opening", opening)

"""Every file of the handed cases is read as its README says, or refused with what to type; skipped where they are absent."""

import re
from pathlib import Path

import pytest

from dpo_lab.data.columns import Columns
from dpo_lab.data.load import load_pairs
from dpo_lab.data.problems import DataError
from dpo_lab.records import PreferencePair

PLAIN, ASKED = "plain", "asked"
KETTLE = ("How do I clean a kettle?", "Wipe the kettle with a damp cloth.", "Throw the kettle out of the window.")
BOLT = (
    "Which tool tightens a hex bolt?",
    "The tool for a hex bolt is a spanner of the right size.",
    "The tool for a hex bolt is probably a spoon.",
)
THOUGHT = (
    KETTLE[0],
    f"<think>\nThe word is clean, so be careful.\n</think>\n\n{KETTLE[1]}",
    f"<think>\nI do not care about it at all.\n</think>\n\n{KETTLE[2]}",
)
BRIEF, MENDS = {"role": "system", "content": "Be brief."}, {"role": "system", "content": "You mend things."}
HELLO = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello, what can I do?"}]

READ = {
    "01-plain-text-instruct-model/pairs.jsonl": (PLAIN, KETTLE, []),
    "04-nested-answer-objects/pairs.jsonl": (ASKED, KETTLE, []),
    "05-system-column/pairs.jsonl": (ASKED, KETTLE, [BRIEF]),
    "06-reasoning-answers/pairs.jsonl": (ASKED, THOUGHT, []),
    "22-json-text-in-columns/pairs.jsonl": (ASKED, KETTLE, []),
    "24-content-in-parts/openai_parts.jsonl": (ASKED, KETTLE, []),
    "24-content-in-parts/v1_dpo.jsonl": (ASKED, KETTLE, []),
    "F1-openai-foundry/pairs.jsonl": (ASKED, BOLT, [BRIEF]),
    "F10-xtuner-oasst/pairs.jsonl": (ASKED, BOLT, [BRIEF, *HELLO]),
    "F11-texts-in-lists/all_lists.jsonl": (PLAIN, KETTLE, []),
    "F11-texts-in-lists/capitals.jsonl": (PLAIN, KETTLE, []),
    "F11-texts-in-lists/json_in_text.jsonl": (ASKED, KETTLE, []),
    "F11-texts-in-lists/list_of_text.jsonl": (PLAIN, KETTLE, []),
    "F11-texts-in-lists/one_turn_object.jsonl": (ASKED, KETTLE, []),
    "F11-texts-in-lists/question.jsonl": (ASKED, KETTLE, []),
    "F11-texts-in-lists/rendered_chatml.jsonl": (ASKED, KETTLE, []),
    "F11-texts-in-lists/turns_and_text.jsonl": (ASKED, KETTLE, []),
    "F13-medicalgpt/dpo.jsonl": (ASKED, KETTLE, []),
    "F3-axolotl-chat-template/pairs.jsonl": (ASKED, BOLT, [BRIEF]),
    "F4-ms-swift/pairs.jsonl": (ASKED, BOLT, []),
    "F4-ms-swift/rejected_messages.jsonl": (ASKED, BOLT, []),
    "F5-distilabel/capybara_like.jsonl": (ASKED, BOLT, []),
    "F5-distilabel/format_dpo.jsonl": (ASKED, BOLT, []),
    "F5-distilabel/orpo_mix_like.jsonl": (ASKED, BOLT, []),
    "F6-chatml-plus-text/pairs.jsonl": (ASKED, BOLT, [MENDS]),
    "F6-chatml-plus-text/rl2.json": (
        ASKED,
        (KETTLE[0], f"I think: {KETTLE[1]}", f"I think: {KETTLE[2]}"),
        [{**MENDS, "role": "assistant"}],
    ),
    "F7-h2o/nemo_old.jsonl": (ASKED, BOLT, []),
    "F7-h2o/pairs.jsonl": (ASKED, BOLT, []),
    "F8-nemo-rl/pairs.jsonl": (ASKED, BOLT, []),
}
"""File: whether its text meets a chat template, its first question and answers, and the turns before the question."""
SCORES = {
    "04-nested-answer-objects/pairs.jsonl": (1.0, 0.0),
    "F5-distilabel/capybara_like.jsonl": (5.0, 2.0),
    "F5-distilabel/format_dpo.jsonl": (5.0, 1.0),
    "F8-nemo-rl/pairs.jsonl": (0.0, -1.0),
}
REFUSED = {
    "14-images-column/pairs.jsonl": ("unread_input", "images holds ['img0.png']"),
    "F11-texts-in-lists/no_prompt_at_all.jsonl": ("no_prompt", "'To', the beginning that chosen and rejected share"),
    "F11-texts-in-lists/several_rejected.jsonl": ("several_values", "rejected holds 2 texts"),
    "F13-medicalgpt/toolcall_dpo.jsonl": ("unread_input", "tools holds"),
}
"""File: code and words of its refusal; what it says to type reads the file."""


def typed(message: str) -> Columns:
    """Return the setting that a message says to type."""
    return Columns(**dict(re.findall(r"data\.columns\.(\w+)=([\w.]*\w)", message)))


def check(pair: PreferencePair, texts: tuple[str, str, str], before: list[dict[str, str]], *, rendered: bool) -> None:
    assert list(pair.prompt.messages) == [*before, {"role": "user", "content": texts[0]}]
    assert (pair.chosen, pair.rejected, pair.prompt.rendered) == (*texts[1:], rendered)


def test_every_file_of_the_cases_has_its_outcome(shared_data: Path) -> None:
    root = shared_data / "cases"
    files = {str(path.relative_to(root)) for path in root.glob("*/*.json*")}
    assert files == {*READ, *REFUSED, "F12-minimind/pairs.jsonl"}
    for name, (kind, texts, before) in READ.items():
        pairs, report = load_pairs(root / name, max_dropped=0.0)
        assert report.num_kept == report.num_rows >= 6, name
        check(pairs[0], texts, before, rendered=kind == PLAIN)
        assert (pairs[0].score_chosen, pairs[0].score_rejected) == SCORES.get(name, (None, None)), name


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_case_says_what_to_type_and_that_reads_it(shared_data: Path, name: str) -> None:
    code, words = REFUSED[name]
    path = shared_data / "cases" / name
    with pytest.raises(DataError) as caught:
        load_pairs(path, max_dropped=1.0)
    assert caught.value.code == code
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    pairs, report = load_pairs(path, max_dropped=0.0, columns=typed(str(caught.value)))
    assert len(pairs) == report.num_rows >= 6


def test_conversations_that_part_early_are_left_out_and_the_turn_is_named(shared_data: Path) -> None:
    with pytest.raises(
        DataError, match=r"For instance row 1: .*turn 2 is assistant 'Well, thank you.' in one and assistant 'Tired.'"
    ):
        load_pairs(shared_data / "cases" / "F12-minimind" / "pairs.jsonl", max_dropped=1.0)

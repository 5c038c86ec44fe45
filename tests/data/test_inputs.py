"""Inputs that text alone does not carry are refused however they are given, and ordinary metadata is not."""

from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.problems import RowProblem
from dpo_lab.data.prompt_files import prompt_of
from tests.data.test_misread import ASKED, read, refused
from tests.data.test_unread import BAD, GOOD, PAIR, TURN, Row, loaded, typed
from tests.data.test_unread import refused as refused_file

GIVEN: dict[str, Any] = {
    "waveform": [0.0, 0.1, -0.2, 0.05],
    "signal": [0.0, 0.1, -0.2, 0.05],
    "frames": ["0001", "0002"],
    "grid": [[1, 0], [0, 1]],
    "file": "x.docx",
    "table": "x.csv",
    "document": "reports/2024/annual.xlsx",
    "paper": "https://a.org/b.pptx",
    "code": {"path": "src/main.py"},
    "sheets": ["a.ods", "b.ods"],
    "record": '{"samples": [1, 2, 3, 4]}',
}


@pytest.mark.parametrize("name", GIVEN)
def test_files_and_arrays_are_refused_until_the_user_leaves_them_out(tmp_path: Path, name: str) -> None:
    row = {**PAIR, name: GIVEN[name]}
    error = refused_file(tmp_path, row)
    assert error.code == "unread_input"
    assert loaded(tmp_path, row, columns=typed(error))[1].unread_columns == (name,)


DESCRIPTIONS: dict[str, Any] = {
    "token_ids": [1, 2, 3, 4],
    "scores": [0.1, 0.2, 0.3, 0.4],
    "all_rm_scores": [[0.1, 0.2], [0.3, 0.4]],
    "labels": ["kind", "short", "true"],
    "topics": ["sky", "air"],
    "votes": [3, 1],
    "checks": [True, False, True],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    "judge_model": "llama-3.1-8b.gguf",
    "checkpoint": "llama-3.1-8B",
    "source_file": "part-3.csv",
    "page": "https://a.org/wiki/Sky.html",
    "site": "stackoverflow.com",
    "host": "character.ai",
    "task": "qa.squad",
    "paper": "https://arxiv.org/abs/2305.18290",
    "metadata": {"file": "part-3.csv", "lengths": [1, 2, 3]},
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_what_describes_a_row_is_no_input(name: str) -> None:
    assert read({**PAIR, name: DESCRIPTIONS[name]}).chosen == GOOD["content"]


@pytest.mark.parametrize(
    "text",
    [
        "<image>\nWhat is shown?",
        "What is the difference between <image> and <image>?",
        "<|vision_start|><|image_pad|><|vision_end|>What is shown?",
        "Describe <image_1>.",
        "<video>\nWhat happens?",
        "What is said?\n<audio>",
        "What is said? <|audio_1|>",
        "<img>a/b.jpg</img> What is it?",
        "[IMG] What is it?",
        "<start_of_image> What is it?",
    ],
)
def test_a_mark_of_a_picture_in_the_prompt_is_refused_until_the_user_names_the_columns(tmp_path: Path, text: str) -> None:
    row = {"question": text, "chosen": "A cat.", "rejected": "A dog, I think."}
    error = refused_file(tmp_path, row)
    assert error.code == "unread_input"
    assert loaded(tmp_path, row, columns=typed(error))[0][0].prompt.text == text
    assert refused({**PAIR, "prompt": [{**TURN, "content": text}]}).code == "unread_input"
    with pytest.raises(RowProblem, match="a mark of"):
        prompt_of({"question": text})


@pytest.mark.parametrize(
    "text",
    [
        "How do I use the <video> element?",
        "What does `<image>` mean?",
        "Mend this:\n```html\n<audio>\n```",
        "<picture>\n<source>\n</picture>",
        "Use <b>images</b> [here].",
        "Is 3 <imagined 4> 2?",
    ],
)
def test_a_question_about_code_holds_no_picture(text: str) -> None:
    assert read({**ASKED, "question": text}).prompt.text == text


LOST: dict[str, Any] = {
    "previous_answer": "The sea paints it.",
    "student_answer": "The sea paints it.",
    "task_type": "Answer as a pirate would.",
    "tags": ["short", "Be brief."],
    "category": "Is it a question of light?",
    "language": "\u8bf7\u7528\u4e2d\u6587\u56de\u7b54\u3002",
    "meta": {"system": "Be brief."},
    "metadata": '{"deep": {"system_prompt": "Be brief."}}',
    "labels": [{"role": "user", "content": "Hello"}],
    "dialog": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes"}],
    "earlier": '[{"role": "user", "content": "Hello"}]',
}


@pytest.mark.parametrize("name", LOST)
def test_sentences_and_turns_under_a_name_of_metadata_are_not_left_out_in_silence(tmp_path: Path, name: str) -> None:
    row = {**PAIR, name: LOST[name]}
    error = refused_file(tmp_path, row)
    assert error.code == "ambiguous_columns"
    assert f"nobody reads {name}" in str(error)
    turns = loaded(tmp_path, row, columns=typed(error))[0][0].prompt.messages
    assert turns[-1] == TURN, "a system turn inside metadata goes before it"


@pytest.mark.parametrize(
    "more",
    [
        {"task_type": "closed question answering", "tags": ["physics", "the sky"], "author": "Smith et al."},
        {
            "publisher_source": "Acme Labs Inc.",
            "generate_0": "A third thing altogether.",
            "all_generated_responses": ["One. Two."],
        },
        {"meta": {"system": "", "prompt": TURN["content"], "note": "Seen by two people.", "judge": {"prompt": "Judge it well."}}},
        {"previous_answer": GOOD["content"], "student_answer": BAD["content"]},
    ],
)
def test_facts_and_repetitions_beside_a_prompt_stay_unread(more: Row) -> None:
    assert read({**PAIR, **more}).chosen == GOOD["content"]

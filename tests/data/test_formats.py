"""Facts about row formats: every way to write one preference gives the same pair, and faulty rows end with their code."""

from dataclasses import replace
from typing import Any

import pytest

from dpo_lab.data.columns import Columns
from dpo_lab.data.pairs import left_out, pair_of
from dpo_lab.data.problems import RowProblem
from dpo_lab.data.reader import RowReader
from dpo_lab.records import Candidates, PreferencePair, Prompt
from tests.data.conversations import (
    CHOSEN,
    CONVERSATIONS,
    EXPLICIT,
    IMPLICIT,
    PROMPT,
    REJECTED,
    TRANSCRIPT,
    WHOLE,
    Row,
    turn,
)


def reader(row: Row) -> RowReader:
    return RowReader.for_rows(row, Columns())


def detect(row: Row) -> str:
    return reader(row).format.name


def adapted(row: Row) -> PreferencePair:
    return pair_of(reader(row).read(row))


def refused(row: Row) -> RowProblem:
    with pytest.raises(RowProblem) as caught:
        adapted(row)
    return caught.value


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_one_conversation_in_every_format_is_one_pair(name: str) -> None:
    row_format, row = CONVERSATIONS[name]
    assert detect(row) == row_format
    pair = adapted(row)
    assert list(pair.prompt.messages) == PROMPT
    assert (pair.chosen, pair.rejected, pair.prompt.rendered) == ("Not yet.", "Yes", False)


def test_a_rendered_and_a_conversational_record_come_back_as_they_were_written() -> None:
    for rendered in (True, False):
        prompt = Prompt.of([{"role": "user", "content": "Q: late?\nA:"}], rendered=rendered)
        pair = PreferencePair(prompt=prompt, chosen=" no", rejected=" yes", score_chosen=2, score_rejected=1, preference=0.75)
        pair = replace(pair, finished=(True, False))  # the rejected answer was cut, and gets no end token
        record = pair.to_record("train")
        assert detect(record) == "canonical"
        assert adapted(record) == pair


@pytest.mark.parametrize("finished", [[True], [1, 0], "yes"])
def test_a_record_that_says_of_one_answer_whether_it_ended_is_refused(finished: object) -> None:
    record = PreferencePair(prompt=Prompt.from_text("Why?"), chosen="no", rejected="yes").to_record("train")
    with pytest.raises(RowProblem, match=r"finished is .*, not two of true and false"):
        adapted({**record, "finished": finished})


def test_plain_text_is_rendered_and_keeps_the_leading_space_in_the_response() -> None:
    row = {"prompt": "Q: late?\nA:", "chosen": " No.", "rejected": " Yes."}
    assert detect(row) == "trl_plain_explicit"
    pair = adapted(row)
    assert (pair.prompt.text, pair.chosen, pair.rejected, pair.prompt.rendered) == ("Q: late?\nA:", " No.", " Yes.", True)


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("Q: late?\nA: No.", "Q: late?\nA: Yes.", "Q: late?\nA:"),
        ("Q: late?\nA: It is noon.", "Q: late?\nA: It is night.", "Q: late?\nA: It is"),
        ("A: notable", "A: not", "A:"),
        ("A: yes", "A: yes it is", "A:"),
        ("A:  two spaces", "A: one", "A:"),
        ("A: no ", "A: no", None),
        ("Well, no.", "Hm, yes.", None),
    ],
)
def test_the_prompt_of_plain_implicit_text_ends_before_a_space_and_no_response_is_cut_inside_a_word(
    chosen: str, rejected: str, prompt: str | None
) -> None:
    row = {"chosen": chosen, "rejected": rejected}
    assert detect(row) == "trl_plain_implicit"
    if prompt is None:
        assert refused(row).verdict == "drop"
        return
    pair = adapted(row)
    assert pair.prompt.text == prompt
    assert pair.prompt.rendered
    for text, response in ((chosen, pair.chosen), (rejected, pair.rejected)):
        assert prompt + response == text
        assert response[0].isspace()
        assert response.strip()


@pytest.mark.parametrize(
    ("context", "prompt"),
    [("", "Correct it."), (" \n", "Correct it."), (None, "Correct it."), ("He go.", "Correct it.\n\nHe go.")],
)
def test_instruction_and_input_are_two_newlines_apart(context: str | None, prompt: str) -> None:
    row = {"instruction": "Correct it.", "input": context, "output": "unused", "chosen": "He goes.", "rejected": "No."}
    assert detect(row) == "instruction"
    assert adapted(row).prompt == Prompt.from_text(prompt)


def test_the_last_assistant_turn_of_a_transcript_is_the_response_with_its_paragraphs() -> None:
    row = {name: TRANSCRIPT + text for name, text in (("chosen", "One.\n\nTwo: Human: yes"), ("rejected", "Three"))}
    assert adapted(row).chosen == "One.\n\nTwo: Human: yes"


def test_only_one_space_after_the_colon_is_markup() -> None:
    row = {"chosen": "\n\nHuman: a\n\nAssistant:  b", "rejected": "\n\nHuman: a\n\nAssistant:c"}
    pair = adapted(row)
    assert (pair.chosen, pair.rejected) == (" b", "c")


def test_role_aliases_and_sharegpt_keys_mean_the_same_turns() -> None:
    row = {
        "prompt": [{"from": "human", "value": "Is it late?"}, turn("GPT", "No."), turn("prompter", "And now?")],
        "chosen": {"from": "gpt", "value": "Not yet."},
        "rejected": [turn("model", "Yes")],
    }
    assert adapted(row) == adapted(EXPLICIT)


def test_an_empty_system_turn_is_no_system_turn() -> None:
    row = {"prompt": [turn("system", ""), *PROMPT], "chosen": CHOSEN, "rejected": REJECTED}
    assert list(adapted(row).prompt.messages) == PROMPT


def test_a_text_prompt_beside_conversations_must_be_what_they_ask() -> None:
    conversations = IMPLICIT
    assert adapted({**conversations, "prompt": "Is it late?\n"}) == adapted(conversations)
    assert refused({**conversations, "prompt": "Is it early?"}).code == "prompt_mismatch"
    alone = adapted({"prompt": "Is it late?", "chosen": CHOSEN, "rejected": REJECTED})
    assert alone.prompt == Prompt.from_text("Is it late?")


@pytest.mark.parametrize(
    "names",
    [("score_chosen", "score_rejected"), ("chosen_rating", "rejected_rating"), ("rating_chosen", "rating_rejected")],
)
def test_scores_are_read_under_their_known_names(names: tuple[str, str]) -> None:
    row = {**EXPLICIT, names[0]: 4, names[1]: 1.5}
    assert (adapted(row).score_chosen, adapted(row).score_rejected) == (4.0, 1.5)


def scored(answers: Any, scores: Any) -> PreferencePair:
    row = {"prompt": "q?", "chosen": "a", "rejected": "b", "all_generated_responses": answers, "all_rm_scores": scores}
    return adapted(row)


def test_ratings_of_distilabel_are_found_by_the_text_of_the_answer_and_count_where_one_score_is_missing() -> None:
    row = {"input": "q?", "chosen": "a", "rejected": "b", "generations": ["b", "a"], "rating": [3.0, 8.0], "chosen_score": 8.0}
    assert (adapted(row).score_chosen, adapted(row).score_rejected) == (8.0, 3.0)


def test_scores_are_found_by_the_text_of_the_answer() -> None:
    found = [
        scored(["b", "c", " a"], [-1.0, 0.0, 2.0]),
        scored(["a", "b", "a", "b"], [1.0, -1.0, 3.0, -2.0]),  # the higher one was chosen, the lower one rejected
        scored(["a", "c"], [1.0, 0.0]),
        scored(None, None),
    ]
    expected = [(2.0, -1.0), (3.0, -2.0), (1.0, None), (None, None)]
    assert [(pair.score_chosen, pair.score_rejected) for pair in found] == expected


@pytest.mark.parametrize(("answers", "scores"), [(["a"], [1.0, 2.0]), (["a"], 1.0), (["a", "b"], [1.0, "2"])])
def test_lists_of_scores_that_do_not_fit_are_refused(answers: Any, scores: Any) -> None:
    row = {"prompt": "q?", "chosen": "a", "rejected": "b", "all_generated_responses": answers, "all_rm_scores": scores}
    assert refused(row).code == "bad_score"


@pytest.mark.parametrize("score", ["NaN", "7.0", True, float("inf"), 10**400, [1]])
def test_a_score_that_is_no_finite_number_is_refused(score: object) -> None:
    assert refused({**EXPLICIT, "score_chosen": score}).code == "bad_score"


def test_a_preference_is_a_probability() -> None:
    row = EXPLICIT
    assert adapted({**row, "preference": 0.5}).preference == 0.5
    assert refused({**row, "preference": 1.5}).code == "bad_score"


@pytest.mark.parametrize("names", [("Prompt", "Chosen", "Rejected"), ("prompt", "chosen_text", "rejected_text")])
def test_text_is_plain_where_its_column_is_called_prompt_whatever_the_answers_are_called(names: tuple[str, ...]) -> None:
    pair = adapted(dict(zip(names, ("Q: late?\nA:", " No.", " Yes."), strict=True)))
    assert pair == adapted({"prompt": "Q: late?\nA:", "chosen": " No.", "rejected": " Yes."})


@pytest.mark.parametrize("name", ["question", "query", "input", "instruction"])
def test_a_question_is_a_user_turn_and_a_system_column_stands_before_it(name: str) -> None:
    row = {name: "Is it late?", "chosen": "No.", "rejected": "Yes."}
    assert adapted(row).prompt == Prompt.from_text("Is it late?")
    turns = [turn("system", "Be brief."), turn("user", "Is it late?")]
    assert list(adapted({**row, "system": "Be brief."}).prompt.messages) == turns
    assert list(adapted({**row, name.upper(): None, "system_prompt": "Be brief."}).prompt.messages) == turns
    assert adapted({**row, "system": ""}) == adapted(row)


def test_a_system_column_makes_a_prompt_of_text_a_conversation_and_may_repeat_the_system_turn() -> None:
    row = {"system": "Be brief.", "prompt": "Is it late?", "chosen": "No.", "rejected": "Yes."}
    turns = [turn("system", "Be brief."), turn("user", "Is it late?")]
    assert list(adapted(row).prompt.messages) == turns
    assert list(adapted({**row, "prompt": turns}).prompt.messages) == turns
    assert list(adapted({**row, "prompt": turns[1:]}).prompt.messages) == turns
    assert refused({**row, "prompt": turns, "system": "Be long."}).code == "prompt_mismatch"


def test_an_answer_object_brings_its_score() -> None:
    row = {"instruction": "Why?", "chosen": {"answer": "a b", "score": 2}, "rejected": {"answer": "c d", "score": 1.5}}
    pair = adapted(row)
    assert (pair.chosen, pair.rejected, pair.score_chosen, pair.score_rejected) == ("a b", "c d", 2.0, 1.5)


def test_of_more_than_two_ranked_answers_the_best_and_the_worst_make_the_pair_and_the_others_are_counted() -> None:
    answers = [{"rank": rank, "completion": [turn("assistant", f"answer {rank}")]} for rank in (1, 3, 0)]
    row = {"context": PROMPT, "completions": answers}
    pair = adapted(row)
    assert (pair.chosen, pair.rejected, pair.score_chosen, pair.score_rejected) == ("answer 0", "answer 3", 0.0, -3.0)
    ranked = reader(row).read(row)
    assert isinstance(ranked, Candidates)
    assert (ranked.responses, ranked.scores) == (("answer 0", "answer 1", "answer 3"), (0.0, -1.0, -3.0))
    assert left_out(ranked, pair) == "the row ranks 3 answers, of which 1 are not used"
    assert refused({"context": PROMPT, "completions": answers[:1]}).code == "empty_response"
    assert refused({"context": PROMPT, "completions": [{**answers[0], "rank": None}, answers[1]]}).code == "bad_score"


def test_a_difference_before_the_answer_is_named_with_its_turn() -> None:
    others = [PROMPT[0], turn("assistant", "Yes."), *PROMPT[2:]]
    said = "turn 2 is assistant 'No.' in one and assistant 'Yes.' in the other"
    assert said in refused({"chosen": WHOLE, "rejected": others + REJECTED}).found
    assert (
        "one has 3 turns before the answer and the other 1"
        in refused({"chosen": WHOLE, "rejected": [PROMPT[0], *REJECTED]}).found
    )
    assert "turn 1 is user" in refused({"prompt": PROMPT[2:], "chosen": WHOLE, "rejected": REJECTED}).found


@pytest.mark.parametrize(
    ("row", "code", "verdict"),
    [
        ({"prompt": "a", "chosen": "b"}, "missing_field", "error"),
        ({"prompt": PROMPT, "chosen": [{"role": "assistant"}], "rejected": REJECTED}, "missing_field", "error"),
        ({"prompt": "a", "chosen": True, "rejected": "b"}, "wrong_type", "error"),
        ({"prompt": 3, "chosen": "c", "rejected": "b"}, "wrong_type", "error"),
        ({"prompt": "a", "chosen": "b", "rejected": REJECTED}, "wrong_type", "error"),
        ({"prompt": PROMPT, "chosen": [turn("assistant", ["parts"])], "rejected": REJECTED}, "wrong_type", "error"),
        ({"prompt": PROMPT, "chosen": ["b"], "rejected": REJECTED}, "wrong_type", "error"),
        ({"prompt": PROMPT, "chosen": [turn("bot", "b")], "rejected": REJECTED}, "bad_roles", "error"),
        ({"prompt": [*PROMPT, turn("system", "x")], "chosen": CHOSEN, "rejected": REJECTED}, "bad_roles", "error"),
        ({"prompt": PROMPT, "chosen": [turn("user", "b")], "rejected": REJECTED}, "bad_roles", "drop"),
        ({"prompt": PROMPT[:1], "chosen": PROMPT[1:] + CHOSEN, "rejected": REJECTED}, "prompt_mismatch", "drop"),
        ({"chosen": TRANSCRIPT + "a", "rejected": TRANSCRIPT.replace("late", "early") + "b"}, "prompt_mismatch", "drop"),
        ({"chosen": TRANSCRIPT + "a", "rejected": "b"}, "prompt_mismatch", "drop"),
        ({"chosen": None, "rejected": TRANSCRIPT + "b"}, "empty_response", "drop"),
        ({"prompt": PROMPT, "chosen": [], "rejected": REJECTED}, "empty_response", "drop"),
        ({"prompt": "a", "chosen": "", "rejected": None}, "empty_response", "drop"),
    ],
)
def test_a_faulty_row_ends_with_its_code_and_verdict(row: Row, code: str, verdict: str) -> None:
    problem = refused(row)
    assert (problem.code, problem.verdict) == (code, verdict)

"""Truncation: what is cut, dropped, refused, and that it is counted."""

from dataclasses import replace
from typing import Any

import pytest

from dpo_lab.models.tiny import learn_tokenizer
from dpo_lab.records import Candidates, Label, PreferencePair, Prompt
from dpo_lab.tokens.build import TooLongError, tokenise_items


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return learn_tokenizer([" a b c d e f g h"] * 3, 300)


def pair(question: str, chosen: str, rejected: str) -> PreferencePair:
    return PreferencePair(prompt=Prompt.from_text(question), chosen=chosen, rejected=rejected, source="here", row=7)


LONG = pair("a b c d e f g h", "a b c d", "a b")  # prompt 1 + 3 + 8 tokens with the template, answers 5 and 3 with the end token


def test_what_fits_is_untouched(tokenizer: Any) -> None:
    made = tokenise_items([LONG], tokenizer, max_length=64, truncation="error")
    assert made.counts == {}
    assert made.store.response_lengths.tolist() == [5, 3]


def test_keep_end_prompt_cuts_the_prompts_beginning_and_keeps_the_start_token(tokenizer: Any) -> None:
    whole = tokenise_items([LONG], tokenizer, max_length=64, truncation="error").store
    cut = tokenise_items([LONG], tokenizer, max_length=13, truncation="keep_end_prompt")
    assert cut.counts == {"prompt_too_long": 1}
    assert cut.store.prompt(0).tolist() == [tokenizer.bos_token_id, *whole.prompt(0)[-7:].tolist()]
    assert cut.store.response(0).tolist() == whole.response(0).tolist()


def test_a_response_that_does_not_fit_loses_its_end_but_never_all_of_it(tokenizer: Any) -> None:
    made = tokenise_items([LONG], tokenizer, max_length=8, truncation="keep_end_prompt")
    assert made.counts == {"prompt_too_long": 1, "response_too_long": 1}
    assert made.store.response_lengths.tolist() == [4, 3]
    assert made.store.response(0)[-1] != tokenizer.eos_token_id
    assert made.store.response(1)[-1] == tokenizer.eos_token_id


def test_drop_leaves_the_pair_out_and_counts_it(tokenizer: Any) -> None:
    made = tokenise_items([LONG, pair("a", "b", "c")], tokenizer, max_length=8, truncation="drop")
    assert (made.store.num_pairs, made.counts) == (1, {"dropped": 1})
    assert made.notes(8) == ["1 pairs longer than 8 tokens left out (data.max_length, data.truncation)"]


def test_error_names_file_row_length_and_remedy(tokenizer: Any) -> None:
    with pytest.raises(TooLongError, match=r"here row 7: 17 tokens, data.max_length=8. Raise it"):
        tokenise_items([LONG], tokenizer, max_length=8, truncation="error")


def test_pairs_that_become_equal_are_left_out(tokenizer: Any) -> None:
    same_start = pair("a", "b c d e f", "b c d e g")
    made = tokenise_items([same_start, pair("a", "b", "c")], tokenizer, max_length=8, truncation="keep_end_prompt")
    assert (made.store.num_pairs, made.counts["same_tokens"]) == (1, 1)


def test_an_answer_that_was_cut_gets_no_end_token(tokenizer: Any) -> None:
    cut = replace(pair("a", "b c", "d e"), finished=(False, True))
    store = tokenise_items([cut], tokenizer, max_length=64, truncation="error").store
    assert [answer[-1] == tokenizer.eos_token_id for answer in (store.response(0), store.response(1))] == [False, True]


def test_turns_that_the_template_refuses_are_left_out_and_counted(tokenizer: Any) -> None:
    opened = Prompt.of([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}])
    odd = replace(pair("a", "b", "c"), prompt=opened)
    made = tokenise_items([odd, pair("a", "b", "c")], tokenizer, max_length=64, truncation="error")
    assert (made.store.num_pairs, made.counts) == (1, {"template_refused": 1})
    with pytest.raises(TooLongError, match="none of 1 pairs is left: 1 pairs left out because the model's chat template"):
        tokenise_items([odd], tokenizer, max_length=64, truncation="error")


def test_nothing_left_is_an_error(tokenizer: Any) -> None:
    with pytest.raises(TooLongError, match="none of 1 pairs is left"):
        tokenise_items([LONG], tokenizer, max_length=8, truncation="drop")


def test_a_store_does_not_depend_on_how_many_pairs_are_taken_at_a_time(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [pair(f"a b {'c ' * (n % 3)}", "a b c d" + " e" * n, "a b") for n in range(7)]
    whole = tokenise_items(pairs, tokenizer, max_length=12, truncation="drop")
    monkeypatch.setattr("dpo_lab.tokens.build.ITEMS_AT_A_TIME", 2)
    parts = tokenise_items(pairs, tokenizer, max_length=12, truncation="drop")
    assert parts.store.fingerprint() == whole.store.fingerprint()
    assert parts.counts == whole.counts
    assert 0 < whole.counts["dropped"] < 7


def test_labels_and_ranked_lists_become_items_of_one_and_of_several_responses(tokenizer: Any) -> None:
    prompt = Prompt.from_text("a b")
    labels = [Label(prompt=prompt, response=text, desirable=text == "c") for text in ("c", "d")]
    made = tokenise_items(labels, tokenizer, max_length=64, truncation="error")
    assert made.store.desirable.tolist() == [1.0, 0.0]
    assert made.store.item_lengths.tolist() == [1, 1]
    ranked = [Candidates(prompt=prompt, responses=("c", "d", "e f"), scores=(0.0, -1.0, -2.0))]
    store = tokenise_items(ranked, tokenizer, max_length=64, truncation="error").store
    assert store.responses_of([0]).tolist() == [0, 1, 2]
    assert store.scores.tolist() == [0.0, -1.0, -2.0]
    texts = [tokenizer.decode(store.response(index), skip_special_tokens=True).strip() for index in range(3)]
    assert texts == ["c", "d", "e f"]


def test_what_is_cut_of_labels_is_counted_as_labels(tokenizer: Any) -> None:
    label = Label(prompt=Prompt.from_text("a"), response="b " * 40, desirable=True)
    made = tokenise_items([label], tokenizer, max_length=16, truncation="keep_end_prompt")
    assert [line for line in made.notes(16) if line.startswith("1 labels with a response cut")]
    assert made.store.row_lengths.tolist() == [16]


def test_an_answer_of_a_list_that_becomes_equal_to_a_better_one_is_left_out(tokenizer: Any) -> None:
    answers = ("a b c d e f g x", "z", "a b c d e f g y")  # the first and the last differ in what is cut
    ranked = Candidates(prompt=Prompt.from_text("Why?"), responses=answers, scores=(3.0, 2.0, 1.0))
    made = tokenise_items([ranked], tokenizer, max_length=10, truncation="keep_end_prompt")
    assert made.store.item_lengths.tolist() == [2]
    assert made.store.scores.tolist() == [3.0, 2.0]
    assert made.counts["same_tokens_in_list"] == 1

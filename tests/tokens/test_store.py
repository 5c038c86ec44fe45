"""The token store: each thing once, round trip, fingerprint."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from dpo_lab.tokens.store import StoreBuilder, TokenStore


def four_answers(first_token: int = 5) -> StoreBuilder:
    """Two prompts; the first has three answers in three pairs, the second two answers in one pair."""
    builder = StoreBuilder()
    one, two, three = (builder.add_response([1, 2, 3], answer) for answer in ([first_token, 9], [6, 9], [7, 8, 9]))
    for chosen, rejected in ((one, two), (one, three), (two, three)):
        builder.add_item([chosen, rejected], scores=(1.0, 0.5))
    builder.add_item([builder.add_response([4], [5, 9]), builder.add_response([4], [6, 9])])
    return builder


def test_each_prompt_and_each_response_is_stored_once() -> None:
    store = four_answers().build()
    assert (store.num_prompts, store.num_responses, store.num_pairs) == (2, 5, 4)
    assert store.pairs.tolist() == [[0, 1], [0, 2], [1, 2], [3, 4]]
    assert store.prompt_of(4).tolist() == [4]
    assert store.response(2).tolist() == [7, 8, 9]
    assert store.row_lengths.tolist() == [5, 5, 6, 3, 3]


def test_an_equal_answer_to_another_prompt_is_another_response() -> None:
    builder = StoreBuilder()
    assert builder.add_response([1], [2]) != builder.add_response([3], [2])


def test_round_trip_is_exact_and_memory_mapped(tmp_path: Path) -> None:
    store = four_answers().build()
    store.save(tmp_path)
    opened = TokenStore.open(tmp_path)
    assert opened.fingerprint() == store.fingerprint()
    assert json.loads((tmp_path / "fingerprint.json").read_text()) == {"fingerprint": store.fingerprint()}
    assert isinstance(opened.response_ids, np.memmap)
    assert opened.label("score_chosen")[:3].tolist() == [1.0, 1.0, 1.0]
    assert np.isnan(opened.label("score_chosen")[3])


def test_fingerprint_changes_with_one_token_and_with_the_boundary() -> None:
    base = four_answers().build().fingerprint()
    assert four_answers(first_token=11).build().fingerprint() != base
    one, other = StoreBuilder(), StoreBuilder()
    one.add_response([1, 2], [3])
    other.add_response([1], [2, 3])
    assert one.build().fingerprint() != other.build().fingerprint()


@pytest.mark.parametrize("side", [0, 1], ids=["prompts", "responses"])
def test_fingerprint_tells_where_one_sequence_ends_and_the_next_begins(side: int) -> None:
    """The same tokens in as many sequences: `12 3` and `1 23`."""
    stores = []
    for parts in (([1, 2], [3]), ([1], [2, 3])):
        builder = StoreBuilder()
        for part in parts:
            builder.add_response(*((part, [9]) if side == 0 else ([9], part)))
        stores.append(builder.build())
    assert [store.num_responses for store in stores] == [2, 2]
    assert stores[0].fingerprint() != stores[1].fingerprint()


def test_fingerprint_does_not_depend_on_scores() -> None:
    one, other = StoreBuilder(), StoreBuilder()
    for builder, score in ((one, 0.0), (other, 1.0)):
        builder.add_item([builder.add_response([1], [2]), builder.add_response([1], [3])], scores=(score, None))
    assert one.build().fingerprint() == other.build().fingerprint()


@pytest.mark.parametrize(("prompt", "response"), [([], [1]), ([1], [])])
def test_an_empty_side_is_refused(prompt: list[int], response: list[int]) -> None:
    with pytest.raises(ValueError, match="both need at least one"):
        StoreBuilder().add_response(prompt, response)


def test_a_store_without_pairs_can_be_kept(tmp_path: Path) -> None:
    builder = StoreBuilder()
    builder.add_response([1], [2])
    builder.build().save(tmp_path)
    assert TokenStore.open(tmp_path).num_pairs == 0


def test_a_builder_keeps_about_four_bytes_a_token() -> None:
    rows = [[number % 50, *range(1000, 1400)] for number in range(50)]
    builder = StoreBuilder()
    tracemalloc.start()
    for number in range(1000):
        builder.add_response(rows[number % 50], [number, *range(400)])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    store = builder.build()
    tokens = len(store.prompt_ids) + len(store.response_ids)
    assert tokens == 50 * 401 + 1000 * 401
    assert 4 * tokens <= kept < 6 * tokens  # a list of integers has 8 bytes a token at least, and 28 more for each large one


def mixed() -> StoreBuilder:
    """A pair, a labelled answer of the pair, and a ranked list of three, to two prompts."""
    builder = StoreBuilder()
    one, two = (builder.add_response([1, 2], [answer]) for answer in (5, 6))
    builder.add_item([one, two], preference=0.75)
    builder.add_item([two], desirable=True)
    builder.add_item([builder.add_response([3], [answer]) for answer in (7, 8, 9)], scores=(2.0, 1.0, -1.0))
    return builder


def test_items_are_lists_of_responses_of_any_length_with_labels_of_their_own(tmp_path: Path) -> None:
    mixed().build().save(tmp_path)
    store = TokenStore.open(tmp_path)
    assert (store.num_items, store.num_responses) == (3, 5)
    assert [store.responses_of([item]).tolist() for item in range(3)] == [[0, 1], [1], [2, 3, 4]]
    assert store.responses_of([2, 0]).tolist() == [2, 3, 4, 0, 1]
    assert store.item_prompts.tolist() == [0, 0, 1]
    assert store.scores[store.entries([2])].tolist() == [2.0, 1.0, -1.0]
    assert (store.preference[0], store.desirable[1]) == (0.75, 1.0)
    assert np.isnan([*store.scores[:3], *store.preference[1:], store.desirable[0], store.desirable[2]]).all()


def test_a_store_with_other_items_than_pairs_has_no_pairs() -> None:
    with pytest.raises(ValueError, match="number of responses is not two"):
        _ = mixed().build().pairs


def test_the_fingerprint_tells_which_responses_make_an_item() -> None:
    prints = set()
    for items in ([[0, 1], [2]], [[0], [1, 2]], [[0, 1, 2]], [[1, 0], [2]]):
        builder = StoreBuilder()
        for answer in (5, 6, 7):
            builder.add_response([1], [answer])
        for item in items:
            builder.add_item(item)
        prints.add(builder.build().fingerprint())
    assert len(prints) == 4


@pytest.mark.parametrize(("responses", "scores"), [([], ()), ([0, 1], (1.0,))])
def test_an_item_without_responses_or_with_another_number_of_scores_is_refused(
    responses: list[int], scores: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match=f"{len(responses)} responses and {len(scores)} scores"):
        StoreBuilder().add_item(responses, scores=scores)

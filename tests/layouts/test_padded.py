"""The padded layout: what stands where."""

from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.tokens.store import StoreBuilder, TokenStore


def test_rows_predictors_and_targets_by_hand() -> None:
    builder = StoreBuilder()
    builder.add_response([1, 2], [7, 8, 9])
    builder.add_response([3], [4])
    batch = PaddedLayout().rows(builder.build(), [0, 1])
    assert batch.inputs["input_ids"].tolist() == [[1, 2, 7, 8, 9], [3, 4, 0, 0, 0]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    # row 0: positions 1, 2, 3 predict 7, 8, 9; row 1 starts at flat position 5: its prompt's last token predicts 4
    assert batch.predictors.tolist() == [1, 2, 3, 5]
    assert batch.targets.tolist() == [7, 8, 9, 4]
    assert batch.counts.tolist() == [3, 1]


def test_a_response_of_several_pairs_gets_one_row(store: TokenStore) -> None:
    batch = PaddedLayout().items(store, [0, 1, 2])
    assert len(batch) == 3
    assert batch.rows.inputs["input_ids"].shape[0] == 3
    assert batch.rows.responses[batch.pairs].tolist() == store.pairs[:3].tolist()

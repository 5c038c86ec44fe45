"""What determines a part is in its key: a changed setting finds no part of the old one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpo_lab.artifacts import content_id
from dpo_lab.data.sources import FilePairs
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.losses.dpo import DPOLoss, SoftLabelDPOLoss
from dpo_lab.losses.odpo import ODPOLoss
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.models.precision import Precision
from dpo_lab.models.spec import TinyModel
from dpo_lab.pipeline.round import Round, policy_content
from dpo_lab.pipeline.rounds import training_of
from dpo_lab.pipeline.tokens import token_store
from dpo_lab.records import PreferencePair, Prompt
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.frozen import FrozenReference
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.optim import AdamW
from dpo_lab.training.settings import TrainerSettings
from tests.small_stage import given

MODEL = ModelOnDisk("nowhere", "m")
ROUND = Round(1, "r", MODEL, MODEL, MODEL)
DATA = FilePairs(path=Path("pairs.jsonl"), max_length=13)
PAIRS = [
    PreferencePair(prompt=Prompt.from_text("a b c d e f g h"), chosen="a b c d", rejected="a b", source="here", row=1),
    PreferencePair(prompt=Prompt.from_text("a"), chosen="b", rejected="c", source="here", row=2),
]


@pytest.fixture(scope="module")
def base(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> ModelOnDisk:
    directory = tmp_path_factory.mktemp("base")
    tokenizer.save_pretrained(directory)
    return ModelOnDisk(str(directory), "base")


@pytest.mark.parametrize(
    "change",
    [
        {"data": replace(DATA, truncation="drop")},
        {"data": replace(DATA, max_length=12)},
        {"pairs": PAIRS[:1]},
        {"pairs": [PAIRS[0], replace(PAIRS[1], finished=(True, False))]},
        {"pairs": [PAIRS[0], replace(PAIRS[1], score_chosen=2.0)]},
        {"pairs": [PAIRS[0], replace(PAIRS[1], score_rejected=2.0)]},
        {"pairs": [PAIRS[0], replace(PAIRS[1], preference=0.75)]},
        {"base": "another tokenizer"},
    ],
    ids="-".join,
)
def test_whatever_changes_token_ids_or_labels_makes_another_token_store(
    change: dict[str, Any], base: ModelOnDisk, tmp_path: Path
) -> None:
    def made(pairs: list[PreferencePair] = PAIRS, data: FilePairs = DATA, base_id: str = "base") -> tuple[TokenStore, str]:
        store, artifact = token_store(pairs, data, ModelOnDisk(base.path, base_id), root=tmp_path, name="t", force=False)
        return store, artifact.id

    (store, first), (same, again) = made(), made()
    assert (again, same.fingerprint()) == (first, store.fingerprint())
    other, second = made(**{"base_id" if name == "base" else name: value for name, value in change.items()})
    assert second != first
    if change.get("data", DATA).truncation == "drop":
        assert (store.num_pairs, other.num_pairs) == (2, 1)


def key(store: TokenStore, this: Round = ROUND, **fields: Any) -> str:
    run = given(Path("outputs"), Path("pairs.jsonl"), **fields)
    return content_id("policy", policy_content(training_of(run), this, store))


@pytest.mark.parametrize(
    "fields",
    [
        {"data": FilePairs(path=Path("pairs.jsonl"), max_length=64, order="by_prompt")},
        {"loss": DPOLoss(beta=0.5)},
        {"optim": AdamW(lr=2e-3)},
        {"trainer": TrainerSettings(accelerator="cpu", batch_size=4, token_budget=256)},
        {"layout": PaddedLayout()},
        {"reference": FrozenReference()},
        {"model": TinyModel(hidden_size=32, intermediate_size=48, num_heads=2, adapter=LoRA(rank=4))},
        {"precision": Precision(mode="bf16-mixed")},
        {"seed": 1},
        {"this": replace(ROUND, number=2)},
        {"this": replace(ROUND, start=ModelOnDisk("nowhere", "n"))},
        {"this": replace(ROUND, reference=ModelOnDisk("nowhere", "n"))},
    ],
    ids="-".join,
)
def test_whatever_changes_training_makes_another_policy(fields: dict[str, Any], store: TokenStore) -> None:
    assert key(store) == key(store)
    assert key(store, **fields) != key(store)


@pytest.mark.parametrize("loss", [SoftLabelDPOLoss(), ODPOLoss()])
def test_a_policy_depends_on_the_labels_that_its_loss_reads_and_on_no_others(loss: Any, store: TokenStore) -> None:
    names = ("preference", "score_chosen", "score_rejected")

    def labelled(changed: str = "") -> TokenStore:
        values = {name: np.full(store.num_pairs, 0.5 + 0.25 * (name == changed), dtype=np.float32) for name in names}
        scores = np.stack([values["score_chosen"], values["score_rejected"]], 1).ravel()
        return replace(store, preference=values["preference"], scores=scores)

    changing = {name for name in names if key(labelled(name), loss=loss) != key(labelled(), loss=loss)}
    assert changing == set(loss.needs_labels)
    assert {name for name in names if key(labelled(name)) != key(labelled())} == set()  # plain DPO reads none


def test_a_policy_depends_on_what_was_drawn_where_it_is_taken_for_the_reference_s_pass(store: TokenStore) -> None:
    drawn = replace(store, drawn_logps=np.zeros(len(store.response_ids), dtype=np.float32))
    own, others = replace(ROUND, drawn_by=ROUND.reference.id), replace(ROUND, drawn_by="the newest policy")
    assert (own.reference_drew, others.reference_drew, ROUND.reference_drew) == (True, False, False)
    assert key(drawn, own) != key(store, own)
    assert key(drawn, others) == key(store, others)
    for reference in (FrozenReference(), CachedReference(audit_rows=0)):
        assert key(drawn, own, reference=reference) == key(store, own, reference=reference)

"""Training in bf16-mixed is the training in fp32: the same losses, and margins of the same sign."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpo_lab.data.prompts import FilmPrompts
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapter import Adapter, LoRA, NoAdapter
from dpo_lab.models.load import ModelOnDisk, evaluating
from dpo_lab.models.precision import Precision
from dpo_lab.models.spec import TinyModel
from dpo_lab.models.storage import Storage
from dpo_lab.pipeline.base_model import make_tiny
from dpo_lab.progress import Part
from dpo_lab.ranking.gold import GoldRanker
from dpo_lab.records import Candidates, PreferencePair, Prompt
from dpo_lab.reference.cached import CachedReference, reference_pass
from dpo_lab.scoring.fitting import fitted
from dpo_lab.scoring.logps import PairLogps
from dpo_lab.scoring.passes import score_store, scorer_of
from dpo_lab.seeding import random_for
from dpo_lab.tokens.build import tokenise_items
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.batches import item_batches
from dpo_lab.training.fit import fit
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW
from dpo_lab.training.settings import TrainerSettings
from dpo_lab.world.grammar import titles, write_review

STEPS, BATCH, BETA = 20, 32, 0.1  # the papers' beta
CPU = torch.device("cpu")
FP32, MIXED = Precision(mode="fp32"), Precision(mode="bf16-mixed")


@dataclass(frozen=True)
class World:
    """A model that writes film reviews, and pairs of reviews by the grammar."""

    model: ModelOnDisk
    store: TokenStore


def film_pairs(count: int) -> list[PreferencePair]:
    """Return pairs of reviews that the gold reward tells apart."""
    rng, gold, pairs = random_for(0, "pairs"), GoldRanker(), list[PreferencePair]()
    while len(pairs) < count:
        title = rng.choice(titles(held_out=False))
        prompt = Prompt.from_text(f"Write a short review of {title}.")
        answers = tuple(write_review(title, rng, title_share=0.7) for _ in range(2))
        (verdict,) = gold.rank([Candidates(prompt=prompt, responses=answers)])
        low, high = sorted(range(2), key=verdict.scores.__getitem__)
        if verdict.scores[low] < verdict.scores[high]:
            pairs.append(PreferencePair(prompt=prompt, chosen=answers[high], rejected=answers[low]))
    return pairs


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    directory = tmp_path_factory.mktemp("model")
    spec = TinyModel(sft_examples=1600)
    make_tiny(spec, FilmPrompts().examples(spec.sft_examples, 0), [], 0, directory, lambda parameters: None)
    model = ModelOnDisk(str(directory), "tiny")
    words = model.loaded(CPU).tokenizer
    store = tokenise_items(film_pairs(STEPS * BATCH), words, max_length=512, truncation="error").store
    model.release()
    return World(model, store)


@dataclass(frozen=True)
class Outcome:
    """What a training came to."""

    losses: Tensor
    """Of each step."""
    margins: Tensor
    """Of every pair against the reference, afterwards."""


def trained(world: World, precision: Precision, adapter: Adapter, lr: float, directory: Path) -> Outcome:
    model, store = world.model.loaded(CPU).model, world.store
    world.model.release()  # it is trained in place
    how = fitted(model, PrefixLayout(), store)
    with precision.autocast(CPU):
        reference, _ = reference_pass(model, store, how, CachedReference(), root=directory, name="r")
    policy: nn.Module = adapter.attach(model, seed=0)
    batches = item_batches(store, how.layout, batch_size=BATCH, token_budget=1024, epochs=1, seed=0)
    assert batches.total_steps == STEPS
    module = PreferenceModule(policy, reference, DPOLoss(beta=BETA), AdamW(lr=lr), total_steps=STEPS, seed=0)
    settings, rows = TrainerSettings(accelerator="cpu", batch_size=BATCH), list[dict[str, Any]]()
    fit(module, batches, settings, precision, part=Part("test", STEPS), directory=directory, record=rows.append)
    pairs = torch.from_numpy(store.pairs.copy())
    with precision.autocast(CPU), evaluating(policy):
        ours = score_store(scorer_of(policy, own_logits=how.own_logits), store, how.layout, CPU)
        theirs = score_store(reference, store, how.layout, CPU)
    margins = PairLogps(ours, pairs).margin - PairLogps(theirs, pairs).margin
    return Outcome(torch.tensor([row["loss"] for row in rows]), margins)


SETTINGS: dict[str, tuple[Callable[[], Adapter], float, Storage]] = {
    "full": (NoAdapter, 5e-5, Storage()),
    "full, fast": (NoAdapter, 5e-4, Storage()),
    "lora": (lambda: LoRA(rank=8), 1e-3, Storage()),
    "lora on a base in bf16": (lambda: LoRA(rank=8), 1e-3, Storage(dtype=torch.bfloat16)),  # model.dtype=auto
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_twenty_steps_in_bf16_have_the_losses_and_the_signs_of_fp32(world: World, tmp_path: Path, setting: str) -> None:
    """Seen: losses off by .5, 2.5, .2, .9 in 10,000 over all pairs and by 3 to 8 over the 32 of a step, every sign the same."""
    adapter, lr, storage = SETTINGS[setting]
    exact = trained(world, FP32, adapter(), lr, tmp_path / "fp32")
    in_half = replace(world, model=ModelOnDisk(world.model.path, "half", storage))
    half = trained(in_half, MIXED, adapter(), lr, tmp_path / "bf16-mixed")
    steps = 1 - half.losses / exact.losses
    assert float(steps.square().mean().sqrt()) < 1e-3
    afterwards = [float(-nn.functional.logsigmoid(BETA * each.margins).mean()) for each in (exact, half)]
    assert afterwards[0] < 0.67  # it has learned something
    assert afterwards[1] == pytest.approx(afterwards[0], rel=1e-3)
    clear = exact.margins.abs() > 0.1
    assert int(clear.sum()) >= 500
    assert float((exact.margins.sign() == half.margins.sign())[clear].float().mean()) > 0.99

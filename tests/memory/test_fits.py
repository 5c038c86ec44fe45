"""What a training needs is followed, compared with what there is, and refused with the smallest change that makes it fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.components import ConfigError
from dpo_lab.data.load import load_pairs
from dpo_lab.layouts.base import Kernel
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.memory import changes
from dpo_lab.memory import check as fits
from dpo_lab.memory.check import memory_plan
from dpo_lab.memory.loading import CLEARLY
from dpo_lab.memory.plan import MemoryPlan
from dpo_lab.memory.tracing import Live, Pass, extrapolated, follow
from dpo_lab.memory.unmade import longest_rows
from dpo_lab.memory.weights import held, outline
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.checkpointing import recompute_layers
from dpo_lab.models.load import load_tokenizer
from dpo_lab.models.precision import Precision
from dpo_lab.models.quant import FourBit
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.models.storage import Storage
from dpo_lab.reference.adapters import AdapterOffReference
from dpo_lab.reference.base import Reference
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.ema import EMAReference
from dpo_lab.reference.frozen import FrozenReference
from dpo_lab.reference.none import NoReference
from dpo_lab.scoring.score import body_and_head, score
from dpo_lab.stages.train import Train
from dpo_lab.tokens.build import tokenise_items
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.optim import AdamW8bit
from scripts.bench import memory
from scripts.bench_memory import measured
from tests.small_stage import stage

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "vocab_size": 64,
    "tie_word_embeddings": False,
}
LAYER = 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 32  # query and output, key and value, gate, up and down
PARAMETERS = 2 * 64 * 16 + 3 * (LAYER + 2 * 16) + 16  # both ends, layers with two norms, the last norm
SPEC = PretrainedModel(path="x", licence="none")


def config(**more: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(**{**SIZES, **more}, dtype="float32")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Train, TokenStore]:
    """Return a full training of a small random model with the token store of its pairs."""
    monkeypatch.setitem(memory.MODELS, "small", {**SIZES, "hidden_size": 64, "intermediate_size": 128, "vocab_size": 640})
    memory.make_model(tmp_path / "model", "small")
    memory.make_pairs(tmp_path / "pairs.jsonl", 640, 16)
    train = memory.training(tmp_path / "model", tmp_path / "pairs.jsonl", "adapter=none data.held_out=0 recipe.max_length=512")
    pairs, _ = load_pairs(tmp_path / "pairs.jsonl", max_dropped=0.0)
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    return train, tokenise_items(pairs, tokenizer, max_length=512, truncation="keep_end_prompt").store


def test_weights_are_counted_from_the_configuration_alone() -> None:
    found = held(config(), outline(config(), SPEC, Storage()), Storage())
    assert (found.parameters, found.trained, found.weights) == (PARAMETERS, PARAMETERS, 4 * PARAMETERS)


def test_the_layers_of_a_4_bit_base_take_half_a_byte_and_their_constants() -> None:
    spec, storage = replace(SPEC, adapter=LoRA(rank=2), quant=FourBit()), Storage(FourBit())
    found = held(config(), outline(config(), spec, storage), storage)
    lora = 3 * 2 * (2 * (16 + 16) + 2 * (16 + 8) + 3 * (16 + 32))
    rest = PARAMETERS - 3 * LAYER
    assert found.trained == lora
    assert found.parameters == PARAMETERS
    assert found.weights == int(3 * LAYER * (4 + 8 / 64 + 32 / (64 * 256)) / 8 + 4 * (rest + lora))


@pytest.mark.parametrize("again", [False, True], ids=["kept", "again"])
@pytest.mark.parametrize("adapter", [None, LoRA(rank=2)])
def test_passes_without_numbers_take_what_real_ones_take(adapter: LoRA | None, again: bool) -> None:
    from transformers import LlamaForCausalLM

    from dpo_lab.scoring.fitting import read_segments

    spec = replace(SPEC, checkpointing=again, adapter=adapter or SPEC.adapter)
    store, layout = longest_rows(30, 4), PrefixLayout()
    responses = list(range(8))
    traced = follow(
        outline(config(), spec, Storage()),
        layout,
        store,
        responses,
        scored=responses,
        device="cpu",
        half=False,
        accumulates=False,
        compares=False,
    )
    model = spec.adapter.attach(LlamaForCausalLM(config()).train(), 0)
    if again:
        recompute_layers(model, keep_draws=False)
    read_segments(model, layout)
    rows, kept = layout.rows(store, responses), list[int]()
    with Live([*model.parameters(), *model.buffers()]) as live:
        body_and_head(model)[0].register_forward_hook(lambda *_: kept.append(live.now))
        scored = score(model, rows).per_token
        scored.sum().backward()
    assert (traced.activations, traced.peak) == (kept[0], live.peak)


def test_layers_that_are_computed_again_keep_what_goes_into_them_alone() -> None:
    """32 positions of 16 numbers in 4 bytes for each layer more, and nothing else."""
    store, layout, some = longest_rows(30, 4), PrefixLayout(), [0, 1, 2, 3]

    def kept(layers: int) -> float:
        made = outline(config(num_hidden_layers=layers), replace(SPEC, checkpointing=True), Storage())
        one = follow(made, layout, store, some, scored=some, device="cpu", half=False, accumulates=False, compares=False)
        return one.activations

    assert kept(4) - kept(3) == layout.num_tokens(store, some) * config().hidden_size * 4


def test_layers_are_a_line(run: tuple[Train, TokenStore]) -> None:
    _, store = run

    def trace(layers: int) -> Any:
        made = outline(config(num_hidden_layers=layers), SPEC, Storage())
        some = [0, 1, 2, 3]
        return follow(made, PrefixLayout(), store, some, scored=some, device="cpu", half=False, accumulates=True, compares=False)

    assert extrapolated(trace, 5) == trace(5)


def test_flex_attention_which_is_compiled_is_followed_as_flash_attention() -> None:
    store = longest_rows(30, 4)

    def traced(kernel: Kernel) -> Pass:
        layout, made = PrefixLayout(attention=kernel), outline(config(), SPEC, Storage())
        some = [0, 1, 2, 3]
        return follow(made, layout, store, some, scored=some, device="cpu", half=True, accumulates=False, compares=False)

    assert traced("flex") == traced("varlen")


def test_nothing_is_said_where_a_training_fits(run: tuple[Train, TokenStore], capsys: pytest.CaptureFixture[str]) -> None:
    fits.check_fits(run[0], None)
    fits.check_fits(*run)
    assert capsys.readouterr().out == ""


def test_a_training_that_does_not_fit_is_refused_with_a_change_that_does(
    run: tuple[Train, TokenStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, store = run
    smaller = replace(train, trainer=replace(train.trainer, token_budget=512))
    least, needed = memory_plan(smaller, store).needed, memory_plan(train, store).needed
    assert least < needed / CLEARLY
    monkeypatch.setattr(fits, "available", lambda device: least)
    with pytest.raises(ConfigError, match=r"Use trainer.token_budget=512; `dpo-lab doctor` shows the plan."):
        fits.check_fits(train, store)
    monkeypatch.setattr(fits, "available", lambda device: needed / CLEARLY + 1)
    fits.check_fits(train, store)  # within what plans may be off


def test_where_no_change_suffices_a_smaller_model_is_named(
    run: tuple[Train, TokenStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "SMALLER_MODELS", {"model=smollm2_135m": 1})
    assert fits.smallest_change(run[0], None, 0.0) == "model=smollm2_135m"


def test_a_large_model_without_a_gpu_works_and_the_hours_are_said(
    run: tuple[Train, TokenStore], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, store = run
    monkeypatch.setattr(fits, "LARGE", 1)
    monkeypatch.setattr(changes, "SMALLER_MODELS", {"model=smollm2_135m": 1})
    monkeypatch.setattr(fits, "gemm_rate", lambda device, dtype: 1e6)
    fits.check_fits(train, store)
    tokens = train.layout.num_tokens(store, list(range(store.num_responses))) / 16
    weights = memory_plan(train, None).held.parameters
    hours = 2 * 4 * weights * tokens * 1000 / 0.6e6 / 3600  # forward, two gradients, the reference's forward
    assert f"works, about {hours:.2g} hours per 1000 pairs here; try model=smollm2_135m" in capsys.readouterr().out


def test_beside_the_policy_stand_the_models_that_the_reference_and_the_evaluation_keep(run: tuple[Train, TokenStore]) -> None:
    train, _ = run

    def plan(reference: Reference, adapter: LoRA | None = None) -> MemoryPlan:
        assert isinstance(train.model, PretrainedModel)
        model = replace(train.model, adapter=adapter) if adapter else train.model
        return memory_plan(replace(train, model=model, reference=reference), None)

    weights = float(plan(CachedReference()).held.weights)
    for reference, training, evaluation in (
        (CachedReference(), 0, 1),
        (FrozenReference(), 1, 2),  # it is copied from a model that is loaded for it
        (EMAReference(), 1, 2),
        (NoReference(), 0, 0),
    ):
        found = plan(reference)
        assert (found.reference, found.beside_evaluated) == (training * weights, evaluation * weights)
    off, moving = (plan(each, LoRA(rank=2)) for each in (AdapterOffReference(), EMAReference()))
    assert (off.reference, off.beside_evaluated) == (0, 0)
    assert moving.reference == moving.beside_evaluated == moving.held.trained_bytes > 0


def test_gradients_and_state_have_the_format_of_the_weights(run: tuple[Train, TokenStore]) -> None:
    train, _ = run
    single = memory_plan(train, None)
    half = memory_plan(replace(train, precision=Precision(mode="bf16-true")), None)
    assert single.held.trained_bytes == 2 * half.held.trained_bytes == 4 * half.held.trained
    assert single.optimizer == 2 * half.optimizer == 8 * single.held.trained
    assert half.read == single.held.weights  # the file is converted as it is read
    assert single.read == 0
    eight = memory_plan(replace(train, optim=AdamW8bit()), None)
    assert eight.optimizer == 2 * eight.held.trained
    assert eight.rows["update"] == 20 * 640 * 64


@pytest.mark.slow
def test_the_peak_is_within_15_percent_of_what_a_process_takes() -> None:
    found = measured("57M", "lora", "recipe.batch_size=8 recipe.token_budget=512", "--pairs", "12")
    assert found["planned"] == pytest.approx(found["measured"], rel=0.15)


def test_a_model_that_cannot_be_followed_is_trained_and_said_not_to_be_estimated(
    tmp_path: Path, store: TokenStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(train: Train, store: TokenStore | None) -> None:
        raise NotImplementedError("no such layer")

    monkeypatch.setattr(fits, "memory_plan", fails)
    fits.check_fits(stage(tmp_path), None)  # before the pairs are known: once is enough
    fits.check_fits(stage(tmp_path), store)
    assert capsys.readouterr().out == (
        "  memory is not estimated: this model cannot be followed without its weights (NotImplementedError: no such layer)\n"
    )

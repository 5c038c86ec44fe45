"""What a round costs: counts worked out by hand, shapes that are the model's own, a page that shows what the script prints."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scripts.bench import gpu_model
from scripts.bench.round_cost import CARDS, Card, Decoder, Round, disk, operations, seconds, step_bytes
from scripts.round_cost import main, round_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pipeline.md"
SMALL = Decoder(hidden=4, inner=6, layers=2, heads=2, key_heads=1, vocabulary=10)
ROUND = Round(
    prompts=10,
    answers=3,
    prompt_tokens=7,
    answer_tokens=5,
    longest=8,
    together=6,
    epochs=2,
    rank=1,
    quantised=False,
)


def test_the_weights_counted_are_those_of_mistral_7b() -> None:
    with torch.device("meta"):
        model = gpu_model.mistral(gpu_model.SHAPE, torch.device("meta"), torch.bfloat16)
    matrices = {name: each.numel() for name, each in model.named_parameters() if each.dim() > 1 and "embed" not in name}
    assert sum(size for name, size in matrices.items() if "lm_head" not in name) == Decoder().body
    assert matrices["lm_head.weight"] == Decoder().head


def test_operations_are_tokens_times_weights() -> None:
    # a layer of SMALL: 16 + 8 + 8 + 16 + 24 + 24 + 24 = 120 weights; LoRA of rank 1: 8 + 6 + 6 + 8 + 10 + 10 + 10 = 58
    assert (SMALL.body, SMALL.head, SMALL.adapter(1)) == (240, 40, 116)
    found = operations(ROUND, SMALL)
    assert found["sample, read"] == 2 * (70 * 240 + 10 * 40)
    assert found["sample, drawn"] == 2 * 150 * 280
    assert found["reference"] == 2 * (170 * 240 + 100 * 40)
    assert found["train"] == 2 * (340 * (2 * 356 + 116) + 2 * 100 * 2 * 40)


def test_answers_take_the_hosts_time_or_the_memorys_whichever_is_longer() -> None:
    # 30 answers in batches of 6 are 5 batches of 8 steps
    host = Card(name="", tflops=1e9, terabytes=1e9, launch=0.5)
    assert seconds(ROUND, SMALL, host)["sample, drawn"] == pytest.approx(20.0)
    # a step reads weights in two bytes, and of 2 prompts and half of 6 answers 2 layers x 2 keys and 2 values x 2 bytes a token
    assert step_bytes(ROUND, SMALL) == 2 * 280 + 16 * (2 * 7 + 6 * 2.5)
    memory = Card(name="", tflops=1e9, terabytes=1e-12, bandwidth=0.5, launch=0.0)
    assert seconds(ROUND, SMALL, memory)["sample, drawn"] == pytest.approx(40 * step_bytes(ROUND, SMALL) / 0.5)
    assert step_bytes(replace(ROUND, quantised=True), SMALL) - step_bytes(ROUND, SMALL) == 2.5 * 240


def test_files_of_answers_grow_with_prompts_and_those_of_the_adapter_do_not() -> None:
    once, twice = (disk(replace(ROUND, prompts=count), SMALL) for count in (10, 20))
    assert [twice[name] / once[name] for name in ("candidates", "ranking", "pairs", "tokens", "reference")] == [2] * 5
    assert once["policy, an adapter"] == twice["policy, an adapter"] == 4 * 116
    assert once["candidates"] < once["ranking"]


def test_the_round_is_that_of_the_recipe() -> None:
    found = round_of(["experiment=snorkel_mistral"], 190, 330)
    assert (found.prompts, found.answers, found.longest, found.rank, found.quantised) == (20000, 5, 512, 16, True)
    assert not round_of(["experiment=snorkel_mistral", "quant=none"], 190, 330).quantised


def test_the_page_shows_what_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    hours, _, files = capsys.readouterr().out.partition("\n\n")
    page = PAGE.read_text(encoding="utf-8")
    assert hours in page
    assert files.strip() in page
    assert all(card.name in page for card in CARDS)

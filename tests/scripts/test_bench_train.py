"""The training benchmark: its sample is the data set in small, its counts are exact, and unequal training is not timed."""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from scripts.bench import contestants, figures, flops, naive, task
from scripts.bench.contestants import competing, left_out, scan
from scripts.bench.figures import Figures, Spread, objections, verdicts
from scripts.bench.meter import Meter
from scripts.bench.smoke import EXPECTED, counted, smoke
from scripts.bench.task import Result
from scripts.bench_train import command_line, main

Triples = Sequence[tuple[int, int, int]]


@pytest.fixture(scope="module")
def whole_set(shared_data: Path) -> Triples:
    """Lengths of prompt, chosen and rejected of every pair of the data set."""
    lengths = json.loads((shared_data / "hh" / "lengths.json").read_text(encoding="utf-8"))["lengths"]
    return [(prompt, chosen, rejected) for prompt, chosen, rejected in lengths]


def test_the_sample_is_made_of_pairs_of_the_data_set(whole_set: Triples) -> None:
    assert set(task.LENGTHS) <= set(whole_set)
    assert len(set(task.LENGTHS)) == 2 * task.PAIRS_PER_STEP


def longest(triple: tuple[int, int, int]) -> int:
    """Return the length of a pair's longer row."""
    return triple[0] + max(triple[1:])


def padded_in_order(triples: Triples, size: int) -> float:
    """Return the padded tokens per pair of batches of this many pairs, in the order given."""
    batches = [triples[start : start + size] for start in range(0, len(triples), size)]
    return sum(2 * len(batch) * max(map(longest, batch)) for batch in batches) / len(triples)


def padded_in_random_order(triples: Triples, size: int) -> float:
    """Return the expected padded tokens per pair of batches drawn without replacement.

    Sorted by length, the pair at place i is the longest of a batch with probability C(i, size - 1) / C(n, size).
    """
    batches = math.comb(len(triples), size)
    ordered = enumerate(sorted(map(longest, triples)))
    return 2 * sum(length * (math.comb(place, size - 1) / batches) for place, length in ordered)


def test_the_expected_padding_is_worked_out_right_on_three_pairs() -> None:
    # rows of 1, 2, 3 tokens: batches {1,2} {1,3} {2,3} are 2, 3, 3 wide, two rows per pair: 2 * 8 / 3
    assert padded_in_random_order([(0, 1, 1), (0, 2, 1), (0, 3, 1)], 2) == pytest.approx(16 / 3)


@pytest.mark.parametrize("column", [0, 1, 2], ids=["prompt", "chosen", "rejected"])
def test_the_samples_mean_length_is_the_data_sets_within_a_percent(whole_set: Triples, column: int) -> None:
    wanted = statistics.mean(triple[column] for triple in whole_set)
    assert statistics.mean(triple[column] for triple in task.LENGTHS) == pytest.approx(wanted, rel=0.01)


def test_the_samples_prefix_shared_tokens_are_the_data_sets_within_a_percent(whole_set: Triples) -> None:
    wanted = statistics.mean(map(sum, whole_set))
    assert statistics.mean(map(sum, task.LENGTHS)) == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_the_samples_padding_is_the_data_sets_within_a_percent(whole_set: Triples, size: int) -> None:
    assert padded_in_order(task.LENGTHS, size) == pytest.approx(padded_in_random_order(whole_set, size), rel=0.01)


def test_the_ids_have_the_lengths_of_the_sample_and_are_no_special_tokens() -> None:
    pairs = task.pairs()
    assert tuple((len(pair.prompt), len(pair.chosen), len(pair.rejected)) for pair in pairs) == task.LENGTHS
    assert min(min(pair.prompt + pair.chosen + pair.rejected) for pair in pairs) >= task.SPECIAL_TOKENS
    assert pairs == task.pairs()


def test_the_expected_tokens_are_those_of_the_sample() -> None:
    prompts, chosen, rejected = (sum(column) for column in zip(*task.LENGTHS, strict=True))
    padded = round(padded_in_order(task.LENGTHS, task.PAIRS_PER_STEP) * len(task.LENGTHS))
    assert {
        "prefix": (prompts + chosen + rejected, chosen + rejected),
        "packed": (2 * prompts + chosen + rejected, chosen + rejected),
        "padded": (padded, chosen + rejected),
        "naive": (padded, padded),
    } == EXPECTED


@pytest.mark.parametrize("way", ["prefix", "packed"])
def test_a_layout_sends_the_expected_tokens_through_body_and_head(way: str) -> None:
    assert counted(way)[0] == EXPECTED[way]


@pytest.mark.slow
def test_every_way_sends_the_expected_tokens_and_gives_the_same_log_probabilities() -> None:
    assert len(smoke()) == len(EXPECTED)


def test_adapters_start_the_same_whatever_the_modules_are_wrapped_in() -> None:
    def adapted(prefix: str, seed: int) -> dict[str, torch.Tensor]:
        model = nn.ModuleDict({prefix: nn.ModuleDict({"lora_A": nn.ModuleDict({"default": nn.Linear(4, 2, bias=False)})})})
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            nn.init.normal_(next(model.parameters()))
        task.set_adapter(model)
        return {name.partition(".lora")[2]: weight.detach() for name, weight in model.named_parameters()}

    first, second = adapted("inner", 0), adapted("outer", 1)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert 0 < float(next(iter(first.values())).abs().max()) <= 0.5  # 1 / sqrt(4)


def result(**changes: object) -> Result:
    """Return a result as a contestant reports it."""
    made = Result(
        contestant="naive",
        options={"adapter": "none", "layers": 8},
        losses=[math.log(2), 0.69, 0.5, 0.4],
        grad_norms=[3.0, 3.0, 2.0, 2.0],
        epoch_seconds=[10.0, 12.0],
        reference_seconds=[2.0, 3.0],
        reference_cached=False,
        body_tokens=100,
        head_tokens=10,
        body_products=3,
        head_products=3,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_results_that_agree_may_be_timed() -> None:
    near = result(losses=[math.log(2), 0.69005, 0.5, 0.4])
    assert objections({"naive": result(), "other": near}, "fp32") == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"losses": [math.log(2), 0.69, 0.5002, 0.4]}, "differ from naive"),
        ({"losses": [0.70, 0.69, 0.5, 0.4]}, "not ln 2"),
        ({"losses": [math.log(2), math.nan, 0.5, 0.4]}, "differ from naive"),
        ({"losses": [math.log(2), 0.69, 0.5]}, "reports 3 losses"),
        ({"grad_norms": [3.0, 0.0, 2.0, 2.0]}, "without a gradient"),
        ({"grad_norms": [3.0, 3.0, 2.0, 2.1]}, "gradient norms"),
    ],
)
def test_a_contestant_that_does_not_train_the_same_is_refused(changes: dict[str, object], reason: str) -> None:
    (found, *_) = objections({"naive": result(), "other": result(**changes)}, "fp32")
    assert found.startswith("other: ")
    assert reason in found


def test_equal_losses_of_contestants_that_all_lack_a_gradient_are_refused() -> None:
    still = result(losses=[math.log(2)] * 4, grad_norms=[0.0] * 4)
    assert len(objections({"naive": still, "other": still}, "fp32")) >= 2


def test_bf16_is_compared_with_the_tolerance_of_its_rounding() -> None:
    near = {"naive": result(), "other": result(losses=[math.log(2), 0.692, 0.5, 0.4])}
    assert objections(near, "bf16-mixed") == []
    assert objections(near, "fp32") != []


def test_a_reference_of_every_step_is_part_of_every_epoch_and_a_cached_one_is_paid_once() -> None:
    assert figures.excluding(result()) == [8.0, 9.0]
    assert figures.including(result()) == figures.later(result()) == [10.0, 12.0]
    cached = result(reference_seconds=[4.0], reference_cached=True)
    assert figures.excluding(cached) == figures.later(cached) == [10.0, 12.0]
    assert figures.including(cached) == [14.0, 16.0]


def test_operations_are_positions_times_products_times_weights() -> None:
    # 8 layers: body 24,117,248 and head 16,384,000 weights: 2 x (100 x 3 x 24,117,248 + 10 x 3 x 16,384,000)
    assert flops.training(result()) == pytest.approx(15.453_388_8)
    assert flops.reference(result()) == pytest.approx(2e-9 * (100 * 24_117_248 + 10 * 16_384_000))
    # LoRA: two products with the frozen weights, three with its own 1,212,416
    lora = result(options={"adapter": "lora", "layers": 8}, body_products=2, head_products=2)
    assert flops.training(lora) == pytest.approx(2e-9 * (100 * (2 * 24_117_248 + 3 * 1_212_416) + 10 * 2 * 16_384_000))


def test_the_weights_counted_are_those_of_the_model() -> None:
    model = task.language_model(layers=2, size=64)
    counted = sum(weight.numel() for name, weight in model.named_parameters() if weight.dim() > 1 and "embed" not in name)
    expected = flops.weights(layers=2, size=64)
    assert counted == expected["body"] + expected["head"]


def test_a_meter_counts_positions_with_gradients_and_seconds_without() -> None:
    model = task.language_model(layers=1, size=64)
    meter = Meter()
    meter.time_reference(model)
    meter.count_tokens(model.model, model.lm_head)
    meter.begin_epoch()
    ids = torch.full((2, 5), 7)
    model(input_ids=ids)
    assert (meter.body_tokens, meter.head_tokens, meter.reference) == (10, 10, 0.0)
    with torch.no_grad():
        model(input_ids=ids)
    meter.end_epoch()
    assert (meter.body_tokens, meter.head_tokens) == (10, 10)
    assert 0 < meter.reference_seconds[0] < meter.epoch_seconds[0]


def test_the_naive_loops_log_probability_does_not_depend_on_the_batch() -> None:
    model = task.language_model(layers=1, size=64)
    pairs = task.pairs()[1:3]
    together = naive.response_logps(model, *naive.padded(pairs))
    alone = [naive.response_logps(model, *naive.padded([pair])) for pair in pairs]
    assert torch.allclose(together, torch.stack([*(one[0] for one in alone), *(one[1] for one in alone)]), atol=1e-3)


def asked(*arguments: str) -> argparse.Namespace:
    """Return a command line as the script reads it."""
    return command_line().parse_args(arguments)


def test_a_peer_without_an_interpreter_is_left_out_and_named() -> None:
    given = asked("--trl-python", "somewhere/python")
    assert [each.name for each in competing(given) if each.python == "somewhere/python"] == ["TRL defaults", "TRL best"]
    assert not any(each.name.startswith("ms-swift") for each in competing(given))
    assert [line.partition(" ")[0] for line in left_out(given)] == ["ms-swift"]
    assert len(left_out(asked())) == 2


def test_the_scan_keeps_the_value_with_the_fewest_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"1": 9.0, "2": 7.0, "4": 8.0, "8": 30.0}
    run = lambda self, *_, **__: result(epoch_seconds=[seconds[self.arguments[-1]]], reference_seconds=[1.0])  # noqa: E731
    monkeypatch.setattr(contestants.Contestant, "run", run)
    best = next(each for each in competing(asked("--trl-python", "x")) if each.name == "TRL best")
    tuned, found = scan(best, asked())
    assert tuned.arguments[-2:] == ("--micro-batch", "2")
    assert found == seconds


@pytest.fixture
def unequal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contestants of which one trains something else."""

    def run(self: contestants.Contestant, *_: object, **__: object) -> Result:
        return result(losses=[math.log(2), 0.69, 0.3, 0.2]) if self.name == "naive" else result()

    monkeypatch.setattr(contestants.Contestant, "run", run)
    monkeypatch.setattr(flops, "gemm_rate", lambda precision: 100.0)


@pytest.mark.usefixtures("unequal")
def test_unequal_training_ends_the_run_without_a_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--rounds", "1"])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "no ratio is reported" in printed
    assert "contestant" not in printed


def test_targets_are_told_reached_or_missed() -> None:
    def made(seconds: float) -> Figures:
        one = Spread(seconds, seconds, seconds)
        return Figures(excluding=one, including=one, later=one, peak_rss_mb=1.0, gflop_per_pair=1.0, gemm_share=0.5)

    lines = verdicts({"ours": made(1.0), "ours without Lightning": made(0.99), "TRL best": made(3.0)}, "none", "fp32", amx=False)
    assert lines == [
        "TRL best, reference included: 3.00x, target 3.3x, missed",
        "Lightning adds 1.0 %, target below 2 %, reached",
    ]
    (line,) = verdicts({"ours": made(1.0), "TRL best": made(4.0)}, "none", "bf16-mixed", amx=False)
    assert "processors with AMX, which this one lacks" in line
    assert line.endswith("missed")

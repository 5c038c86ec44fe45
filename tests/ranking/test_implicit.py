"""The implicit reward of a DPO model is what plain transformers and a subtraction make of it."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpo_lab.components import ConfigError
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.load import load_model, save_model
from dpo_lab.ranking.base import Verdict, failed
from dpo_lab.ranking.implicit import ImplicitReward
from dpo_lab.records import Candidates, Prompt
from tests.models.directories import model_directory

CPU = torch.device("cpu")
SETS = [
    Candidates(prompt=Prompt.from_text("what is good?"), responses=("a fox", "the lazy dog jumps over", "a fox")),
    Candidates(prompt=Prompt.from_text("who?"), responses=("a dog", "the quick"), finished=(True, False)),
]


def verdicts(ranker: ImplicitReward) -> list[Verdict]:
    ranker.check()
    with ranker.open(CPU) as opened:
        return opened.rank(SETS)


@torch.no_grad()
def by_hand(directory: Path, prompt: str, answer: str, *, ended: bool) -> tuple[float, int]:
    """Return the log-probability of an answer's tokens, and how many there are."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    asked = tokenizer(f"<s>[INST] {prompt} [/INST]", add_special_tokens=False).input_ids
    text = f"<s>[INST] {prompt} [/INST]{answer}" + ("</s>" if ended else "")
    ids = torch.tensor([tokenizer(text, add_special_tokens=False).input_ids])
    logps = model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[len(asked) - 1 :]
    return float(logps.sum()), len(logps)


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    policy = model_directory(tmp_path / "policy", "mistral")
    reference = model_directory(tmp_path / "reference", "mistral")
    model = AutoModelForCausalLM.from_pretrained(reference)
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    model.save_pretrained(reference, max_shard_size="20KB")
    return policy, reference


def test_scores_are_beta_times_the_log_ratio_of_plain_transformers(directories: tuple[Path, Path]) -> None:
    policy, reference = directories
    found = verdicts(ImplicitReward(path=str(policy), reference=str(reference), beta=0.5))
    alone = verdicts(ImplicitReward(path=str(policy), reference="none", beta=2.0, average=True))
    for each, verdict, free in zip(SETS, found, alone, strict=True):
        for at, text in enumerate(each.responses):
            own, count = by_hand(policy, each.prompt.text, text, ended=each.has_ended(at))
            other, _ = by_hand(reference, each.prompt.text, text, ended=each.has_ended(at))
            assert verdict.scores[at] == pytest.approx(0.5 * (own - other), abs=1e-4)
            assert free.scores[at] == pytest.approx(2.0 * own / count, abs=1e-4)


def test_an_adapter_is_compared_with_its_base(directories: tuple[Path, Path], tmp_path: Path) -> None:
    base, adapter = directories[0], tmp_path / "adapter"
    loaded = load_model(str(base))
    model = LoRA().attach(loaded.model, seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    adapter.mkdir()
    save_model(model, loaded.tokenizer, adapter, str(base))
    off, beside = (verdicts(ImplicitReward(path=str(adapter), reference=place)) for place in ("base", str(base)))
    for one, other in zip(off, beside, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
        assert max(map(abs, one.scores)) > 1e-3
    ranker = ImplicitReward(path=str(adapter))
    assert ranker.win_probability(1.0, 0.0) == pytest.approx(0.7310586)
    assert ranker.content() != ImplicitReward(path=str(adapter), beta=0.2).content()
    assert ranker.bytes_needed("cpu") > 4 * sum(weight.numel() for weight in loaded.model.parameters()) * 0.9


def test_a_prompt_that_the_template_refuses_is_a_failed_verdict(directories: tuple[Path, Path]) -> None:
    opens = Candidates(
        prompt=Prompt.of([{"role": "assistant", "content": "a"}, {"role": "user", "content": "who?"}]), responses=("a", "the")
    )
    with ImplicitReward(path=str(directories[0]), reference="none").open(CPU) as opened:
        refused, taken = opened.rank([opens, SETS[1]])
    assert failed(refused)
    assert not failed(taken)


def test_a_policy_that_is_not_an_adapter_needs_a_named_reference(directories: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match=r"is not an adapter, so ranker\.reference=base names no model"):
        ImplicitReward(path=str(directories[0])).check()
    with pytest.raises(ConfigError, match=r"ranker\.reference=nowhere is not a directory"):
        ImplicitReward(path=str(directories[0]), reference="nowhere").check()


def test_a_reference_with_other_tokens_is_refused_before_a_weight_is_read(tmp_path: Path) -> None:
    policy, other = (str(model_directory(tmp_path / name, name)) for name in ("mistral", "qwen2"))
    with pytest.raises(ConfigError, match=r"^ranker\.reference=\S+ has other tokens than ranker\.path="):
        ImplicitReward(path=policy, reference=other).check()
    ImplicitReward(path=policy, reference=policy).check()

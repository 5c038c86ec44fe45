"""The making of the tiny model resumes after a signal, from the step that was saved, to the same weights."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.spec import TinyModel
from dpo_lab.models.tiny import learn_tokenizer, untrained
from dpo_lab.records import Prompt
from dpo_lab.training import sft
from dpo_lab.training.callbacks import Checkpoint, checkpoint_of
from tests.training.stopping import KillAfter, Killed

SPEC = TinyModel(hidden_size=32, intermediate_size=48, num_heads=2, sft_examples=96, sft_batch_size=16)
USUAL = Checkpoint()
EXAMPLES = [(Prompt.from_text(f"question {number}?"), f"answer {number % 7}") for number in range(96)]  # six steps


def make(directory: Path, checkpoint: Checkpoint = USUAL) -> dict[str, Tensor]:
    """Make the model from its beginning as a separate process would; return its weights."""
    directory.mkdir(exist_ok=True)
    tokenizer = learn_tokenizer([answer for _, answer in EXAMPLES] * 3, SPEC.vocab_size)
    model = untrained(SPEC, tokenizer, 0)
    sft.fine_tune(model, tokenizer, EXAMPLES, SPEC, PaddedLayout(), 0, directory, checkpoint)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_base_model_half_made_is_saved_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    undisturbed = make(tmp_path / "whole")

    def handler(received: int, frame: Any) -> None:
        raise Killed

    before = signal.signal(number, handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(sft, "ProgressBar", lambda: KillAfter(step=4, with_signal=number))
            with pytest.raises(Killed):
                make(tmp_path / "stopped")
    finally:
        signal.signal(number, before)
    assert "saved after step 4" in capsys.readouterr().out
    again = make(tmp_path / "stopped")
    assert "pretrain resumes after step 4 of 6" in capsys.readouterr().out
    assert again.keys() == undisturbed.keys()
    assert all(torch.equal(tensor, undisturbed[name]) for name, tensor in again.items())


def test_the_base_model_is_saved_as_often_as_the_run_says(tmp_path: Path) -> None:
    make(tmp_path, checkpoint_of({"checkpoint": Checkpoint(every=2, keep=3, best="rewards/margins")}))
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.suffix == ".ckpt")
    assert kept == ["step_0000004.ckpt", "step_0000006.ckpt"]  # of three, the finished model takes the place of one

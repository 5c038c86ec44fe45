"""A key that stands elsewhere than it was looked for: the message names where."""

from pathlib import Path

import pytest

from dpo_lab.cli.main import main

# command: the whole message after "error: "
ELSEWHERE = {
    "loss=ld_dpo loss.beta=.3": (
        "loss.beta is not known. Did you mean 'loss.loss.beta' or 'recipe.beta'? Valid in loss: alpha, loss."
    ),
    "loss=wpo loss.betta=.3": "loss.betta is not known. Did you mean 'loss.loss.beta' or 'recipe.beta'? Valid in loss: loss.",
    "loss=dpo_js loss.beta=.3": (
        "loss.beta is not known. Did you mean 'loss.loss.beta' or 'recipe.beta'? Valid in loss: divergence, loss."
    ),
    "loss=dpo_alpha loss.alpha=.3": (
        "loss.alpha is not known. Did you mean 'loss.divergence.alpha'? Valid in loss: divergence, loss."
    ),
    "loss=mpo loss.beta=.3": (
        "loss.beta is not known. Did you mean 'loss.losses.dpo.beta' or 'loss.losses.bco.beta' or 'recipe.beta'? "
        "Valid in loss: losses, weights."
    ),
    "data.top_p=1": (  # the data takes its sampler from a shelf, and there one sets it
        "data.top_p is not known. Did you mean 'sampler.top_p'? "
        "Valid in data: max_length, order, pairing, prompts, ranker, sampler, truncation."
    ),
}


@pytest.mark.parametrize("command", ELSEWHERE)
def test_a_key_that_stands_further_down_is_named(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert main(["train", *command.split()]) == 2
    assert capsys.readouterr().err == f"error: {ELSEWHERE[command]}\n"


def test_a_key_without_its_group_is_answered_with_where_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert main(["train", "top_p=1"]) == 2
    said = "top_p is neither a group nor a key. Did you mean 'sampler.top_p'? All keys: dpo-lab train --help"
    assert capsys.readouterr().err == f"error: {said}\n"

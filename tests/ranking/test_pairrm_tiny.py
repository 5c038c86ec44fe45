"""The tiny PairRM: what it learns from, its directory, and the training that a run finds again or resumes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dpo_lab.artifacts import Artifact
from dpo_lab.components import ConfigError, RunError
from dpo_lab.pipeline.ranker import ready, trained_for
from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.ranking.ensemble import EnsembleRanker
from dpo_lab.ranking.pairrm import learning
from dpo_lab.ranking.pairrm.examples import steps_of
from dpo_lab.ranking.pairrm.ranker import PairRM
from dpo_lab.ranking.pairrm.texts import PairTexts
from dpo_lab.ranking.pairrm.tiny import WEIGHTS, PairRMTiny, learn_tokenizer
from dpo_lab.records import Candidates, Prompt
from dpo_lab.world.labelled import labelled_prompts
from dpo_lab.world.parser import gold_reward, parse

CPU = torch.device("cpu")
SMALL = PairRMTiny(steps=80, pairs=2, hidden_size=16, intermediate_size=16)
ANSWERS = ("The Silent Mirror left me undecided.", "I watched The Silent Harbor last night.", "")
SETS = [Candidates(prompt=Prompt.from_text("Please review The Silent Mirror."), responses=ANSWERS)]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def made(outputs: Path) -> Artifact:
    (artifact,) = trained_for([SMALL], outputs)
    return artifact


def weights_of(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / WEIGHTS)


def test_a_training_that_was_killed_resumes_to_the_same_weights(
    made: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step, done = learning._step, iter(range(70))

    def killed(*arguments: object) -> object:
        if next(done, None) is None:
            raise KeyboardInterrupt
        return step(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(learning, "_step", killed)
        with pytest.raises(KeyboardInterrupt):
            trained_for([SMALL], tmp_path)
    (again,) = trained_for([SMALL], tmp_path)
    assert "resuming train pairrm_tiny: 64 of 80 steps done" in capsys.readouterr().out
    assert {path.name for path in again.path.iterdir()} == {path.name for path in made.path.iterdir()}
    for name, weight in weights_of(made.path).items():
        assert torch.equal(weight, weights_of(again.path)[name]), name


def test_a_trained_ranker_ranks_as_pairrm_does_with_its_directory(made: Artifact, outputs: Path) -> None:
    ranker, _ = ready(SMALL, outputs)
    with ranker.open(CPU) as ours, PairRM(path=str(made.path)).open(CPU) as public:
        (one,), (other,) = ours.rank(SETS), public.rank(SETS)
    assert one == other
    assert made.facts["pairs"] == 160


def test_a_ranker_is_trained_once_for_ranking_judging_and_an_ensemble(made: Artifact, outputs: Path) -> None:
    ensemble = EnsembleRanker(members={"tiny": SMALL, "length": LengthRanker()})
    both, trained = ready(ensemble, outputs)
    assert ([each.id for each in trained], [each.made_now for each in trained]) == ([made.id], [False])
    assert both.content() == ensemble.content()
    with both.open(CPU) as opened:
        assert len(opened.rank(SETS)[0].scores) == len(ANSWERS)


def test_other_seeds_and_steps_are_other_rankers_and_a_temperature_is_not() -> None:
    assert SMALL.training() == PairRMTiny(steps=80, pairs=2, hidden_size=16, intermediate_size=16, temperature=2.0).training()
    others = [PairRMTiny(seed=1), PairRMTiny(steps=601), PairRMTiny(lr=1e-3), PairRMTiny(hidden_size=32), PairRMTiny()]
    assert len({str(other.training()) for other in others}) == len(others)


def test_an_untrained_ranker_says_how_it_is_trained_and_heads_share_its_width() -> None:
    with pytest.raises(RunError, match="trained before it opens"):
        SMALL.open(CPU)
    with pytest.raises(ConfigError, match="hidden_size=64 cannot be shared by num_heads=3"):
        PairRMTiny(num_heads=3).check()


def test_labels_of_an_example_are_those_that_the_texts_say() -> None:
    tokenizer = learn_tokenizer(0)
    examples = next(steps_of(PairTexts(tokenizer, 1224, 412), 0, pairs=32, part=0, kept=1.0))
    for row in range(len(examples.ids)):
        ids, segments = examples.ids[row], examples.segment[row]
        prompt, first, second = (tokenizer.decode(ids[segments == segment].tolist()).strip() for segment in range(3))
        better = gold_reward(prompt, first) > gold_reward(prompt, second)
        assert bool(examples.first_is_better[row]) is better
        tones = [2 * parse(prompt, answer).tone - 1 for answer in (first, second)]
        assert examples.tone[row].tolist() == pytest.approx(tones)
        words = [tokenizer.decode([token]).strip() for token in ids[examples.title_words[row]].tolist()]
        assert len(words) == 4, words
        asked = [[word in prompt for word in words[at : at + 2]] for at in (0, 2)]
        assert examples.asked[row].bool().tolist() == asked
    in_rows = [word for row in examples.asked.bool().tolist() for answer in row for word in answer]
    assert examples.word_asked.bool().tolist() == in_rows


def test_short_reviews_keep_their_opener_and_half_of_the_answers_name_the_asked_film() -> None:
    prompts = labelled_prompts(0, kept=0.0)
    some = [next(prompts) for _ in range(100)]
    assert all(answer.count(".") == 1 for each in some for answer in each.answers)
    share = sum(all(asked) for each in some for asked in each.asked) / 400
    assert 0.4 < share < 0.6

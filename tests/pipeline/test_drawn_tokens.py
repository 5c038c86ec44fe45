"""Pairs that the policy makes: the tokens that were drawn are stored and trained, with what the model said of them."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from dpo_lab.components import component
from dpo_lab.data.prompts import FilmPrompts
from dpo_lab.drawn import Drawn
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.load import ModelOnDisk, evaluating, save_model
from dpo_lab.pipeline.answers import CANDIDATES
from dpo_lab.pipeline.on_policy import OnPolicy
from dpo_lab.pipeline.tokens import token_store
from dpo_lab.ranking.pairing import BestVsWorst
from dpo_lab.records import Candidates, PreferencePair, read_jsonl
from dpo_lab.sampling.answers import candidates_of
from dpo_lab.sampling.hf import HFSampler
from dpo_lab.scoring.score import score
from dpo_lab.tokens.build import tokenise_items
from tests.models.directories import CHATML, GEMMA, MISTRAL
from tests.small_stage import ShareOfVowels, request
from tests.tokens.test_rendering import ASKED, DROPS, INSERTS, OPENS, PHI, THOUGHT, encoder_of

CPU = torch.device("cpu")


@pytest.mark.parametrize("template", [DROPS, OPENS, INSERTS, PHI, CHATML, GEMMA, MISTRAL])
@pytest.mark.parametrize("text", [THOUGHT, "Yes.", " Yes. ", "<think>\nIt is"])
@pytest.mark.parametrize("ended", [True, False])
def test_ids_drawn_are_ids_stored_whatever_the_template_renders(template: str, text: str, ended: bool) -> None:
    encoder = encoder_of(template)
    tokenizer: Any = encoder.tokenizer
    letters = [token for letter in text for token in tokenizer(letter, add_special_tokens=False)["input_ids"]]  # no merges
    ends = [tokenizer.eos_token_id] if ended else []
    drawn = tuple(Drawn.of(ids, [-1.0] * len(ids)) for ids in ([*letters, *ends], [*letters[:3], *ends]))
    texts = [tokenizer.decode(answer.ids.tolist(), skip_special_tokens=True).strip() for answer in drawn]
    pair = PreferencePair(prompt=ASKED, chosen=texts[0], rejected=texts[1], finished=(ended, ended), drawn=drawn)
    made = tokenise_items([pair], tokenizer, max_length=512, truncation="error")
    assert made.counts == {}
    assert made.store.prompt(0).tolist() == encoder.prompt_ids([ASKED])[0]
    assert [made.store.response(side).tolist() for side in (0, 1)] == [answer.ids.tolist() for answer in drawn]
    assert made.store.drawn_logps is not None
    assert made.store.drawn_logps.tolist() == [-1.0] * len(made.store.response_ids)
    cut = tokenise_items([pair], tokenizer, max_length=made.store.row_lengths.max() - 1, truncation="keep_end_prompt")
    whole = [] if "prompt_too_long" in cut.counts else [drawn[1]]  # after another prompt the model would have said something else
    known = np.full(0, np.nan) if cut.store.drawn_logps is None else cut.store.drawn_logps
    assert (~np.isnan(known)).sum() == sum(len(each.ids) for each in whole)


def test_two_draws_of_one_text_are_two_pairs() -> None:
    one, other = (
        PreferencePair(prompt=ASKED, chosen="a", rejected="b", drawn=(Drawn.of(ids, [-1.0] * len(ids)), Drawn.of([3], [-1.0])))
        for ids in ([1], [1, 2])
    )
    assert one.id != other.id
    assert PreferencePair.from_record(one.to_record("train")) == one


@pytest.fixture
def policy(model: Any, tokenizer: Any, tmp_path: Path) -> ModelOnDisk:
    with torch.no_grad():  # likely end tokens, so that some answers end
        head = model.get_output_embeddings().weight
        head[tokenizer.eos_token_id] = head[10] * 3
    save_model(model, tokenizer, tmp_path / "policy", base_path="")
    return ModelOnDisk(str(tmp_path / "policy"), "policy")


def test_drawn_ids_and_log_probabilities_go_with_a_pair_to_the_token_store(policy: ModelOnDisk, tmp_path: Path) -> None:
    sampler = HFSampler(num_samples=4, max_new_tokens=12, batch_size=16, temperature=0.7, top_p=0.9)
    data = OnPolicy(prompts=FilmPrompts(num_prompts=8), sampler=sampler, ranker=ShareOfVowels(), pairing=BestVsWorst())
    made = data.pairs(request(policy, tmp_path, seed=3))
    pairs = [pair for pair in made.train if isinstance(pair, PreferencePair)]
    sets = {each.prompt.id: each for each in map(Candidates.from_record, read_jsonl(made.artifacts[0].path / CANDIDATES))}
    store, _ = token_store(made.train, data, policy, root=tmp_path, name="round1", force=False)
    assert store.num_pairs == len(made.train) > 4
    assert made.drawn_by == policy.id
    assert len({ended for pair in made.train for ended in pair.finished}) == 2, "some ended, some were cut"
    model = policy.loaded(CPU).model
    with evaluating(model):
        batch = PaddedLayout().rows(store, range(store.num_responses))
        per_token = score(model, batch).per_token.split(batch.counts.tolist())
    for pair, sides in zip(pairs, store.pairs.tolist(), strict=True):
        for drawn, side in zip(pair.drawn, sides, strict=True):
            assert drawn
            assert drawn in sets[pair.prompt.id].drawn
            assert store.response(side).tolist() == drawn.ids.tolist()
            raw = torch.tensor(drawn.logps)  # before temperature and top_p
            assert torch.allclose(raw, per_token[batch.responses.tolist().index(side)], atol=1e-4)
            end = store.response_ends[side]
            assert store.drawn_logps is not None
            assert torch.equal(torch.tensor(store.drawn_logps[end - len(raw) : end]), raw)


@component
class OtherEngine(HFSampler):
    """Stands in for an engine with its own kernels: what it says of its tokens is not what the policy says."""

    gives_own_logps: ClassVar[bool] = False


def test_what_another_engine_says_of_its_tokens_never_stands_for_the_policy(policy: ModelOnDisk, tmp_path: Path) -> None:
    sampler = OtherEngine(num_samples=4, max_new_tokens=12)
    data = OnPolicy(prompts=FilmPrompts(num_prompts=2), sampler=sampler, ranker=ShareOfVowels(), pairing=BestVsWorst())
    assert data.pairs(request(policy, tmp_path)).drawn_by == ""


@pytest.mark.parametrize("where", ["config", "generation"])
def test_an_answer_ends_at_every_end_token_that_anything_names(model: Any, tokenizer: Any, where: str) -> None:
    other = 10
    with torch.no_grad():
        head = model.get_output_embeddings().weight
        head[other] = head[other] * 3

    def answers() -> list[Drawn]:
        opened = HFSampler(num_samples=60, max_new_tokens=24).of(model, tokenizer)
        return opened.draw([[5, 6, 7]], 0)[0]

    assert any(other in answer.ids[:-1] for answer in answers())
    if where == "config":
        model.config.eos_token_id = [model.config.eos_token_id, other]
    else:
        model.generation_config.eos_token_id = [other]
    drawn = answers()
    ended = [answer for answer in drawn if answer.ids[-1] == other]
    assert ended
    assert not any(other in answer.ids[:-1] for answer in drawn)
    (made,) = candidates_of([ASKED], [ended], HFSampler().of(model, tokenizer))
    assert made.finished == (True,) * len(ended)
    assert made.responses[0] == tokenizer.decode(ended[0].ids[:-1].tolist(), skip_special_tokens=True).strip()

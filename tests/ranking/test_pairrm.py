"""PairRM: the encoder is transformers', rows are read as published, scores follow from a set alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dpo_lab.components import ConfigError
from dpo_lab.ranking.pairrm.comparisons import by_length, log_odds, matrices, scores
from dpo_lab.ranking.pairrm.encoder import Shape
from dpo_lab.ranking.pairrm.network import EMBEDDINGS, PUBLISHED, PairNetwork, load_network, size_of
from dpo_lab.ranking.pairrm.ranker import PairRM
from dpo_lab.ranking.pairrm.texts import PREFIXES, SOURCE, Comparison
from dpo_lab.records import Candidates, Prompt
from tests.ranking.pairrm_directory import Published, write

CPU = torch.device("cpu")
GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "data" / "golden" / "pairrm"
SETS = [
    ("is it good?", ("it is good.", "no", "it was bad, and long.")),
    ("why does the eagle like history? " * 4, ("because", "because it does so " * 5)),
    ("a", ("b", "c", "d", "e")),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Published]:
    directory = tmp_path_factory.mktemp("pairrm") / "model"
    return directory, write(directory)


def ranked(directory: Path, sets: list[tuple[str, tuple[str, ...]]], **settings: Any) -> list[np.ndarray[Any, Any]]:
    network, texts = load_network(directory, CPU)
    return matrices(network, texts, [prompt for prompt, _ in sets], [answers for _, answers in sets], 64, **settings)


# ---------------------------------------------------------------- the network
@pytest.mark.parametrize("time", [3, 15, 16, 17, 40, 100])
def test_logits_are_those_of_transformers_encoder_at_any_length(made: tuple[Path, Published], time: int) -> None:
    directory, published = made
    network, _ = load_network(directory, CPU)
    generator = torch.Generator().manual_seed(time)
    ids = torch.randint(4, 40, (3, time), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, time // 2 + 1 :] = 0
    anchors = torch.randint(0, time // 2 + 1, (3, 3), generator=generator)
    with torch.no_grad():
        ours = network(ids * mask, mask, anchors)
    assert torch.allclose(ours, published.logits(ids * mask, mask, anchors), atol=2e-5)


def test_heads_one_at_a_time_change_nothing(made: tuple[Path, Published], monkeypatch: pytest.MonkeyPatch) -> None:
    together = ranked(made[0], SETS)
    monkeypatch.setattr("dpo_lab.ranking.pairrm.encoder.PRODUCTS_AT_ONCE", 1)
    assert all(np.allclose(one, other, atol=1e-6) for one, other in zip(together, ranked(made[0], SETS), strict=True))


def test_the_gradient_of_every_weight_is_that_of_transformers_encoder(made: tuple[Path, Published]) -> None:
    directory, published = made
    network, _ = load_network(directory, CPU)
    ids, anchors = torch.arange(5, 29).repeat(2, 1), torch.tensor([[1, 9, 17], [2, 8, 20]])
    mask = torch.ones_like(ids)
    network(ids, mask, anchors).sum().backward()
    states = published.pretrained_model(input_ids=ids, attention_mask=mask).last_hidden_state
    prompt, first, second = states[torch.arange(2)[:, None], anchors].unbind(1)
    head = published.head_layer
    published.zero_grad()
    (head(torch.cat([prompt, first], -1)) - head(torch.cat([prompt, second], -1))).sum().backward()
    theirs = dict(published.named_parameters())
    for name, weight in network.named_parameters():
        gradient = theirs[name].grad
        assert gradient is not None
        assert weight.grad is not None, name
        assert torch.allclose(weight.grad, gradient, atol=1e-4 * float(gradient.abs().max()) + 1e-6), name


def test_the_full_architecture_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        network = PairNetwork(Shape(vocab_size=128005))
    assert sum(weight.numel() for weight in network.parameters()) == 436_014_081


# ---------------------------------------------------------------- reading
def test_a_row_is_three_segments_each_behind_its_prefix(made: tuple[Path, Published]) -> None:
    _, texts = load_network(made[0], CPU)
    segments = {
        text: texts.segments([text], prefix)[text] for text, prefix in (("why", SOURCE), ("so", PREFIXES[1]), ("no", PREFIXES[1]))
    }
    row = texts.comparison(segments["why"], segments["so"], segments["no"])
    assert texts.tokenizer.decode(row.ids, skip_special_tokens=False).count("[CLS]") == 3
    assert [texts.tokenizer.id_to_token(row.ids[at]) for at in row.anchors] == list(PREFIXES[:3])
    assert [texts.tokenizer.id_to_token(row.ids[at - 1]) for at in row.anchors] == ["[CLS]"] * 3


def test_what_a_prompt_leaves_is_shared_by_the_answers_and_the_last_token_stays(made: tuple[Path, Published]) -> None:
    _, texts = load_network(made[0], CPU)
    prompt = texts.cut_prompt(texts.segments(["a" * 100], SOURCE)["a" * 100])
    assert (len(prompt), prompt[-1]) == (40, texts.end)
    answer = texts.segments(["b" * 100], PREFIXES[1])["b" * 100]
    assert len(texts.cut_answer(answer, prompt)) == 20
    assert len(texts.cut_answer(answer, prompt[:10])) == 20 + 15
    assert texts.cut_answer(answer, prompt)[-1] == texts.end


@pytest.mark.parametrize("token", ["[SEP]", *PREFIXES])
def test_a_token_of_the_format_within_a_text_is_read_as_a_blank(made: tuple[Path, Published], token: str) -> None:
    literal, blank = ranked(made[0], [(f"is {token} it?", (f"a{token}b", "no")), ("is   it?", ("a b", "no"))])
    assert np.array_equal(literal, blank)


def test_characters_are_normalised_as_the_tokenizer_file_says(made: tuple[Path, Published]) -> None:
    wide, plain = ranked(made[0], [("it costs \uff11\u2460", ("\ufb01ne", "no")), ("it costs 11", ("fine", "no"))])
    assert np.array_equal(wide, plain)


# ---------------------------------------------------------------- scores
def test_a_set_is_scored_the_same_whatever_stands_beside_it(made: tuple[Path, Published]) -> None:
    together = ranked(made[0], SETS)
    for alone, beside in zip(SETS, together, strict=True):
        assert np.allclose(ranked(made[0], [alone])[0], beside, atol=1e-5)


def test_entry_i_j_shows_i_first(made: tuple[Path, Published]) -> None:
    directory, published = made
    _, texts = load_network(directory, CPU)
    prompt, (one, other) = "why?", ("so", "no, never")
    source = texts.segments([prompt], SOURCE)[prompt]
    segments = texts.segments([one, other], PREFIXES[1])
    (matrix,) = ranked(directory, [(prompt, (one, other))])
    for (i, first), (j, second) in (((0, one), (1, other)), ((1, other), (0, one))):
        row = texts.comparison(source, segments[first], segments[second])
        ids = torch.tensor([row.ids])
        expected = published.logits(ids, torch.ones_like(ids), torch.tensor([row.anchors]))
        assert float(expected) == pytest.approx(float(matrix[i, j]), abs=1e-5)
    assert matrix[0, 0] == matrix[1, 1] == 0


def test_one_order_takes_the_other_as_its_negative(made: tuple[Path, Published]) -> None:
    (both,), (first,) = ranked(made[0], SETS[:1]), ranked(made[0], SETS[:1], both_orders=False)
    upper = np.triu_indices(3, 1)
    assert np.allclose(first[upper], both[upper], atol=1e-5)
    assert np.array_equal(first, -first.T)


def test_equal_answers_tie_and_a_repeated_comparison_is_computed_once(
    made: tuple[Path, Published], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = list[int]()
    computed = PairNetwork.logits

    def counted(network: PairNetwork, batch: Any) -> torch.Tensor:
        rows.append(len(batch))
        return computed(network, batch)

    monkeypatch.setattr(PairNetwork, "logits", counted)
    (matrix,) = ranked(made[0], [("why?", ("so", "no", "so", "so"))])
    assert sum(rows) == 4 - 1  # so-no, no-so, so-so
    assert scores(matrix)[0] == scores(matrix)[2] == scores(matrix)[3]
    assert log_odds(matrix)[0, 2] == 0


def test_differences_of_scores_of_two_answers_are_twice_their_log_odds(made: tuple[Path, Published]) -> None:
    (matrix,) = ranked(made[0], [("why?", ("so", "no"))])
    assert scores(matrix)[0] - scores(matrix)[1] == pytest.approx(2 * log_odds(matrix)[0, 1], abs=1e-6)


# ---------------------------------------------------------------- the ranker
def test_both_layouts_give_the_same_verdicts(tmp_path: Path, made: tuple[Path, Published]) -> None:
    write(tmp_path / "blender", "PairRM")
    sets = [Candidates(prompt=Prompt.from_text(prompt), responses=answers) for prompt, answers in SETS]
    rankers = (PairRM(path=str(made[0])), PairRM(path=str(tmp_path / "blender"), backbone=str(tmp_path / "blender" / "backbone")))
    verdicts = []
    for ranker in rankers:
        ranker.check()
        with ranker.open(CPU) as opened:
            verdicts.append(opened.rank(sets))
    assert verdicts[0] == verdicts[1]
    assert [len(verdict.scores) for verdict in verdicts[0]] == [3, 2, 4]


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden scores of llm-blender are not here")
@pytest.mark.parametrize("layout", ["PairRM", "PairRM-hf"])
def test_every_golden_set_has_the_logits_of_llm_blender(layout: str) -> None:
    sets = json.loads((GOLDEN / "expected.json").read_text())["sets"]
    network, texts = load_network(GOLDEN / layout, CPU, backbone=GOLDEN / "backbone" if layout == "PairRM" else None)
    assert len(sets) == 20
    for each in sets:
        shown = 2 if max(map(len, (each["source"], *each["candidates"]))) > 3000 else 5  # all of those that are cut: tests/e2e
        (matrix,) = matrices(network, texts, [each["source"]], [each["candidates"][:shown]], 2048)
        assert np.allclose(matrix, np.array(each["logits"])[:shown, :shown], rtol=0, atol=1e-5)
        assert shown == 2 or np.allclose(scores(matrix), each["scores"], rtol=0, atol=1e-5)


# ---------------------------------------------------------------- what is not PairRM
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: (path / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (lambda path: (path / "tokenizer.json").write_text("{}"), "tokenizer.json cannot be read"),
        (lambda path: (path / "model.safetensors").rename(path / "pytorch_model.bin"), "pytorch_model.bin is a pickle"),
        (lambda path: (path / "model.safetensors").write_bytes(b"short"), "model.safetensors is not a safetensors file"),
        (lambda path: in_shards(path).unlink(), "ranker.path=MODEL is not complete: 1 of the 2 weight files"),
        (lambda path: without_weight(path, "head_layer.4.bias"), "head_layer.4.bias for instance (absent in place of (1,))"),
        (lambda path: without_weight(path, EMBEDDINGS), f"its weights have no {EMBEDDINGS}"),
        (lambda path: (path / "config.json").write_text('{"model_type": "llama"}'), "is of 'llama'"),
        (lambda path: (path / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda path: changed(path, intermediate_size=64), "of the weights are not those of its config.json"),
        (lambda path: changed(path, share_att_key=False), "share_att_key=False is not computed here"),
        (lambda path: changed(path, hidden_size=None, ranker_type="pairranker"), "ranker.backbone=DIR"),
    ],
    ids=[
        "no-tokenizer",
        "broken-tokenizer",
        "pickle",
        "broken-weights",
        "missing-shard",
        "missing-weight",
        "no-embeddings",
        "other-model",
        "broken-config",
        "other-shape",
        "other-kind",
        "unknown-width",
    ],
)
def test_a_directory_that_is_no_pairrm_is_refused_before_its_weights_are_read(tmp_path: Path, spoil: Any, said: str) -> None:
    write(tmp_path / "model")
    spoil(tmp_path / "model")
    with pytest.raises(ConfigError) as refused:
        PairRM(path=str(tmp_path / "model")).check()
    assert said.replace("MODEL", str(tmp_path / "model")) in str(refused.value)
    assert "\n" not in str(refused.value)


def changed(path: Path, **values: Any) -> None:
    """Change values of a configuration; None removes one."""
    config = {**json.loads((path / "config.json").read_text()), **values}
    (path / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


def test_weights_in_shards_are_read_as_those_of_one_file(tmp_path: Path, made: tuple[Path, Published]) -> None:
    write(tmp_path / "model")
    size = size_of(tmp_path / "model")
    in_shards(tmp_path / "model")
    assert size_of(tmp_path / "model") == size == (32, sum(weight.numel() for weight in made[1].parameters()))
    assert all(map(np.array_equal, ranked(tmp_path / "model", SETS), ranked(made[0], SETS)))


def test_encoders_of_llm_blender_have_the_shapes_of_deberta_v3() -> None:
    """Heads of 64 and a feed-forward part of four times the width; the smaller ones have half the layers of large."""
    for width, about in PUBLISHED.items():
        shape = Shape(vocab_size=8, **about)
        heads = (shape.num_attention_heads * 64, shape.intermediate_size, shape.num_hidden_layers)
        assert (shape.hidden_size, *heads) == (width, width, 4 * width, 24 if width == 1024 else 12)


def in_shards(path: Path) -> Path:
    """Write the weights as two files and their index; return the second."""
    state = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    of = {name: f"model-0000{1 + at % 2}-of-00002.safetensors" for at, name in enumerate(state)}
    for file in set(of.values()):
        save_file({name: state[name] for name in state if of[name] == file}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": of}))
    return path / "model-00002-of-00002.safetensors"


def without_weight(path: Path, name: str) -> None:
    """Write the weights without one."""
    state = load_file(path / "model.safetensors")
    del state[name]
    save_file(state, path / "model.safetensors")


def test_batches_of_rows_have_at_most_so_many_tokens_when_padded_and_the_longest_first() -> None:
    rows = [Comparison([0] * length, (0, 0, 0)) for length in (3, 9, 4, 4, 30)]
    assert list(by_length(rows, 12)) == [[4], [1], [2, 3, 0]]

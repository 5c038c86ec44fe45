"""The ranker `pairrm_tiny`: a PairRM of 0.2 M weights, trained once on labelled film reviews, in a public directory layout."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveFloat, PositiveInt

from dpo_lab.components import ConfigError, RunError, component
from dpo_lab.continuing import KEPT, remove_kept
from dpo_lab.models.tokenizer import write_plain_tokenizer
from dpo_lab.progress import part, say
from dpo_lab.ranking.base import OpenRanker, Ranker
from dpo_lab.ranking.pairrm.encoder import FIXED, Shape
from dpo_lab.ranking.pairrm.examples import STEPS_AT_A_TIME
from dpo_lab.ranking.pairrm.learning import LAYERS, Learning, learn
from dpo_lab.ranking.pairrm.network import CANDIDATE_LENGTH, CONFIG, SOURCE_LENGTH, PairNetwork
from dpo_lab.ranking.pairrm.ranker import WIDTHS_PER_TOKEN, PairRM, probability_of_a_win
from dpo_lab.ranking.pairrm.texts import EITHER, FIRST, PREFIXES, SECOND, SOURCE, PairTexts
from dpo_lab.records import Candidates, digest_of
from dpo_lab.world.corpus import sft_corpus
from dpo_lab.world.labelled import labelled_prompts

WEIGHTS = "model.safetensors"
VOCABULARY = 2000  # entries at most; every word of the film world becomes one
CORPUS = 2000  # examples that the tokenizer is learned from
LONGEST = 256  # distance that the last bucket stands for
TOKENS_OF_A_PAIR = 120  # at most, of film reviews


@component
class PairRMTiny(Ranker):
    """A tiny PairRM, trained from random weights on pairs that the film world labels.

    It ranks as `PairRM` does. Its directory is an artifact (`ranker`) that `ranker=pairrm ranker.path=DIR` reads too.
    """

    label: ClassVar[str] = "pairrm_tiny"
    topic: ClassVar[str] = "films"
    scores_alone: ClassVar[bool] = False

    seed: int = 0
    """Of weights and training pairs; no run's seed, so that all runs share one ranker."""
    steps: PositiveInt = 600
    """Of training."""
    pairs: PositiveInt = 32
    """Of a step; every pair is new."""
    lr: PositiveFloat = 3e-3
    """Peak learning rate."""
    hidden_size: Annotated[int, Field(ge=8)] = 64
    num_heads: PositiveInt = 2
    intermediate_size: PositiveInt = 128
    position_buckets: Annotated[int, Field(ge=4)] = 32
    """Of distances to either side."""
    temperature: PositiveFloat = 1.0
    """Of the probability of a win: sigmoid(log-odds / temperature)."""
    tokens_per_batch: PositiveInt | None = None
    """Padding included; null: 2048 on a CPU, 16384 on a GPU. Changes speed and memory, never a score by more than rounding."""

    def check(self) -> None:
        """Raise ConfigError if heads do not share the width."""
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size={self.hidden_size} cannot be shared by num_heads={self.num_heads}; use a multiple of the heads."
            )

    def content(self) -> dict[str, Any]:
        """Return what determines the scores: not how many rows are scored at once."""
        fields = {name: value for name, value in super().content().items() if name != "tokens_per_batch"}
        return {**fields, "world": world_digest(self.seed)}

    def training(self) -> dict[str, Any]:
        """Return what determines the weights."""
        return {name: value for name, value in self.content().items() if name != "temperature"}

    def bytes_needed(self, device: str) -> float:
        """Return what ranking takes, or training if that is more: weights with gradients and moments, states of every layer."""
        states = 4.0 * WIDTHS_PER_TOKEN * self.hidden_size
        weights = 4.0 * sum(weight.numel() for weight in self._untrained(VOCABULARY, "meta").parameters())
        training = 4 * weights + (LAYERS + 1) * states * self.pairs * TOKENS_OF_A_PAIR
        return max(training, weights + states * (self.tokens_per_batch or 2048))

    @property
    def gives_preferences(self) -> bool:
        """True: log-odds are kept with the scores."""
        return True

    def preference(self, candidates: Candidates, one: int, other: int) -> float | None:
        """Return the probability that an answer beats another, by their own log-odds in both orders."""
        return probability_of_a_win(candidates, one, other, self.temperature)

    def open(self, device: torch.device) -> Any:
        """Raise RunError: what opens is `trained(directory)`, which `pipeline.ranker.ready` returns."""
        raise RunError(f"ranker={self.label} is trained before it opens; dpo_lab.pipeline.ranker.ready(ranker, root) does that.")

    def train(self, directory: Path) -> dict[str, Any]:
        """Write a trained ranker in the layout of llm-blender/PairRM-hf; return counts and the last losses.

        What a killed call left in the directory is continued.
        """
        tokenizer = learn_tokenizer(self.seed)
        network = self._untrained(tokenizer.get_vocab_size(), "cpu")
        how = Learning(seed=self.seed, steps=self.steps, pairs=self.pairs, lr=self.lr)
        with part(f"train {self.label}", self.steps) as shown:

            def advance(steps: int, *, resumed: bool) -> None:
                if resumed and steps:
                    say(f"  resuming train {self.label}: {steps} of {self.steps} steps done")
                shown.advance(steps, resumed=resumed)

            texts = PairTexts(tokenizer, SOURCE_LENGTH, CANDIDATE_LENGTH)
            losses = learn(network, texts, how, state=directory / KEPT / "learning.pt", advance=advance)
        write_pairrm(network, tokenizer, directory)
        remove_kept(directory)
        parameters = sum(weight.numel() for weight in network.parameters())
        counts = {"parameters": parameters, "vocabulary": tokenizer.get_vocab_size(), "pairs": self.steps * self.pairs}
        return {**counts, "steps": self.steps, **{f"loss/{name}": value for name, value in losses.items()}}

    def trained(self, directory: Path) -> Ranker:
        """Return the ranker that opens what was trained."""
        return TrainedPairRM(spec=self, path=directory)

    def _untrained(self, vocabulary: int, device: str) -> PairNetwork:
        shape = Shape(
            vocab_size=vocabulary,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_attention_heads=self.num_heads,
            num_hidden_layers=LAYERS,
            position_buckets=self.position_buckets,
            max_position_embeddings=LONGEST,
        )
        with torch.device(device):
            return PairNetwork(shape)


@component
class TrainedPairRM(Ranker):
    """`PairRMTiny` with the directory that it was trained into; it counts as that in every id."""

    label: ClassVar[str] = PairRMTiny.label
    topic: ClassVar[str] = PairRMTiny.topic
    scores_alone: ClassVar[bool] = False

    spec: PairRMTiny
    path: Path

    def content(self) -> dict[str, Any]:
        """Return what determines the scores, which is what the training was made of."""
        return self.spec.content()

    def preference(self, candidates: Candidates, one: int, other: int) -> float | None:
        """Return the probability that an answer beats another."""
        return self.spec.preference(candidates, one, other)

    @contextmanager
    def open(self, device: torch.device) -> Iterator[OpenRanker]:
        """Load the network for the block, in fp32 everywhere."""
        as_any = PairRM(path=str(self.path), dtype="fp32", tokens_per_batch=self.spec.tokens_per_batch)
        with as_any.open(device) as opened:
            yield opened


@cache
def world_digest(seed: int) -> str:
    """Return a digest of what the film world says, by its first labelled prompts and its corpus."""
    return digest_of(islice(labelled_prompts(seed, 0), 4 * STEPS_AT_A_TIME), sft_corpus(STEPS_AT_A_TIME, seed))


def learn_tokenizer(seed: int) -> Any:
    """Return a byte-level BPE in which each word of the film world is one token; any other text falls back to bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["[PAD]", "[CLS]", "[SEP]", *PREFIXES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for example in sft_corpus(CORPUS, seed) for text in example), trainer)
    return tokenizer


def write_pairrm(network: PairNetwork, tokenizer: Any, directory: Path) -> None:
    """Write a network with its tokenizer in the directory layout of llm-blender/PairRM-hf."""
    from safetensors.torch import save_file

    shape = network.pretrained_model.shape
    config: Mapping[str, Any] = {
        "model_type": "deberta-v2",
        "architectures": ["DebertaV2PairRM"],
        **{name: getattr(shape, name) for name in Shape.__dataclass_fields__},
        **FIXED,
        "pos_att_type": "p2c|c2p",
        "max_relative_positions": -1,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": 0,
        "n_tasks": 1,
        "drop_out": 0.0,
        "source_maxlength": SOURCE_LENGTH,
        "candidate_maxlength": CANDIDATE_LENGTH,
        "sep_token_id": tokenizer.token_to_id("[SEP]"),
        "source_prefix_id": tokenizer.token_to_id(SOURCE),
        "cand1_prefix_id": tokenizer.token_to_id(FIRST),
        "cand2_prefix_id": tokenizer.token_to_id(SECOND),
        "cand_prefix_id": tokenizer.token_to_id(EITHER),
        "torch_dtype": "float32",
    }
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    write_plain_tokenizer(tokenizer, directory, **special, additional_special_tokens=list(PREFIXES))
    state = {name: weight.detach().contiguous() for name, weight in network.state_dict().items()}
    save_file(state, directory / WEIGHTS, metadata={"format": "pt"})
    (directory / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

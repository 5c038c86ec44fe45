"""The ranker `llm_blender`: PairRM as the package llm-blender computes it, to compare with `ranker=pairrm`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat

from dpo_lab.components import ConfigError, RunError, component
from dpo_lab.hub import innermost
from dpo_lab.ranking.base import OpenRanker, Ranker, Verdict, excerpt_of
from dpo_lab.ranking.blender.lending import lent
from dpo_lab.ranking.pairrm.encoder import FIXED
from dpo_lab.ranking.pairrm.network import read_config, shape_of
from dpo_lab.ranking.pairrm.ranker import PairRM, source_of
from dpo_lab.ranking.pairrm.texts import load_tokenizer, without_control
from dpo_lab.records import Candidates

DISTRIBUTION, KNOWN = "llm-blender", "0.0.2"
INSTEAD = "use ranker=pairrm, which has the same scores and needs no package"
PROBE = "\u2026 \uff11 \u00bd \ufb01 \u2460"
"""Characters that a tokenizer without its normaliser does not know."""


@component
class LLMBlender(Ranker):
    """The package's own scores; one prompt at a time, since the package cuts answers by the longest prompt of a batch.

    fp32 on a CPU, fp16 on a GPU, as the package has it. Tokens of the format in a text are read as blanks, as `ranker=pairrm`
    reads them: the package itself blanks [SEP] alone, and ends with an error at the others.
    """

    label: ClassVar[str] = "llm_blender"
    scores_alone: ClassVar[bool] = False
    on_hub: ClassVar[tuple[str, ...]] = ("path",)

    path: str = "llm-blender/PairRM"
    """Directory in the layout of llm-blender/PairRM, or a Hub id."""
    revision: str | None = None
    """Commit, tag or branch on the Hub; null: the newest."""
    backbone: str | None = None
    """Directory whose config.json describes the encoder, where it is not one of DeBERTa-v3's; null: as `path` says."""
    temperature: PositiveFloat = 1.0
    """Of the probability of a win: sigmoid(log-odds / temperature); SPPO takes differences of scores, which 0.5 gives."""

    @property
    def pairrm(self) -> PairRM:
        """The same files as a ranker of this project's own."""
        return PairRM(path=self.path, revision=self.revision, backbone=self.backbone, temperature=self.temperature)

    def content(self) -> dict[str, Any]:
        """Return what determines the scores: the files of a directory, or a commit, and the package."""
        return {**super().content(), "weights": self.pairrm.weights(), "package": KNOWN}

    def check(self) -> None:
        """Raise ConfigError if the package is missing or another version, or a directory holds no PairRM that it reads."""
        try:
            installed = version(DISTRIBUTION)
        except PackageNotFoundError:
            raise ConfigError(
                f"ranker=llm_blender needs the package {DISTRIBUTION}, which is not installed. Install it "
                f"(pip install 'dpo-lab[blender]'), or {INSTEAD}."
            ) from None
        if installed != KNOWN:
            raise ConfigError(
                f"ranker=llm_blender knows {DISTRIBUTION} {KNOWN}, and {installed} is installed. "
                f"Install that one (pip install {DISTRIBUTION}=={KNOWN}), or {INSTEAD}."
            )
        self.pairrm.check()
        if Path(self.path).is_dir():
            self._refuse_other_layout(Path(self.path))

    def bytes_needed(self, device: str) -> float:
        """Return what ours takes, and the file's weights once more: the package holds them beside those that they replace."""
        return 2 * self.pairrm.bytes_needed(device)

    @property
    def gives_preferences(self) -> bool:
        """True: log-odds are kept with the scores."""
        return True

    def preference(self, candidates: Candidates, one: int, other: int) -> float | None:
        """Return the probability that an answer beats another, by their own log-odds in both orders."""
        return self.pairrm.preference(candidates, one, other)

    @contextmanager
    def open(self, device: torch.device) -> Iterator[OpenRanker]:
        """Load the package's ranker for the block; transformers is as before when it has loaded."""
        self.check()
        directory = self.pairrm.directory()
        self._refuse_other_layout(directory)
        backbone = Path(self.backbone) if self.backbone else None
        try:
            with lent(lambda: _tokenizer(directory), lambda: _encoder(directory, backbone)) as package:
                blender = package.Blender()
                blender.loadranker(str(directory), device=device.type, cache_dir=str(directory))
        except ConfigError:
            raise
        except Exception as error:  # whatever the package, or a library below it, does
            raise ConfigError(
                f"ranker=llm_blender cannot load {self.path} ({innermost(error)}). Its package was last changed for "
                f"transformers 4; {INSTEAD}."
            ) from error
        expected = load_tokenizer(directory).encode(PROBE, add_special_tokens=False).ids
        if blender.ranker_tokenizer.encode(PROBE, add_special_tokens=False) != expected:
            raise ConfigError(
                f"ranker=llm_blender would read unicode text in {self.path} with another tokenizer, and its scores would be "
                f"wrong without a word; {INSTEAD}."
            )
        yield OpenBlender(blender)

    def _refuse_other_layout(self, directory: Path) -> None:
        """Raise ConfigError for a directory that the package takes for another kind of model."""
        if "ranker_type" not in read_config(directory, "ranker.path"):
            raise ConfigError(
                f"ranker.path={self.path} is in the layout of llm-blender/PairRM-hf, which llm-blender does not read. "
                "Use one in that of llm-blender/PairRM, or ranker=pairrm, which reads both."
            )


@dataclass(frozen=True)
class OpenBlender:
    """The package with a ranker loaded."""

    blender: Any

    def rank(self, candidates: Sequence[Candidates], /) -> list[Verdict]:
        """Return scores and log-odds of each set, computed by itself."""
        return [self._verdict(candidate) for candidate in candidates]

    def _verdict(self, candidates: Candidates) -> Verdict:
        source = without_control(source_of(candidates.prompt))
        answers = [without_control(text) for text in candidates.responses]
        network, kept = self.blender.ranker, []

        def keeping(**batch: Any) -> Any:
            kept.append(type(network)._full_predict(network, **batch))
            return kept[-1]

        network._full_predict = keeping  # `rank` returns the scores alone, and the probability of a win is in the comparisons
        try:
            scores = self.blender.rank([source], [answers], return_scores=True, batch_size=1, disable_tqdm=True)
        except Exception as error:
            raise RunError(
                f"llm-blender failed for the prompt {excerpt_of(candidates.prompt)}: {innermost(error)}. What is ranked is kept."
            ) from error
        finally:
            del network._full_predict
        return Verdict(scores=tuple(map(float, scores[0])), pairwise=tuple(map(tuple, kept[0]["logits"][0].float().tolist())))


def _encoder(directory: Path, backbone: Path | None) -> Any:
    """Return an encoder of the directory's shape with random weights: the package reads the directory's own into it."""
    from transformers import DebertaV2Config, DebertaV2Model

    sizes = {**asdict(shape_of(directory, backbone)), **FIXED}
    config = DebertaV2Config(**sizes, pos_att_type=["p2c", "c2p"], max_relative_positions=-1, pad_token_id=0)
    config.out_hidden_state_size = config.hidden_size  # the package writes it there, and its head reads it
    return DebertaV2Model(config)


def _tokenizer(directory: Path) -> Any:
    """Return the directory's tokenizer with its normaliser, as the package calls it."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    made = load_tokenizer(directory)
    ends = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk")}
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=made, **names)
    if not hasattr(tokenizer, "batch_encode_plus"):  # gone in transformers 5
        tokenizer.batch_encode_plus = tokenizer.__call__
    return tokenizer

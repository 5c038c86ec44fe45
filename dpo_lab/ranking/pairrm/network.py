"""PairRM's network (Jiang et al. 2023, arXiv:2306.02561) and its loading from both public directory layouts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dpo_lab.components import ConfigError
from dpo_lab.models.directory import INDEX, SINGLE, header_of, parameters_in, tensors_of, weight_files
from dpo_lab.ranking.judging_models import named
from dpo_lab.ranking.pairrm.encoder import Encoder, Shape
from dpo_lab.ranking.pairrm.texts import Comparison, PairTexts, load_tokenizer, refuse_without_tokenizer

CONFIG, AGAIN = "config.json", "Copy or download it again."
SOURCE_LENGTH, CANDIDATE_LENGTH = 1224, 412
"""Tokens of a prompt and of an answer at most, where a directory does not say them."""
PUBLISHED: dict[int, dict[str, Any]] = {
    384: {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6, "num_hidden_layers": 12},
    768: {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12},
    1024: {},
}
"""Sizes of DeBERTa-v3 xsmall, base and large by width: a directory of llm-blender names its encoder and does not describe it."""
EMBEDDINGS = "pretrained_model.embeddings.word_embeddings.weight"


class PairNetwork(nn.Module):
    """An encoder and a head that scores an answer from the states of its prefix and of the prompt's."""

    def __init__(self, shape: Shape, num_tasks: int = 1) -> None:
        super().__init__()
        self.pretrained_model = Encoder(shape)
        size = shape.hidden_size
        self.head_layer = nn.Sequential(
            nn.Identity(),  # where the published network has dropout: names of weights count from it
            nn.Linear(2 * size, size),
            nn.Tanh(),
            nn.Identity(),
            nn.Linear(size, num_tasks),
        )

    def forward(self, ids: Tensor, mask: Tensor | None, anchors: Tensor) -> Tensor:
        """Return the log-odds that the first answer is better, shape (rows,).

        Args:
            ids: token ids, (rows, time), padded at the end.
            mask: 1 for tokens and 0 for padding, (rows, time); None: nothing is padded.
            anchors: where the prefixes of prompt, first and second answer stand, (rows, 3).
        """
        return self.compared(self.pretrained_model(ids, mask, anchors))

    def compared(self, states: Tensor) -> Tensor:
        """Return the log-odds that the first answer is better, shape (rows,), from the last states of the three prefixes."""
        prompt, first, second = states.unbind(1)
        score_first, score_second = (self.head_layer(torch.cat([prompt, answer], -1)) for answer in (first, second))
        return (score_first - score_second).mean(-1)  # type: ignore[no-any-return]  # over tasks

    def logits(self, rows: Sequence[Comparison]) -> Tensor:
        """Return the log-odds of rows, padded to the longest, shape (rows,)."""
        device, lengths = next(self.parameters()).device, [len(row.ids) for row in rows]
        ids = torch.zeros(len(rows), max(lengths), dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row.ids)] = torch.tensor(row.ids)
        padded = min(lengths) < max(lengths)
        mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).to(device) if padded else None
        anchors = torch.tensor([row.anchors for row in rows], device=device)
        found: Tensor = self(ids.to(device), mask, anchors)
        return found


def load_network(
    directory: Path, device: torch.device, dtype: torch.dtype = torch.float32, backbone: Path | None = None
) -> tuple[PairNetwork, PairTexts]:
    """Return the network of a directory, in eval mode, and what turns texts into its rows.

    `llm-blender/PairRM`, whose config.json describes the ranker and says nothing of the encoder, which is DeBERTa-v3-large unless
    its sizes stand beside it; or `llm-blender/PairRM-hf`, whose config.json is the encoder's.

    Args:
        backbone: directory whose config.json describes the encoder, for one that is not DeBERTa-v3's.

    Raises:
        ConfigError: if the directory holds no PairRM, or not a whole one.
    """
    from safetensors.torch import load_file

    network = _empty(directory, backbone)
    config, tokenizer = _config(directory), load_tokenizer(directory)
    state: dict[str, Tensor] = {}
    for name in weight_files(directory, AGAIN):
        try:
            state |= load_file(directory / name)
        except Exception as error:  # the library has its own exception beside OSError
            raise ConfigError(f"ranker.path={directory}: {name} cannot be read ({error}). {AGAIN}") from error
    network.load_state_dict({name: state[name].float() for name in network.state_dict()}, assign=True)
    lengths = (config.get("source_maxlength", SOURCE_LENGTH), config.get("candidate_maxlength", CANDIDATE_LENGTH))
    return network.to(device=device, dtype=dtype).eval(), PairTexts(tokenizer, *lengths)


def refuse_unusable(directory: Path, backbone: Path | None = None) -> None:
    """Raise ConfigError if a directory holds no whole PairRM; no weight is read, so that it is known before answers are drawn."""
    _empty(directory, backbone)


def _empty(directory: Path, backbone: Path | None) -> PairNetwork:
    """Return the network of a directory without its weights; ConfigError if a file is absent or is not of the same model."""
    config = _config(directory)
    if not any((directory / name).is_file() for name in (INDEX, SINGLE)):
        pickled = next((path.name for path in sorted(directory.glob("*.bin"))), None)
        found = f"{pickled} is a pickle, which can run code when it is read, and is not opened" if pickled else "it is not there"
        raise ConfigError(f"ranker.path={directory} has no {SINGLE}: {found}. Copy the weights in safetensors.")
    with named("ranker.path"):
        for name in weight_files(directory, AGAIN):
            header_of(directory / name, AGAIN)
    refuse_without_tokenizer(directory)
    network = _shaped(directory, config, backbone)
    if (known := load_tokenizer(directory).get_vocab_size()) > (rows := dict(tensors_of(directory))[EMBEDDINGS][0]):
        raise ConfigError(
            f"ranker.path={directory}: its tokenizer has {known} tokens and its network {rows}, so they are not of one model."
        )
    return network


def size_of(directory: Path) -> tuple[int, int]:
    """Return the encoder's width and the number of all weights of a whole directory, from the headers of its files alone."""
    width = next((shape[1] for name, shape in tensors_of(directory) if name == EMBEDDINGS), 0)
    return width, parameters_in(directory)


def read_config(directory: Path, key: str) -> dict[str, Any]:
    """Return a directory's config.json; `key` names the directory in messages."""
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{key}={directory}: its {CONFIG} cannot be read ({error}).") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{key}={directory}: its {CONFIG} is not an object.")
    return config


def _config(directory: Path) -> dict[str, Any]:
    config = read_config(directory, "ranker.path")
    kind = config.get("ranker_type", config.get("model_type"))
    if kind not in ("pairranker", "deberta-v2"):
        raise ConfigError(
            f"ranker.path={directory} holds no PairRM: {CONFIG} is of {kind!r}. "
            "A model that scores one answer at a time is ranker=reward_model."
        )
    return config


def _shaped(directory: Path, config: Mapping[str, Any], backbone: Path | None) -> PairNetwork:
    """Return the network that a configuration describes, without weights; ConfigError if those on the disk are not its own."""
    shape = shape_of(directory, backbone)
    with torch.device("meta"):
        network = PairNetwork(shape, config.get("n_tasks", 1))
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    held = {name: size for name, size in tensors_of(directory) if not name.endswith("position_ids")}
    if wrong := sorted(name for name in expected.keys() | held.keys() if expected.get(name) != held.get(name)):
        name = wrong[0]
        raise ConfigError(
            f"ranker.path={directory}: {len(wrong)} of the weights are not those of its {CONFIG}, {name} for instance "
            f"({held.get(name, 'absent')} in place of {expected.get(name, 'none')}). Copy both files from one model."
        )
    return network


def shape_of(directory: Path, backbone: Path | None = None) -> Shape:
    """Return the encoder's sizes: as a configuration says, or DeBERTa-v3's own where none says anything of the encoder.

    Args:
        backbone: directory whose config.json describes the encoder, for one that is not DeBERTa-v3's.

    Raises:
        ConfigError: if nothing describes it, or it is an encoder that is not computed here.
    """
    rows, size = next((shape for name, shape in tensors_of(directory) if name == EMBEDDINGS), (0, 0))
    if not rows:
        raise ConfigError(f"ranker.path={directory}: its weights have no {EMBEDDINGS}, so they are not PairRM's.")
    config = _config(directory) if backbone is None else read_config(backbone, "ranker.backbone")
    if "hidden_size" in config:
        return Shape.of({**config, "vocab_size": rows}, f"{backbone or directory}: {CONFIG}")
    if size not in PUBLISHED:
        raise ConfigError(
            f"ranker.path={directory}: its encoder has width {size}, none of DeBERTa-v3 ({', '.join(map(str, PUBLISHED))}), and "
            f"{CONFIG} does not describe it. Name a directory with the encoder's {CONFIG}: ranker.backbone=DIR"
        )
    return Shape(vocab_size=rows, **PUBLISHED[size])

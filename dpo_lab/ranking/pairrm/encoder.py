"""A DeBERTa-v2/v3 encoder (He et al. 2021, arXiv:2006.03654) that returns its states at a few positions of each row.

The same numbers as transformers' encoder, and the same names of weights. It is faster: in short rows, products with relative
positions are shifted into place in place of being gathered for every pair of tokens; positions are projected once for all rows;
attention is one fused call; and the last layer is computed for the positions that are read alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpo_lab.components import ConfigError

FIXED = {
    "relative_attention": True,
    "position_biased_input": False,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "type_vocab_size": 0,
    "hidden_act": "gelu",
    "conv_kernel_size": 0,
}
"""What of a configuration this encoder computes in one way only: DeBERTa-v3's."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of an encoder; the defaults are DeBERTa-v3-large, whose PairRM directories do not say them."""

    vocab_size: int = 128100
    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_attention_heads: int = 16
    num_hidden_layers: int = 24
    position_buckets: int = 256
    """Logarithmic buckets of distances to either side."""
    max_position_embeddings: int = 512
    """The distance that the last bucket stands for."""
    layer_norm_eps: float = 1e-7

    @classmethod
    def of(cls, config: Mapping[str, Any], where: str) -> "Shape":
        """Return the shape that a config.json describes.

        Args:
            where: names the file in messages.

        Raises:
            ConfigError: if it describes an encoder that this one is not.
        """
        for name, value in FIXED.items():
            if config.get(name, value) != value:
                raise ConfigError(f"{where}: {name}={config[name]!r} is not computed here; PairRM has {name}={value!r}.")
        kinds = config.get("pos_att_type", "p2c|c2p")
        if set(kinds.split("|") if isinstance(kinds, str) else kinds) != {"p2c", "c2p"}:
            raise ConfigError(f"{where}: pos_att_type={kinds!r} is not computed here; PairRM has 'p2c|c2p'.")
        if config.get("position_buckets", -1) < 1 or config.get("max_relative_positions", -1) > 0:
            raise ConfigError(f"{where}: distances have to be in buckets (position_buckets above 0, max_relative_positions -1).")
        return cls(**{name: config[name] for name in cls.__dataclass_fields__ if name in config})


class Encoder(nn.Module):
    """Embeddings and layers; `forward` returns the last layer's states at the positions asked for."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings: Any = _part(
            word_embeddings=nn.Embedding(shape.vocab_size, shape.hidden_size, padding_idx=0),
            LayerNorm=nn.LayerNorm(shape.hidden_size, shape.layer_norm_eps),
        )
        self.encoder: Any = _part(
            layer=nn.ModuleList([Layer(shape) for _ in range(shape.num_hidden_layers)]),
            rel_embeddings=nn.Embedding(2 * shape.position_buckets, shape.hidden_size),
            LayerNorm=nn.LayerNorm(shape.hidden_size, shape.layer_norm_eps),
        )

    def forward(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Return states of shape (rows, positions, hidden).

        Args:
            ids: token ids, (rows, time), padded at the end.
            mask: 1 for tokens and 0 for padding, (rows, time).
            positions: where states are read, (rows, positions).
        """
        states = self.embeddings.LayerNorm(self.embeddings.word_embeddings(ids)) * mask[..., None]
        relative = self.encoder.LayerNorm(self.encoder.rel_embeddings.weight)
        hidden = torch.zeros(mask.shape, dtype=states.dtype, device=ids.device).masked_fill_(
            mask == 0, torch.finfo(states.dtype).min
        )
        buckets = bucket_of_distances(ids.shape[1], self.shape, ids.device)
        *layers, last = self.encoder.layer
        for layer in layers:
            states = layer(states, states, relative, buckets, hidden, None)
        read = states[torch.arange(len(ids), device=ids.device)[:, None], positions]
        return last(states, read, relative, buckets, hidden, positions)  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Disentangled attention and a feed-forward part."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        size = shape.hidden_size
        self.heads, self.width = shape.num_attention_heads, size // shape.num_attention_heads
        self.attention: Any = _part(
            self=_part(query_proj=nn.Linear(size, size), key_proj=nn.Linear(size, size), value_proj=nn.Linear(size, size)),
            output=_part(dense=nn.Linear(size, size), LayerNorm=nn.LayerNorm(size, shape.layer_norm_eps)),
        )
        self.intermediate: Any = _part(dense=nn.Linear(size, shape.intermediate_size))
        self.output: Any = _part(
            dense=nn.Linear(shape.intermediate_size, size), LayerNorm=nn.LayerNorm(size, shape.layer_norm_eps)
        )

    def forward(
        self, states: Tensor, asking: Tensor, relative: Tensor, buckets: Tensor, hidden: Tensor, positions: Tensor | None
    ) -> Tensor:
        """Return the new states of those that ask.

        Args:
            states: of all tokens, (rows, time, hidden): keys and values.
            asking: of the tokens whose new states are computed, (rows, asking, hidden).
            relative: normalised embeddings of the buckets, (2 x buckets, hidden).
            buckets: bucket of query - key, (time, time).
            hidden: added to the scores of each key, (rows, time).
            positions: where those that ask stand, (rows, asking); None: they are all tokens.
        """
        own: Any = self.attention.get_submodule("self")
        query, key, value = (
            self._heads(own.query_proj(asking)),
            self._heads(own.key_proj(states)),
            self._heads(own.value_proj(states)),
        )
        scale = 1 / math.sqrt(3 * self.width)  # three kinds of products are added: content, content to position and back
        of_queries = _for_queries(query * scale, self._heads(own.key_proj(relative)[None]), buckets, positions)
        of_keys = _for_keys(key * scale, self._heads(own.query_proj(relative)[None]), buckets, positions)
        bias = of_queries + of_keys + hidden[:, None, None]
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
        joined = seen.transpose(1, 2).reshape(asking.shape)
        asked = self.attention.output.LayerNorm(self.attention.output.dense(joined) + asking)
        inner = F.gelu(self.intermediate.dense(asked))
        return self.output.LayerNorm(self.output.dense(inner) + asked)  # type: ignore[no-any-return]

    def _heads(self, states: Tensor) -> Tensor:
        return states.view(*states.shape[:2], self.heads, self.width).transpose(1, 2)


def bucket_of_distances(time: int, shape: Shape, device: torch.device) -> Tensor:
    """Return the row of the relative embeddings for each query and key, by query - key, shape (time, time).

    Distances within half the buckets have one each; those beyond share buckets on a logarithmic scale.

    >>> bucket_of_distances(3, Shape(position_buckets=4), torch.device("cpu")).tolist()
    [[4, 3, 2], [5, 4, 3], [6, 5, 4]]
    """
    span, middle = shape.position_buckets, shape.position_buckets // 2
    places = torch.arange(time, device=device)
    distance = places[:, None] - places
    far = torch.log(distance.abs().clamp(min=middle) / middle)
    farthest = torch.log(torch.tensor((shape.max_position_embeddings - 1) / middle, device=device))  # in float32, as published
    logarithmic = torch.ceil(far / farthest * (middle - 1)).long() + middle
    bucket = torch.where(distance.abs() <= middle, distance, logarithmic * distance.sign())
    return (bucket + span).clamp(0, 2 * span - 1)


def _for_queries(query: Tensor, relative: Tensor, buckets: Tensor, positions: Tensor | None) -> Tensor:
    """Return each query's product with its distance to each key, (rows, heads, queries, time).

    Args:
        query: (rows, heads, queries, width).
        relative: keys of the buckets, (1, heads, 2 x buckets, width).
        buckets: bucket of query - key, (time, time).
        positions: where the queries stand, (rows, queries); None: at every token.
    """
    if positions is not None:
        index = buckets[positions][:, None].expand(-1, query.shape[1], -1, -1)
        return (query @ relative.transpose(-1, -2)).gather(-1, index)
    if 2 * len(buckets) > relative.shape[2]:
        return (query @ relative.transpose(-1, -2)).gather(-1, buckets.expand(*query.shape[:2], -1, -1))
    by_distance = torch.cat([buckets[1:, 0].flip(0), buckets[0]])  # key - query from -(time - 1) to time - 1
    return _shifted(query @ relative[:, :, by_distance].transpose(-1, -2))


def _for_keys(key: Tensor, relative: Tensor, buckets: Tensor, positions: Tensor | None) -> Tensor:
    """Return each key's product with its distance to each query, (rows, heads, queries, time).

    Args:
        relative: queries of the buckets, (1, heads, 2 x buckets, width).
    """
    if positions is not None:
        index = buckets[positions].transpose(1, 2)[:, None].expand(-1, key.shape[1], -1, -1)
        return (key @ relative.transpose(-1, -2)).gather(-1, index).transpose(-1, -2)
    if 2 * len(buckets) > relative.shape[2]:
        return (key @ relative.transpose(-1, -2)).gather(-1, buckets.T.expand(*key.shape[:2], -1, -1)).transpose(-1, -2)
    by_distance = torch.cat([buckets[0].flip(0), buckets[1:, 0]])  # query - key from -(time - 1) to time - 1
    return _shifted(key @ relative[:, :, by_distance].transpose(-1, -2)).transpose(-1, -2)


def _shifted(products: Tensor) -> Tensor:
    """Return a view, (rows, heads, time, time), in which column j of row i is the product at distance j - i.

    Distance 0 stands in the middle of every row of products, so each row of the view begins one to the left of the row above.
    """
    rows, heads, time, distances = products.shape
    products = products.contiguous()
    strides = (products.stride(0), products.stride(1), distances - 1, 1)
    return products.as_strided((rows, heads, time, time), strides, products.storage_offset() + time - 1)


def _part(**modules: nn.Module) -> nn.Module:
    """Return a module that only gives names to others, so that weights are called as in transformers."""
    part = nn.Module()
    for name, module in modules.items():
        part.add_module(name, module)
    return part

"""A DeBERTa-v2/v3 encoder (He et al. 2021, arXiv:2006.03654) that returns its states at a few positions of each row.

The same numbers as transformers' encoder, and the same names of weights. It is faster: products with relative positions are made
for each distance and shifted into place, not gathered for every pair of tokens; positions are projected once for all rows;
attention is one fused call; and the last layer is computed for the positions that are read alone.
"""

import math
from collections.abc import Iterator, Mapping
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
PRODUCTS_AT_ONCE = 2**24
"""Numbers of products with distances: as many heads at a time, so that long rows of a large encoder take no gigabytes."""


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

    def forward(self, ids: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        """Return states of shape (rows, positions, hidden).

        Args:
            ids: token ids, (rows, time), padded at the end.
            mask: 1 for tokens and 0 for padding, (rows, time); None: nothing is padded.
            positions: where states are read, (rows, positions).
        """
        for states in self.each_layer(ids, mask, positions):  # noqa: B007  # the states of one layer are held at a time
            pass
        return states

    def each_layer(self, ids: Tensor, mask: Tensor | None, positions: Tensor) -> Iterator[Tensor]:
        """Yield the states after each layer: of all tokens, (rows, time, hidden), and at last what `forward` returns."""
        states, hidden = self.embeddings.LayerNorm(self.embeddings.word_embeddings(ids)), None
        if mask is not None:
            states = states * mask[..., None]
            least = torch.finfo(states.dtype).min
            hidden = torch.zeros(mask.shape, dtype=states.dtype, device=ids.device).masked_fill_(mask == 0, least)
        relative = self.encoder.LayerNorm(self.encoder.rel_embeddings.weight)
        buckets = bucket_of_distances(ids.shape[1], self.shape, ids.device)
        *layers, last = self.encoder.layer
        for layer in layers:
            states = layer(states, states, relative, buckets, hidden, None)
            yield states
        read = states[torch.arange(len(ids), device=ids.device)[:, None], positions]
        yield last(states, read, relative, buckets, hidden, positions)


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
        self, states: Tensor, asking: Tensor, relative: Tensor, buckets: Tensor, hidden: Tensor | None, positions: Tensor | None
    ) -> Tensor:
        """Return the new states of those that ask.

        Args:
            states: of all tokens, (rows, time, hidden): keys and values.
            asking: of the tokens whose new states are computed, (rows, asking, hidden).
            relative: normalised embeddings of the buckets, (2 x buckets, hidden).
            buckets: of the distances, as `bucket_of_distances` returns them, (2 x time - 1,).
            hidden: added to the scores of each key, (rows, time); None: nothing is padded.
            positions: where those that ask stand, (rows, asking); None: they are all tokens.
        """
        own: Any = self.attention.get_submodule("self")
        query, key, value = (
            self._heads(own.query_proj(asking)),
            self._heads(own.key_proj(states)),
            self._heads(own.value_proj(states)),
        )
        scale = 1 / math.sqrt(3 * self.width)  # three kinds of products are added: content, content to position and back
        of_bucket = self._heads(own.key_proj(relative)[None])[0] * scale, self._heads(own.query_proj(relative)[None])[0] * scale
        size = max(1, PRODUCTS_AT_ONCE // (states.shape[0] * states.shape[1] * len(buckets)))
        seen = []
        for start in range(0, self.heads, size):
            some = slice(start, start + size)
            keys, queries = (projected[some] for projected in of_bucket)
            bias = _bias(query[:, some], key[:, some], keys, queries, buckets, positions)
            bias = bias if hidden is None else bias.add_(hidden[:, None, None])
            seen.append(F.scaled_dot_product_attention(query[:, some], key[:, some], value[:, some], attn_mask=bias, scale=scale))
        joined = (seen[0] if len(seen) == 1 else torch.cat(seen, 1)).transpose(1, 2).reshape(asking.shape)
        asked = self.attention.output.LayerNorm(self.attention.output.dense(joined) + asking)
        inner = F.gelu(self.intermediate.dense(asked))
        return self.output.LayerNorm(self.output.dense(inner) + asked)  # type: ignore[no-any-return]

    def _heads(self, states: Tensor) -> Tensor:
        return states.view(*states.shape[:2], self.heads, self.width).transpose(1, 2)


def bucket_of_distances(time: int, shape: Shape, device: torch.device) -> Tensor:
    """Return the row of the relative embeddings for query - key from -(time - 1) to time - 1, shape (2 x time - 1,).

    Distances within half the buckets have one each; those beyond share buckets on a logarithmic scale.

    >>> bucket_of_distances(3, Shape(position_buckets=4), torch.device("cpu")).tolist()
    [2, 3, 4, 5, 6]
    """
    span, middle = shape.position_buckets, shape.position_buckets // 2
    distance = torch.arange(1 - time, time, device=device)
    far = torch.log(distance.abs().clamp(min=middle) / middle)
    farthest = torch.log(torch.tensor((shape.max_position_embeddings - 1) / middle, device=device))  # in float32, as published
    logarithmic = torch.ceil(far / farthest * (middle - 1)).long() + middle
    bucket = torch.where(distance.abs() <= middle, distance, logarithmic * distance.sign())
    return (bucket + span).clamp(0, 2 * span - 1)


def _bias(query: Tensor, key: Tensor, keys: Tensor, queries: Tensor, buckets: Tensor, positions: Tensor | None) -> Tensor:
    """Return the products of queries and keys with their distances, (rows, heads, queries, time).

    Args:
        query: (rows, heads, queries, width).
        key: (rows, heads, time, width).
        keys: of the buckets, scaled, (heads, 2 x buckets, width).
        queries: of the buckets, scaled, (heads, 2 x buckets, width).
        buckets: of query - key, (2 x time - 1,).
        positions: where the queries stand, (rows, queries); None: at every token.
    """
    if positions is None:
        of_queries = _shifted(_products(query, keys[:, buckets.flip(0)]))  # a row's distances are those of key - query
        of_keys = _shifted(_products(key, queries[:, buckets])).transpose(-1, -2)
        bias = of_queries.add_(of_keys)  # in place: a new tensor for each layer costs a quarter of the time of long rows
        return bias if bias.device.type == "cpu" else bias.contiguous()  # kernels of a GPU ask for rows that are aligned
    time = key.shape[2]
    distance = positions[..., None] - torch.arange(time, device=key.device)
    index = buckets[distance + time - 1][:, None].expand(-1, key.shape[1], -1, -1)
    of_queries = _products(query, keys).gather(-1, index)
    return of_queries + _products(key, queries).gather(-1, index.transpose(-1, -2)).transpose(-1, -2)


def _products(states: Tensor, relative: Tensor) -> Tensor:
    """Return the product of each state with each position, (rows, heads, time, positions), one matrix product for each head.

    Args:
        states: (rows, heads, time, width), as views of (rows, time, heads, width): nothing is copied.
        relative: (heads, positions, width).
    """
    rows, heads, time, _ = states.shape
    flat = states.transpose(1, 2).flatten(0, 1).transpose(0, 1)  # (heads, rows x time, width)
    return (flat @ relative.transpose(1, 2)).view(heads, rows, time, -1).transpose(0, 1)


def _shifted(products: Tensor) -> Tensor:
    """Return a view, (rows, heads, time, time), in which column j of row i is the product at distance j - i.

    Distance 0 stands in the middle of every row of products, so each row of the view begins one to the left of the row above.
    """
    rows, heads, time, distances = products.shape
    strides = (products.stride(0), products.stride(1), distances - 1, 1)
    return products.as_strided((rows, heads, time, time), strides, products.storage_offset() + time - 1)


def _part(**modules: nn.Module) -> nn.Module:
    """Return a module that only gives names to others, so that weights are called as in transformers."""
    part = nn.Module()
    for name, module in modules.items():
        part.add_module(name, module)
    return part

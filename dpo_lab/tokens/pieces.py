"""Token ids as the pieces of text that they add, one by one."""

from collections.abc import Sequence
from typing import Any

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


def pieces_of(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return the text that each token adds to those before it; joined they are the decoded text.

    A token that ends within a character adds nothing, and the one that completes the character adds it.
    """
    pieces, before = list[str](), ""
    for at in range(1, len(ids) + 1):
        text = str(tokenizer.decode(list(ids[:at]), skip_special_tokens=False))
        whole = text if at == len(ids) else text.rstrip(INCOMPLETE)
        if not whole.startswith(before):  # a decoder that rewrites what it said: the token by itself
            whole = before + str(tokenizer.decode([ids[at - 1]], skip_special_tokens=False))
        pieces.append(whole[len(before) :])
        before = whole
    return pieces

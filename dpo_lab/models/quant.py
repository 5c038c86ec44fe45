"""Quantisation of the base weights."""

from dpo_lab.components import Component, component


class Quant(Component):
    """How the base weights are stored."""


@component
class NoQuant(Quant):
    """Weights as they are."""


@component
class FourBit(Quant):
    """4-bit NormalFloat weights (QLoRA, Dettmers et al. 2023, arXiv:2305.14314)."""

    missing = "4-bit weights are not built yet. Use quant=none."

    double: bool = True
    """Whether the quantisation constants are quantised too."""


@component
class EightBit(Quant):
    """8-bit weights (LLM.int8(), Dettmers et al. 2022, arXiv:2208.07339)."""

    missing = "8-bit weights are not built yet. Use quant=none."

"""An estimate with its 95 % interval, or with the reason why it has none."""

from dataclasses import dataclass, replace
from typing import Self

from dpo_lab.amounts import short


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean, share or ratio over prompts."""

    value: float
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None
    prompts: int
    """How many independent units it rests on."""
    items: int
    """How many answers or pairs: several may belong to one prompt."""
    why_none: str = ""
    """Why there is no interval; empty where there is one."""

    def figures(self, name: str) -> dict[str, float]:
        """Return it as figures of a run: NAME, and NAME/low and NAME/high where there is an interval.

        >>> Estimate(value=0.5, prompts=1, items=2, why_none="one prompt").figures("win_rate")
        {'win_rate': 0.5}
        """
        if self.low is None or self.high is None:
            return {name: self.value}
        return {name: self.value, f"{name}/low": self.low, f"{name}/high": self.high}

    def turned(self) -> Self:
        """Return the same of a difference that is taken the other way round."""
        if self.low is None or self.high is None:
            return replace(self, value=-self.value)
        return replace(self, value=-self.value, low=-self.high, high=-self.low)

    def text(self, digits: int = 2) -> str:
        """Return it as papers write it.

        >>> Estimate(value=0.957, low=0.938, high=0.97, prompts=318, items=636).text()
        '.96 [.94, .97]'
        """
        if self.low is None or self.high is None:
            return short(self.value, digits)
        return f"{short(self.value, digits)} [{short(self.low, digits)}, {short(self.high, digits)}]"

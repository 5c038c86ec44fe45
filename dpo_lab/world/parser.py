"""The true reward of the film world: a parser that reads any text as a review, and the formula on what it finds."""

import re
from dataclasses import dataclass

from dpo_lab.world import grammar

_TITLE = rf"The (?:{'|'.join(grammar.ADJECTIVES)}) (?:{'|'.join(grammar.NOUNS)})"
_ASKED_TITLE = re.compile(rf"\b{_TITLE}\b")
_SENTENCE = re.compile(r"[^.!?]+[.!?]?")


def _by_phrase(phrases: grammar.Phrases) -> dict[str, int]:
    return {phrase: polarity for polarity, level in phrases.items() for phrase in level}


_FEELINGS, _QUALITIES, _VERDICTS = (_by_phrase(phrases) for phrases in (grammar.FEELINGS, grammar.QUALITIES, grammar.VERDICTS))


def _pattern(template: str) -> re.Pattern[str]:
    """Turn a sentence template into a pattern with one named group for each field."""
    aspect, quality = "|".join(grammar.ASPECTS), "|".join(_QUALITIES)
    groups = {
        "title": _TITLE,
        "feeling": "|".join(_FEELINGS),
        "aspect": aspect,
        "quality": quality,
        "second_aspect": aspect,
        "second_quality": quality,
    }
    fields = {name: f"(?P<{name}>{words})" for name, words in groups.items()}
    return re.compile(template.replace(".", r"\.").format(**fields))


_OPENERS = tuple(_pattern(template) for template in (grammar.FEELING_OPENER, *grammar.NEUTRAL_OPENERS))
_OPINIONS = tuple(_pattern(template) for template in (*grammar.ONE_ASPECT, grammar.TWO_ASPECTS))


@dataclass(frozen=True, kw_only=True)
class Review:
    """What the parser finds in a response."""

    tone: float
    """Mean polarity of all opinions, mapped from -2..2 to [0, 1]; 0.5 without an opinion."""
    title_share: float
    """Share of the films named in openers that are the asked film, in [0, 1]; 0 when none is named."""
    spoiler: bool
    """Whether a spoiler sentence occurs."""
    well_formed: float
    """Share of sentences that the grammar accepts, in [0, 1]; 0 for a text without sentences."""
    num_sentences: int
    """Stretches of text that end with a full stop, an exclamation or question mark, or the text."""
    num_opinions: int
    """Feelings, judged aspects and verdicts."""

    @property
    def reward(self) -> float:
        """The gold reward, in [0, 1]; its parts are means, so a longer text earns nothing by its length."""
        return self.well_formed * (0.50 * self.tone + 0.25 * self.title_share + 0.25 * (not self.spoiler))


def asked_title(prompt_text: str) -> str:
    """Return the first film title in a prompt; raise ValueError when there is none.

    >>> asked_title("Is The Silent Mirror any good?")
    'The Silent Mirror'
    """
    match = _ASKED_TITLE.search(prompt_text)
    if match is None:
        raise ValueError(
            f"the prompt {prompt_text[:80]!r} names no film of the embedded world, so the gold reward of its responses "
            "is undefined. Ask about a film such as 'The Silent Mirror' (data=films), or use another ranker than ranker=gold."
        )
    return match.group()


def parse(prompt_text: str, response_text: str) -> Review:
    """Return what any text says as an answer to a prompt; raise ValueError when the prompt names no film."""
    asked = asked_title(prompt_text)
    sentences = [sentence for part in _SENTENCE.findall(response_text) if (sentence := part.strip())]
    named: list[str] = []
    opinions: list[int] = []
    spoiler, num_accepted = False, 0
    for sentence in sentences:
        if sentence in grammar.SPOILERS:
            spoiler = True
        elif sentence in _VERDICTS:
            opinions.append(_VERDICTS[sentence])
        elif match := _first_match(_OPENERS, sentence):
            title, *feeling = match.groups()
            named.append(title)
            opinions += [_FEELINGS[phrase] for phrase in feeling]
        elif match := _first_match(_OPINIONS, sentence):
            opinions += [_QUALITIES[phrase] for phrase in match.groups()[1::2]]  # groups: aspect, quality, and so on
        elif sentence not in grammar.FILLERS:
            continue
        num_accepted += 1
    return Review(
        tone=0.5 + sum(opinions) / len(opinions) / 4 if opinions else 0.5,
        title_share=named.count(asked) / len(named) if named else 0.0,
        spoiler=spoiler,
        well_formed=num_accepted / len(sentences) if sentences else 0.0,
        num_sentences=len(sentences),
        num_opinions=len(opinions),
    )


def gold_reward(prompt_text: str, response_text: str) -> float:
    """Return well_formed * (0.50 tone + 0.25 title_share + 0.25 if there is no spoiler), in [0, 1].

    >>> gold_reward("Please review The Silent Mirror.", "The Silent Mirror left me undecided.")
    0.75
    """
    return parse(prompt_text, response_text).reward


def _first_match(patterns: tuple[re.Pattern[str], ...], sentence: str) -> re.Match[str] | None:
    for pattern in patterns:
        if match := pattern.fullmatch(sentence):
            return match
    return None

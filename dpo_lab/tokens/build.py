"""Pairs, labels or ranked lists -> TokenStore, with truncation; everything that is cut or dropped is counted."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpo_lab.data.base import Truncation
from dpo_lab.data.problems import DataError
from dpo_lab.drawn import Drawn
from dpo_lab.progress import part
from dpo_lab.records import Example, Label, PreferencePair, Prompt
from dpo_lab.tokens.rendering import UNTRAINABLE, Treatment
from dpo_lab.tokens.store import StoreBuilder, TokenStore
from dpo_lab.tokens.template import ChatEncoder, Encoded

ITEMS_AT_A_TIME = 1000  # their text and ids are held as Python objects, those of the others are not

LENGTH = "(data.max_length, data.truncation)"
MEANINGS = {
    "retokenised": "{items} whose prompt and response share a token: the response was tokenised alone",
    "prompt_too_long": f"{{items}} whose prompt was cut at its beginning to fit {{max_length}} tokens {LENGTH}",
    "response_too_long": f"{{items}} with a response cut at its end, so without end token {LENGTH}",
    "dropped": f"{{items}} longer than {{max_length}} tokens left out {LENGTH}",
    "same_tokens": f"{{items}} left out because their responses are the same after cutting {LENGTH}",
    "same_tokens_in_list": f"{{items}} with an answer left out whose tokens are those of a better one after cutting {LENGTH}",
    "template_refused": "{items} left out because the model's chat template refuses the order of their turns ({model}): "
    "let user and assistant alternate, the user first",
    "template_adds": "{items} with an answer before which the chat template of {model} writes {template_text}: "
    "it is trained as part of the answer",
    "template_adds_behind": "{items} with an answer behind which the chat template of {model} writes {template_text} before the "
    "end token: it is trained as part of the answer",
    "template_rewrites": "{items} with an answer that the chat template of {model} would change: it is trained as it is "
    "written, directly after the generation prompt",
    "unanswered_opening": "{items} left out because the generation prompt of {model} opens {template_text} and an answer does "
    "not continue it: write the answers with what belongs there, or use a model whose template opens nothing",
    "other_header": "{items} left out because the generation prompt of {model} ends in {template_text}, and a conversation with "
    "an answer has another text there: let both branches of the chat template write the same before an answer",
}
"""What happened to items, by name of the count; what to change stands in the same line."""
TREATMENTS: tuple[Treatment, ...] = ("template_adds", "template_rewrites")
"""What a chat template does with answers that can be trained."""
MORE_ROOM = ("dropped", "same_tokens")
"""What a larger `data.max_length` helps against."""


class TooLongError(DataError):
    """An item does not fit and the policy is `error`, or none is left."""

    def __init__(self, message: str, code: str = "too_long") -> None:
        super().__init__(message, code=code)


@dataclass(frozen=True)
class Tokenised:
    """A token store and what was done to make it."""

    store: TokenStore
    counts: dict[str, int] = field(default_factory=dict)
    noun: str = "pairs"
    """What the items are, for people."""
    template_texts: dict[str, str] = field(default_factory=dict)
    """What the chat template adds or opens, the first of each kind."""
    left_out: tuple[int, ...] = ()
    """Positions of the examples that are no items of the store."""

    def notes(self, max_length: int, model: str = "the model") -> list[str]:
        """Return one line per thing that happened, for people.

        Args:
            model: whose chat template it is.
        """
        return [
            f"{count} "
            + MEANINGS[name].format(
                items=self.noun, max_length=max_length, model=model, template_text=repr(self.template_texts.get(name, ""))
            )
            for name, count in self.counts.items()
        ]


def tokenise_items(
    examples: Sequence[Example], tokenizer: Any, *, max_length: int, truncation: Truncation, model: str = "the model"
) -> Tokenised:
    """Return the token store whose items are some pairs, labels or ranked lists; drawn responses keep the tokens drawn.

    Args:
        examples: all of one kind.
        max_length: tokens of prompt and response together.
        truncation: `keep_end_prompt` cuts the prompt at its beginning (never below half of `max_length`), then the
            responses at their end; `drop` leaves the item out; `error` stops.
        model: the name of the chat template's model, for messages.

    Raises:
        TooLongError: under `error`, or when no item is left.
    """
    encoder, builder, counts, texts = ChatEncoder(tokenizer), StoreBuilder(), Counter[str](), dict[str, str]()
    left_out = set(range(len(examples)))
    with part("tokenise", len(examples)) as shown:
        for start in range(0, len(examples), ITEMS_AT_A_TIME):
            some = examples[start : start + ITEMS_AT_A_TIME]
            places = [at for at, example in enumerate(some) if encoder.takes(example.prompt)]
            taken = [some[at] for at in places]
            counts["template_refused"] += len(some) - len(taken)
            for at, example, answers in zip(places, taken, encoded(taken, encoder), strict=True):
                if not _treated(answers, counts, texts):
                    continue
                fit = fitted(example, answers, tokenizer, max_length=max_length, truncation=truncation, counts=counts)
                if fit:
                    prompt, responses = fit
                    logps = drawn_logps(example, answers, prompt, responses)
                    added = [builder.add_response(prompt, *each) for each in zip(responses, logps, strict=True)]
                    distinct, labels = once(added, labels_in(example))
                    counts["same_tokens_in_list"] += len(distinct) < len(added)
                    builder.add_item(distinct, **labels)
                    left_out.discard(start + at)
            shown.advance(len(some))
    noun = examples[0].noun if examples else "pairs"
    kept = {name: count for name, count in counts.items() if count}
    tokenised = Tokenised(builder.build(), kept, noun, texts, tuple(sorted(left_out)))
    if examples and not tokenised.store.num_items:
        advice = " Raise data.max_length." if counts.keys() & MORE_ROOM and any(counts[name] for name in MORE_ROOM) else ""
        code = "too_long" if advice else max(("template_refused", *UNTRAINABLE), key=lambda name: counts[name])
        raise TooLongError(
            f"none of {len(examples)} {noun} is left: {'; '.join(tokenised.notes(max_length, model))}.{advice}", code
        )
    return tokenised


def once(responses: list[int], labels: dict[str, Any]) -> tuple[list[int], dict[str, Any]]:
    """Return the responses of an item without repetitions, and its labels with the scores of those.

    >>> once([7, 8, 7], {"scores": (3.0, 2.0, 1.0)})
    ([7, 8], {'scores': (3.0, 2.0)})
    """
    kept = [at for at, response in enumerate(responses) if response not in responses[:at]]
    scores = labels.get("scores")
    return [responses[at] for at in kept], labels | ({"scores": tuple(scores[at] for at in kept)} if scores else {})


def labels_in(example: Example) -> dict[str, Any]:
    """Return what an example says of its responses, as `StoreBuilder.add_item` takes it."""
    if isinstance(example, Label):
        return {"desirable": example.desirable}
    preference = {"preference": example.preference} if isinstance(example, PreferencePair) else {}
    return {"scores": example.scores, **preference}


def encoded(examples: Sequence[Example], encoder: ChatEncoder) -> list[list[Encoded]]:
    """Return the tokens of each example's responses: those that were drawn, else those of the text."""
    texts = [
        (example.prompt, text)
        for example in examples
        for text, drawn in zip(example.responses, drawn_of(example), strict=True)
        if drawn is None
    ]
    of_text = iter(encoder.encode(texts))
    of_drawn = iter(encoder.prompt_ids([example.prompt for example in examples if example.drawn]))
    made = []
    for example in examples:
        prompt = next(of_drawn) if example.drawn else []
        made.append(
            [
                next(of_text) if answer is None else Encoded(prompt, answer.ids.tolist(), retokenised=False)
                for answer in drawn_of(example)
            ]
        )
    return made


def drawn_of(example: Example) -> tuple[Drawn | None, ...]:
    """Return the drawn tokens of each response of an example, None of those that no model drew."""
    return example.drawn or (None,) * len(example.responses)


def drawn_logps(
    example: Example, answers: Sequence[Encoded], prompt: list[int], responses: Sequence[list[int]]
) -> list[Sequence[float]]:
    """Return the log-probabilities of each response as they were drawn; none where the prompt or the response was cut.

    Args:
        prompt: as it is stored, and so are `responses`.
    """
    if not example.drawn or prompt != answers[0].prompt:
        return [()] * len(responses)
    return [
        drawn.logps if drawn and len(response) == len(drawn.logps) else ()
        for drawn, response in zip(example.drawn, responses, strict=True)
    ]


def _treated(answers: Sequence[Encoded], counts: Counter[str], texts: dict[str, str]) -> bool:
    """Count what the chat template does with an item's answers; return whether the item can be trained."""
    by_treatment = {answer.treatment: answer.template_text for answer in answers}
    kept = by_treatment.keys().isdisjoint(UNTRAINABLE)
    for treatment in TREATMENTS if kept else UNTRAINABLE:
        if treatment in by_treatment:
            counts[treatment] += 1
            texts.setdefault(treatment, by_treatment[treatment])
    behind = next((answer.text_behind for answer in answers if answer.text_behind), "")
    if kept and behind:
        counts["template_adds_behind"] += 1
        texts.setdefault("template_adds_behind", behind)
    return kept


def fitted(
    example: Example,
    answers: Sequence[Encoded],
    tokenizer: Any,
    *,
    max_length: int,
    truncation: Truncation,
    counts: Counter[str],
) -> tuple[list[int], list[list[int]]] | None:
    """Return the token ids of the prompt and of each response as they are stored; None if the example is left out.

    Args:
        counts: what is done is counted there, under the keys of `MEANINGS`.

    Raises:
        TooLongError: under `error`.
    """
    prompt = answers[0].prompt
    whole = [
        each.response if ended or drawn else without_end(each.response, tokenizer)
        for each, drawn, ended in zip(answers, drawn_of(example), example.finished or (True,) * len(answers), strict=True)
    ]
    longest = max(map(len, whole))
    too_long = len(prompt) + longest > max_length
    if too_long and truncation == "error":
        raise TooLongError(
            f"{example.source} row {example.row}: {len(prompt) + longest} tokens, data.max_length={max_length}. "
            "Raise it, or choose data.truncation=keep_end_prompt or drop."
        )
    if too_long and truncation == "drop":
        counts["dropped"] += 1
        return None
    short = cut_prompt(prompt, longest, max_length, tokenizer.bos_token_id)
    cut = [answer[: max_length - len(short)] for answer in whole]
    if len(cut) > 1 and all(answer == cut[0] for answer in cut):
        counts["same_tokens"] += 1
        return None
    counts["retokenised"] += any(answer.retokenised for answer in answers)
    counts["prompt_too_long"] += len(short) < len(prompt)
    counts["response_too_long"] += cut != whole
    return short, cut


def without_end(response: list[int], tokenizer: Any) -> list[int]:
    """Return a response that was cut, without the end token that a finished one has; never nothing."""
    return response[:-1] if len(response) > 1 and response[-1] == tokenizer.eos_token_id else response


def cut_prompt(prompt: list[int], longest_response: int, max_length: int, bos: int | None) -> list[int]:
    """Return the prompt's last tokens, as many as leave room for the response but at least half of `max_length`.

    A start token stays in front.

    >>> cut_prompt([1, 5, 6, 7, 8, 9], longest_response=4, max_length=8, bos=1)
    [1, 7, 8, 9]
    """
    room = max(max_length - longest_response, max_length // 2)
    if len(prompt) <= room:
        return prompt
    return [prompt[0], *prompt[len(prompt) - room + 1 :]] if prompt[0] == bos else prompt[len(prompt) - room :]


def tokenise_answers(
    prompts: Sequence[Sequence[int]], answers: Iterable[Sequence[Sequence[int]]]
) -> tuple[TokenStore, list[list[int]]]:
    """Return a store of sampled answers, without pairs, and the index of each answer's response in it."""
    builder = StoreBuilder()
    index = [[builder.add_response(prompt, answer) for answer in each] for prompt, each in zip(prompts, answers, strict=True)]
    return builder.build(), index


def tokenise_examples(examples: Sequence[tuple[Prompt, str]], tokenizer: Any) -> tuple[TokenStore, list[int]]:
    """Return a store of supervised examples and each example's response in it, in order."""
    builder = StoreBuilder()
    order = [builder.add_response(each.prompt, each.response) for each in ChatEncoder(tokenizer).encode(examples)]
    return builder.build(), order

"""From turns to token ids: one rendering, one tokenisation, the response marked by its character span."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2.exceptions import TemplateError

from dpo_lab.data.problems import DataError
from dpo_lab.models.ends import ends_known
from dpo_lab.models.tokenizer import MARK
from dpo_lab.progress import say
from dpo_lab.records import Message, Prompt
from dpo_lab.tokens.rendering import Rendering, Template, Treatment


@dataclass(frozen=True)
class Encoded:
    """The tokens of one prompt with one response."""

    prompt: list[int]
    """Exactly the ids that generation starts from."""
    response: list[int]
    """The response's tokens with the end token."""
    retokenised: bool
    """True if prompt and response share a token when tokenised together, so that the response was tokenised alone."""
    treatment: Treatment = "as_written"
    """What the chat template does with the response; one that is `UNTRAINABLE` is left out."""
    template_text: str = ""
    """What the template adds before the response, or what it opens and the response does not continue."""
    text_behind: str = ""
    """What the template writes between the response and its end token, but for white space: it is trained too."""


class ChatEncoder:
    """Renders conversations with a tokenizer's chat template and turns them into ids.

    Turns of the same role in a row are joined by a blank line, and a system turn goes into the first user turn when
    the template refuses it (Mistral-Instruct v0.2 does both). Text that is `rendered` never meets the template.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.template = Template(tokenizer)
        self._system_allowed: bool | None = None

    def turns(self, prompt: Prompt) -> list[Message]:
        """Return the prompt's turns as the template accepts them."""
        turns: list[Message] = []
        for turn in prompt.messages:
            if turns and turns[-1]["role"] == turn["role"]:
                turns[-1] = {"role": turn["role"], "content": f"{turns[-1]['content']}\n\n{turn['content']}"}
            else:
                turns.append({"role": turn["role"], "content": turn["content"]})
        if len(turns) > 1 and turns[0]["role"] == "system" and not self._takes_system():
            first = turns[1]
            turns[:2] = [{"role": first["role"], "content": f"{turns[0]['content']}\n\n{first['content']}"}]
        return turns

    def prompt_text(self, prompt: Prompt) -> str:
        """Return the text that generation starts from."""
        if prompt.rendered:
            return prompt.messages[0]["content"]
        turns = self.turns(prompt)
        if turns[-1]["role"] == "assistant":  # the response continues the last turn
            return self.template.continued(turns)
        return self.template.render(turns, generation=True)

    def takes(self, prompt: Prompt) -> bool:
        """Return whether the template renders the prompt; some refuse a conversation that the assistant opens."""
        try:
            self.prompt_text(prompt)
        except TemplateError:
            return False
        return True

    def taken(self, prompts: Sequence[Prompt], model: str) -> list[Prompt]:
        """Return the prompts that the template renders, and say how many it refuses.

        Args:
            model: whose template it is.

        Raises:
            DataError: if it renders none.
        """
        taken = [prompt for prompt in prompts if self.takes(prompt)]
        if refused := len(prompts) - len(taken):
            what = f"{refused} of {len(prompts)} prompts left out: the chat template of {model} refuses the order of their turns"
            if not taken:
                raise DataError(f"{what}. Let user and assistant alternate, the user first and last.", code="template_refused")
            say(f"  {what}")
        return taken

    def rendering(self, prompt: Prompt, prompt_text: str, response: str) -> Rendering:
        """Return prompt and response as one text; it starts with `prompt_text`."""
        if prompt.rendered:
            text = prompt_text + self._without_end(response)
            return Rendering(text, len(text))
        return self.template.answered(self.turns(prompt), prompt_text, self._without_end(response.strip()).strip())

    def _without_end(self, response: str) -> str:
        """Return a response without the end tokens that are written at its end: it gets one as every other does."""
        ends = self._end_texts
        while ends and (shorter := response.rstrip()).endswith(ends):
            kept = shorter.removesuffix(next(end for end in ends if shorter.endswith(end)))
            if not kept.strip():
                break
            response = kept
        return response

    @cached_property
    def _end_texts(self) -> tuple[str, ...]:
        """How the tokens that end an answer of the model are written, longest first, without ordinary words."""
        marks = self.tokenizer.added_tokens_decoder
        tokens = {str(self.tokenizer.convert_ids_to_tokens(token)) for token in ends_known(self.tokenizer) if token in marks}
        return tuple(sorted({self.tokenizer.eos_token or "", *tokens} - {""}, key=len, reverse=True))

    def prompt_ids(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Return the ids that generation starts from, one list per prompt."""
        ids = self._ids([self.prompt_text(prompt) for prompt in prompts])
        return [self._with_start(each) if prompt.rendered else each for prompt, each in zip(prompts, ids, strict=True)]

    def encode(self, items: Sequence[tuple[Prompt, str]]) -> list[Encoded]:
        """Return the tokens of each (prompt, response); texts are tokenised in one batch."""
        distinct = list({prompt.id: prompt for prompt, _ in items}.values())
        ids = dict(zip((prompt.id for prompt in distinct), self.prompt_ids(distinct), strict=True))
        texts = {prompt.id: self.prompt_text(prompt) for prompt in distinct}
        full = [self.rendering(prompt, texts[prompt.id], response) for prompt, response in items]
        if not items:
            return []
        batch = self.tokenizer(
            [conversation.text for conversation in full], add_special_tokens=False, return_offsets_mapping=True
        )
        return [
            self._split(ids[prompt.id], texts[prompt.id], rendering, together, offsets, prompt.rendered)
            for (prompt, _), rendering, together, offsets in zip(
                items, full, batch["input_ids"], batch["offset_mapping"], strict=True
            )
        ]

    def _split(
        self, prompt: list[int], start: str, rendering: Rendering, together: list[int], offsets: Any, rendered: bool
    ) -> Encoded:
        together = self._with_start(together) if rendered else together
        shift = len(together) - len(offsets)  # a start token that the text does not show
        retokenised = together[: len(prompt)] != prompt
        if retokenised:
            tail = self.tokenizer(rendering.text[len(start) :], add_special_tokens=False, return_offsets_mapping=True)
            ids, begins = tail["input_ids"], [begin + len(start) for begin, _ in tail["offset_mapping"]]
        else:
            ids, begins = together[len(prompt) :], [begin for begin, _ in offsets[len(prompt) - shift :]]
        response, end = self._ended(ids, begins, rendering.content_end)
        behind = rendering.text[rendering.content_end : end].strip()
        return Encoded(prompt, response, retokenised, rendering.treatment, rendering.template_text, behind)

    def _ended(self, ids: list[int], begins: list[int], content_end: int) -> tuple[list[int], int]:
        """Cut after the first end token behind the content; add one if the template writes none.

        Returns:
            The response, and where its end token begins in the text. What stands before that is what the model has to generate
            too, as a conversation has it; what follows is never generated.
        """
        eos = self.tokenizer.eos_token_id
        for position, (token, begin) in enumerate(zip(ids, begins, strict=True)):
            if begin >= content_end and token == eos:
                return ids[: position + 1], begin
        kept = [token for token, begin in zip(ids, begins, strict=True) if begin < content_end]
        return (kept if kept[-1:] == [eos] else [*kept, eos]), content_end

    def _ids(self, texts: list[str]) -> list[list[int]]:
        batch: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        return batch

    def _with_start(self, ids: list[int]) -> list[int]:
        """Put the tokenizer's start token before plain text if it is one that the tokenizer itself would add."""
        bos = self.tokenizer.bos_token_id
        if bos is None or ids[:1] == [bos]:
            return ids
        return [bos, *ids] if self.tokenizer("a")["input_ids"][:1] == [bos] else ids

    def _takes_system(self) -> bool:
        if self._system_allowed is None:
            try:
                rendered = self.tokenizer.apply_chat_template(
                    [{"role": "system", "content": MARK}, {"role": "user", "content": "a"}], tokenize=False
                )
                self._system_allowed = MARK in rendered
            except TemplateError:
                self._system_allowed = False
        return self._system_allowed

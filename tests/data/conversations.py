"""One conversation in every row format that can hold it."""

import json
from typing import Any

Row = dict[str, Any]


def turn(role: str, content: object) -> Row:
    return {"role": role, "content": content}


PROMPT = [turn("user", "Is it late?"), turn("assistant", "No."), turn("user", "And now?")]
CHOSEN, REJECTED = [turn("assistant", "Not yet.")], [turn("assistant", "Yes")]
TRANSCRIPT = "\n\nHuman: Is it late?\n\nAssistant: No.\n\nHuman: And now?\n\nAssistant: "

WHOLE, WHOLE_REJECTED = PROMPT + CHOSEN, PROMPT + REJECTED


def parts(turns: list[Row], key: str) -> list[Row]:
    """Return turns whose content is a list of parts."""
    return [{**each, "content": [{"type": "text", key: each["content"]}]} for each in turns]


def chatml(turns: list[Row]) -> str:
    return "".join(f"<|im_start|>{each['role']}\n{each['content']}<|im_end|>\n" for each in turns)


def llama3(turns: list[Row]) -> str:
    body = "".join(f"<|start_header_id|>{each['role']}<|end_header_id|>\n\n{each['content']}<|eot_id|>" for each in turns)
    return f"<|begin_of_text|>{body}"


def gemma(turns: list[Row]) -> str:
    roles = {"assistant": "model"}
    body = "".join(f"<start_of_turn>{roles.get(each['role'], each['role'])}\n{each['content']}<end_of_turn>\n" for each in turns)
    return f"<bos>{body}"


CONVERSATIONS: dict[str, tuple[str, Row]] = {
    "TRL explicit": ("trl_conversational_explicit", {"prompt": PROMPT, "chosen": CHOSEN, "rejected": REJECTED}),
    "TRL implicit": ("trl_conversational_implicit", {"chosen": WHOLE, "rejected": WHOLE_REJECTED}),
    "HH": ("hh_transcript", {"chosen": TRANSCRIPT + "Not yet.", "rejected": TRANSCRIPT + "Yes"}),
    "OpenAI": (
        "trl_conversational_explicit",
        {"input": {"messages": PROMPT, "tools": []}, "preferred_output": CHOSEN, "non_preferred_output": REJECTED},
    ),
    "axolotl": ("trl_conversational_explicit", {"messages": PROMPT, "chosen": CHOSEN[0], "rejected": REJECTED[0]}),
    "ShareGPT": ("trl_conversational_explicit", {"conversations": PROMPT, "chosen": CHOSEN[0], "rejected": REJECTED[0]}),
    "LLaMA-Factory v1": (
        "trl_conversational_implicit",
        {"chosen_messages": parts(WHOLE, "value"), "rejected_messages": parts(WHOLE_REJECTED, "value")},
    ),
    "parts of text": (
        "trl_conversational_explicit",
        {"prompt": parts(PROMPT, "text"), "chosen": parts(CHOSEN, "text"), "rejected": parts(REJECTED, "text")},
    ),
    "ms-swift": ("trl_conversational_implicit", {"messages": WHOLE, "rejected_messages": WHOLE_REJECTED}),
    "ms-swift text": ("conversation_and_text", {"messages": WHOLE, "rejected_response": "Yes"}),
    "turns and texts": ("turns_and_texts", {"prompt": PROMPT, "chosen": "Not yet.", "rejected": "Yes"}),
    "turns and lists": ("turns_and_texts", {"messages": PROMPT, "chosen": ["Not yet."], "rejected": ["Yes"]}),
    "capitals": ("trl_conversational_explicit", {"Prompt": PROMPT, "Chosen": CHOSEN, "REJECTED": REJECTED}),
    "JSON text": (
        "trl_conversational_explicit",
        {"prompt": json.dumps(PROMPT), "chosen": json.dumps(CHOSEN), "rejected": json.dumps(REJECTED)},
    ),
    "JSON object in text": (
        "trl_conversational_implicit",
        {
            "chosen": json.dumps({"messages": WHOLE, "tools": []}),
            "rejected": json.dumps({"messages": WHOLE_REJECTED, "tools": None}),
        },
    ),
    "Python text": ("trl_conversational_implicit", {"chosen": str(WHOLE), "rejected": str(WHOLE_REJECTED)}),
    "history": (
        "instruction",
        {"history": [["Is it late?", "No."]], "question": "And now?", "response_chosen": "Not yet.", "response_rejected": "Yes"},
    ),
    "history of turns": (
        "instruction",
        {"history": PROMPT[:2], "query": "And now?", "response": "Not yet.", "rejected_response": "Yes"},
    ),
    "answers in objects": (
        "turns_and_texts",
        {"prompt": PROMPT, "chosen": {"text": "Not yet.", "words": 2}, "rejected": {"text": "Yes", "words": 1}},
    ),
    "NeMo RL": (
        "ranked_completions",
        {"context": PROMPT, "completions": [{"rank": 1, "completion": REJECTED}, {"rank": 0, "completion": CHOSEN}]},
    ),
    "ChatML": ("rendered_conversations", {"chosen": chatml(WHOLE), "rejected": chatml(WHOLE_REJECTED)}),
    "Llama 3": ("rendered_conversations", {"chosen": llama3(WHOLE), "rejected": llama3(WHOLE_REJECTED)}),
    "Gemma": ("rendered_conversations", {"chosen": gemma(WHOLE), "rejected": gemma(WHOLE_REJECTED)}),
}
EXPLICIT, IMPLICIT = CONVERSATIONS["TRL explicit"][1], CONVERSATIONS["TRL implicit"][1]

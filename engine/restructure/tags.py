"""Tags of other formats that may stand around a thought or an answer, and must not be trained as a part of it.

Benign answers are kept to the letter, so they are asked for every tag. A prompt that ends in a tag of the reasoning is
one that a chat template has already written out. Special tokens may stand nowhere: training refuses them, as a
tokenizer would read them as the end of a turn, and not as text.
"""

import re

_NAMES = (
    r"answer|final[ _]answer|response|solution|output|final|think|thinking|thoughts?|reasoning|scratchpad"
    r"|seed:think|mm:think"
)
_SPECIAL = (
    r"<\|(?:begin|end)_of_(?:thought|solution|text|sentence)\|>|<\|im_(?:start|end|sep)\|>|<\|?/?channel\|?>(?:thought)?"
    r"|<\|(?:start|end|message|return|eot_id|start_header_id|end_header_id|endoftext)\|>"
    r"|<\|(?:START|END)_(?:THINKING|RESPONSE)\|>|<[｜|](?:User|Assistant|begin▁of▁sentence|end▁of▁sentence)[｜|]>"
    r"|\[/?(?:THINK|INST)\]|◁/?think▷"
)
_TOKEN = re.compile(
    r"<[|｜][\w▁:./-]{1,64}[|｜]?>|<[\w▁:./-]{1,64}[|｜]>"  # <|im_end|>, <｜User｜>, and Gemma's <|channel> <channel|>
    r"|</?s>|<(?:bos|eos|pad|unk|mask|sep|cls|start_of_turn|end_of_turn)>|\[(?:/?INST|CLS|SEP|PAD|UNK|MASK)\]"
)
_TAG = re.compile(rf"<\s{{0,3}}/?\s{{0,3}}(?:{_NAMES})\s{{0,3}}>|{_SPECIAL}", re.IGNORECASE)
_TEMPLATE = re.compile(rf"\s{{0,9}}(?:{_SPECIAL})", re.IGNORECASE)
_OPEN_AT_END = re.compile(
    r"(?:<\s{0,3}(?:think|thinking|thought|reasoning)\s{0,3}>|(?:\A|\n)[^\S\n]*assistant[^\S\n]*[:：])\s*\Z",
    re.IGNORECASE,
)
_LONGEST_END = 100


def find_tag(answer: str) -> str:
    """Return the first tag of another format in an answer; empty text where it holds none."""
    match = _TAG.search(answer)
    return match.group() if match else find_token(answer)


def find_token(text: str) -> str:
    """Return the first special token in a text, of whatever model; empty text where it holds none."""
    match = _TOKEN.search(text)
    return match.group() if match else ""


def find_template(prompt: str) -> str:
    """Return what shows that a chat template has written a prompt out; empty text for a prompt as a user writes it.

    A template's mark counts at the beginning only, as people also write one into the middle of a prompt to attack.
    """
    match = _TEMPLATE.match(prompt) or _OPEN_AT_END.search(prompt[-_LONGEST_END:])
    return match.group().strip() if match else ""

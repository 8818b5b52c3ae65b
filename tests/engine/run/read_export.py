"""Reads an exported model with the transformers of the Python that runs this, and writes down what comes out.

usage: read_export.py REQUESTS, a JSON list of [model folder, JSON file of texts, file to write]

For each: the ids of every text, the prompts of conversations without a switch, fp32 logits over some of the ids, and
the tokens generated where the model is made to say its end token after three others.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

CONVERSATIONS = [
    [{"role": "user", "content": "How many sides has a hexagon?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name 3 rivers."}],
]
LOGIT_TOKENS = 400


def main(requests: list[list[str]]) -> None:
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    for folder, texts, output in requests:
        Path(output).write_text(json.dumps(read(folder, json.loads(Path(texts).read_text()))))


def read(folder: str, texts: list[str]) -> dict[str, Any]:
    """Return what the folder gives."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").float().eval()
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    prompts = [
        tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) for turns in CONVERSATIONS
    ]
    context = torch.tensor([[token for row in ids for token in row][:LOGIT_TOKENS]])
    with torch.inference_mode():
        logits = model(context).logits[0]
        written = model.generate(
            context[:, :20],
            attention_mask=torch.ones_like(context[:, :20]),
            max_new_tokens=12,
            do_sample=False,
            logits_processor=[_ends_after(3, 20, tokenizer.eos_token_id)],
        )
    return {
        "version": transformers.__version__,
        "class": type(tokenizer).__name__,
        "ids": ids,
        "with_special": tokenizer("Good day.")["input_ids"],
        "conversations": CONVERSATIONS,
        "prompts": prompts,
        "logits": logits[:, ::97].tolist() if logits.shape[1] > 5000 else logits.tolist(),
        "written": written[0, 20:].tolist(),
        "end": tokenizer.eos_token_id,
    }


def _ends_after(count: int, prompt: int, end: int) -> Any:
    """Return a processor that makes `end` the likeliest token after `count` others, and impossible before."""

    def process(input_ids: Any, scores: Any) -> Any:
        scores[:, end] = 1e9 if input_ids.shape[1] == prompt + count else -1e9
        return scores

    return process


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""A real pre-trained model on real rows: from traces on disk to an aligned model that transformers loads."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.mark.long
def test_stories_model_learns_every_role(
    tmp_path: Path, shared_data: Path, run_ranks: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    train, rows, output = shared_data / "train", tmp_path / "rows.jsonl", tmp_path / "run"
    sources = [
        *("--harmful.path", train / "STAR-1.json", "--num-harmful", 80),
        *("--benign.path", train / "benign_math_think_deepseekchat_460.jsonl", "--num-benign", 20),
        *("--benign.columns", "prompt=question", "--benign.answer-open", "<answer>"),
        *("--benign.answer-close", "</answer>"),
    ]
    build = [sys.executable, ROOT / "recipes" / "build_dataset.py", *sources, "--output", rows]
    subprocess.run([str(part) for part in build], check=True, capture_output=True, cwd=tmp_path)
    (tmp_path / "chat.jinja").write_text(TEMPLATE)

    flags = {
        "--model.path": shared_data / "weights" / "stories260K" / "hf",  # has no chat template, and a context of 512
        "--model.dtype": "float32",
        "--data.chat-template": tmp_path / "chat.jinja",
        "--data.train": rows,
        "--data.eval": rows,
        "--data.too-long": "skip",
        "--batch.pack-tokens": 2048,
        "--schedule.steps": 12,
        "--optim.lr": 2e-3,
        "--zero.stage": 3,
        "--output": output,
    }
    done = run_ranks(2, ROOT / "recipes" / "alttrain_1p5b.py", *(part for flag in flags.items() for part in flag))
    assert "left out" in done.stderr  # rows of more than 512 tokens, though a pack holds 2,048

    before, after = (json.loads(line) for line in (output / "eval.jsonl").read_text().splitlines())
    assert (before["step"], after["step"]) == (0, 12)
    assert set(before["nll"]) == {"think", "understanding", "assessment", "reasoning", "closing", "answer", "end"}
    assert all(after["nll"][role] < before["nll"][role] for role in before["nll"])
    assert after["loss"] < 0.7 * before["loss"]

    model = AutoModelForCausalLM.from_pretrained(output / "model")
    tokenizer = AutoTokenizer.from_pretrained(output / "model")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 2 + 2?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    assert model.generate(**prompt, max_new_tokens=8).shape[1] == prompt["input_ids"].shape[1] + 8

"""An export read by other versions of transformers and the pinned one: ids, logits, prompts, the end of generation.

Each other version needs an environment of its own; ALTTRAIN_READERS names their Pythons, with colons between them, one
of them with transformers 4.57: `pip install transformers==4.57.1 torch` makes one. `-s` shows the table.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM

from alttrain.engine.data.template_text import THINKING
from alttrain.engine.data.tokenizer import PROBES, load_raw, load_tokenizer
from skips import NO_OTHER_TRANSFORMERS
from small_runs import RECIPE, RECIPE_WORKER, command_lines

OTHERS = [python for python in os.environ.get("ALTTRAIN_READERS", "").split(os.pathsep) if python]
PYTHONS = [*OTHERS, sys.executable]
READER = Path(__file__).with_name("read_export.py")
pytestmark = [pytest.mark.long, pytest.mark.skipif(not OTHERS, reason=NO_OTHER_TRANSFORMERS)]

LOGIT_TOKENS = 400  # as in read_export.py

SHAPE = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "initializer_range": 0.4, "layer_types": ["full_attention"] * 2,
}  # fmt: skip
QWEN2 = {"model_type": "qwen2", "max_position_embeddings": 4096, "rope_theta": 1e6, "torch_dtype": "bfloat16"}
LLAMA = {"model_type": "llama", "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
QWEN3 = {"model_type": "qwen3", "max_position_embeddings": 4096, "head_dim": 8, "eos_token_id": None}
# name: (tokenizer, config). A name stands for a file of shared/data/configs.
REAL = {
    "r1-qwen": ("deepseek-r1-distill-qwen", "qwen2.5_config.json"),
    "r1-llama": ("deepseek-r1-distill-llama", "llama3.1_config.json"),
    "qwen3": ("qwen3", "qwen3_config.json"),
    "minimind": ("minimind-6400", "qwen3_config.json"),
}
OWN: dict[str, tuple[str, dict[str, Any]]] = {
    "bytes-linear": ("bytes-opened", QWEN3 | {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}),
    "pieces-yarn": ("pieces-half-opened", LLAMA | {"rope_parameters": {**YARN, "rope_theta": 2e4}}),
    "digits-qwen2": ("digits", QWEN2),
}


def texts(count: int = 200) -> list[str]:
    """Return varied texts: the probes, and pieces of them mixed with digits, marks and white space."""
    draw = random.Random(11)
    pieces = [word for text in PROBES for word in text.split(" ")]
    pieces += [
        "\n",
        "\n\n",
        "\t",
        "  ",
        "1234",
        "7",
        "é",
        "e\u0301",
        "'s",
        "<think>",
        "</think>",
        "<|im_end|>",
        "<s>",
        "😀",
    ]
    mixed = [draw.choice(["", " ", ""]).join(draw.choices(pieces, k=draw.randint(1, 30))) for _ in range(count)]
    return [*PROBES, *mixed][:count]


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, shared_data: Path, small_tokenizer_folder: Callable[[str], Path]
) -> dict[str, Path]:
    """Model folders without weights."""
    parent = tmp_path_factory.mktemp("versions")
    made = {}
    for name, (tokenizer, file) in REAL.items():
        values = json.loads((shared_data / "configs" / file).read_text())
        made[name] = write_folder(parent / name, shared_data / "tokenizers" / tokenizer, values)
    for name, (tokenizer, values) in OWN.items():
        source = small_tokenizer_folder("bytes" if tokenizer == "digits" else tokenizer)
        made[name] = write_folder(parent / name, source, values)
        if tokenizer == "digits":
            split_digits(made[name])
    return made


def write_folder(folder: Path, tokenizer: Path, values: dict[str, Any]) -> Path:
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    rows = max(load_raw(folder).get_vocab().values()) + 5
    shape = {
        **SHAPE,
        **({"head_dim": 8} if "head_dim" in values else {}),
        "vocab_size": rows,
        "use_sliding_window": False,
    }
    (folder / "config.json").write_text(json.dumps({**values, **shape}))
    return folder


def split_digits(folder: Path) -> None:
    """Cut a text before every third digit from the right, as no class of transformers does."""
    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    cut = pre_tokenizers.Split(Regex(r"\d{1,3}(?=(\d{3})*\b)|[^\s\d]+|\s+"), behavior="isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    raw.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def exports(
    tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path], run_ranks: Callable[..., Any]
) -> dict[str, Path]:
    """OUT/model of a run of one step from random weights, by name."""
    parent = tmp_path_factory.mktemp("runs")
    (parent / "rows.jsonl").write_text(
        json.dumps({"prompt": "What is 2 + 3?", "response": "<think>\nA sum: 5.\n</think>\n\nIt is 5."}) + "\n"
    )
    runs = []
    for name, folder in folders.items():
        values = {
            "--model.path": folder, "--model.dtype": "float32", "--data.train": parent / "rows.jsonl",
            "--zero.stage": 1, "--schedule.epochs": 0, "--schedule.steps": 1, "--batch.pack-tokens": 1024,
            "--checkpoint.every": 0, "--output": parent / name,
        }  # fmt: skip
        runs.append([str(word) for pair in values.items() for word in pair] + ["--model.random-init"])
    run_ranks(1, RECIPE_WORKER, command_lines(runs, RECIPE))
    return {name: parent / name / "model" for name in folders}


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory, exports: dict[str, Path]) -> Callable[[str], list[dict[str, Any]]]:
    """Return a function that gives what each of PYTHONS read from an export."""
    parent = tmp_path_factory.mktemp("read")
    (parent / "texts.json").write_text(json.dumps(texts()))
    for which, python in enumerate(PYTHONS):
        requests = [
            [str(folder), str(parent / "texts.json"), str(parent / f"{which}-{name}.json")]
            for name, folder in exports.items()
        ]
        subprocess.run([python, READER, json.dumps(requests)], check=True, timeout=900)
    return lambda name: [json.loads((parent / f"{which}-{name}.json").read_text()) for which in range(len(PYTHONS))]


def logits_of(source: Path, export: Path, ids: list[list[int]]) -> torch.Tensor:
    """Return the logits of the exported weights in the model that the source's config describes."""
    config = AutoConfig.from_pretrained(source)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    model.load_state_dict(load_file(export / "model.safetensors"), strict=False)
    model.tie_weights()
    context = torch.tensor([[token for row in ids for token in row][:LOGIT_TOKENS]])
    with torch.inference_mode():
        return model.float().eval()(context).logits[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", [*REAL, *OWN])
def test_both_versions_read_what_was_trained(
    folders: dict[str, Path], exports: dict[str, Path], read: Callable[..., Any], name: str
) -> None:
    readers = read(name)
    assert any(found["version"].startswith("4.57.") for found in readers)
    right = [encoding.ids for encoding in load_raw(folders[name]).encode_batch(texts(), add_special_tokens=False)]
    assert len(right) == 200
    trained = load_tokenizer(folders[name])
    prompts = [
        trained.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **THINKING)
        for turns in readers[-1]["conversations"]
    ]
    wanted = logits_of(folders[name], exports[name], right)
    scale = max(1.0, wanted.abs().max().item())
    for found in readers:
        assert right == found["ids"]
        assert prompts == found["prompts"]
        logits = torch.tensor(found["logits"])
        difference = (logits - (wanted[:, ::97] if wanted.shape[1] > 5000 else wanted)).abs().max().item()
        sys.stdout.write(f"{name} | {found['version']} | {difference:.1e} of {scale:.1f} | 200 of 200 strings\n")
        assert difference <= 1e-5 * scale
    before, after = AutoConfig.from_pretrained(folders[name]), AutoConfig.from_pretrained(exports[name])
    assert before.rope_parameters == after.rope_parameters

    for found in readers:
        assert len(found["written"]) == 4
        assert found["written"][-1] == found["end"] == load_raw(folders[name]).token_to_id(end_token(folders[name]))


def end_token(folder: Path) -> str:
    token = json.loads((folder / "tokenizer_config.json").read_text())["eos_token"]
    return str(token["content"] if isinstance(token, dict) else token)


def test_logits_tell_a_lost_rotary_embedding(exports: dict[str, Path], tmp_path: Path) -> None:
    """The comparison of logits can fail: without the older spelling 4.57 takes a theta of its own."""
    (tmp_path / "texts.json").write_text(json.dumps(texts(40)))
    logits = []
    for kept in (True, False):
        folder = shutil.copytree(exports["r1-llama"], tmp_path / str(kept))
        values = json.loads((folder / "config.json").read_text())
        lost = () if kept else ("rope_theta", "rope_scaling")
        (folder / "config.json").write_text(json.dumps({k: v for k, v in values.items() if k not in lost}))
        request = [str(folder), str(tmp_path / "texts.json"), str(tmp_path / "out.json")]
        subprocess.run([OTHERS[0], READER, json.dumps([request])], check=True, timeout=900)
        logits.append(torch.tensor(json.loads((tmp_path / "out.json").read_text())["logits"]))
    assert (logits[0] - logits[1]).abs().max() > 1e-2

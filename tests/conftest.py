"""Fixtures every test may use."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

# At the end, and never `tests` itself: that holds a folder `kernels`.
sys.path.append(str(Path(__file__).parent / "plugins"))
pytest_plugins = ("pytester", "skips", "laws", "scheduling", "small_tokenizers", "golden", "planted_faults")

# Triton reads this when it is imported, which transformers does: it is set before any test module is.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
Ranks = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where kernels run: natively on the GPU, or on the CPU under Triton's interpreter."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    from triton.language import standard
    from triton.runtime.interpreter import InterpretedFunction

    assert isinstance(standard.sum, InterpretedFunction), "triton was imported before TRITON_INTERPRET was set"
    return torch.device("cpu")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real traces, tokenizers and weights that stands beside the project; skips where it is absent."""
    if not SHARED_DATA.is_dir():
        from skips import NO_REAL_DATA

        pytest.skip(NO_REAL_DATA)
    return SHARED_DATA


@pytest.fixture(scope="session")
def run_ranks() -> Ranks:
    """Return a function that runs a script under torchrun on `ranks` processes and gives the finished process."""

    def run(
        ranks: int, script: Path | str, *arguments: object, check: bool = True, interpret: bool = False
    ) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        if interpret and not torch.cuda.is_available():
            environment["TRITON_INTERPRET"] = "1"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
        done = subprocess.run(
            [*command, str(script), *map(str, arguments)],
            cwd=ROOT,
            env={**environment, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr[-4000:]
        return done

    return run


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    """Return a function that writes a tiny model folder: tokenizer with chat template, config and fp32 weights."""
    return _write_model


def _write_model(
    folder: Path,
    family: str = "qwen2",
    *,
    tied: bool = False,
    save_weights: bool = True,
    head_dim: int = 12,
    initializer_range: float = 0.2,  # confident logits, so that a wrong scale shows
) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    wrapped.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>"]})
    wrapped.chat_template = (
        "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    wrapped.save_pretrained(folder)
    config = AutoConfig.for_model(
        family,
        vocab_size=len(wrapped) + 5,  # embedding rows beyond the tokenizer's
        hidden_size=4 * head_dim,
        intermediate_size=80 * head_dim // 12,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=1024,
        tie_word_embeddings=tied,
        initializer_range=initializer_range,
        bos_token_id=None,
        eos_token_id=wrapped.eos_token_id,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:  # drawn too: at 0 and 1 no law would see a bias or a scale treated wrongly
            torch.nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.2)
    if save_weights:
        model.save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    return folder

"""Writing a world's model folder without weights: the tokenizer with its chat template, and config.json."""

from pathlib import Path

from alttrain.engine.thinking import MARKS
from alttrain.nano.config import Shape
from alttrain.nano.world import World

PAD, UNKNOWN, END, USER, ASSISTANT = "<pad>", "<unk>", "<end>", "<user>", "<assistant>"
SPECIAL = (PAD, UNKNOWN, END, USER, ASSISTANT, MARKS.open, MARKS.close)
# The template writes <think>, so that the trained tokens begin inside the reasoning.
TEMPLATE = (
    "{% for message in messages %}{{ '<' + message['role'] + '> ' + message['content'] + ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant> " + MARKS.open + "\n{% endif %}"
)


def write_model_folder(folder: Path, world: World, shape: Shape) -> None:
    """Write what AutoTokenizer and AutoConfig read; every word is a token, and ids do not depend on the seed."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    words = dict.fromkeys((*SPECIAL, *world.vocabulary))
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        padding_side="left",
    )
    wrapped.add_tokens([MARKS.open, MARKS.close])
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(folder)
    LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_heads,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=shape.initializer_range,
        bos_token_id=None,
        eos_token_id=wrapped.eos_token_id,
        pad_token_id=wrapped.pad_token_id,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(folder)

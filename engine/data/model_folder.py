"""Where a model lies: a folder, or one fetched from the hub by its id; and a chat template in place of its own."""

from pathlib import Path

from alttrain.engine.errors import ConfigError

HUB_FILES = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model", "*.txt")


def fetch_folder(name: str, flag: str, *, with_weights: bool = True) -> Path:
    """Return the folder of a model, after fetching it if `name` is a hub id.

    Args:
        name: the folder, or owner/name on the hub.
        flag: the setting that named it, for errors.
        with_weights: whether its safetensors are fetched too.

    Raises:
        ConfigError: there is no such folder and the hub does not have it or cannot be reached.
    """
    if Path(name).is_dir():
        return Path(name)
    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or name.startswith((".", "~")):
        raise ConfigError(f"{name}: no such folder. Give a model folder, or a hub id as owner/name.", flag=flag)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [pattern for pattern in HUB_FILES if with_weights or "safetensors" not in pattern]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ConfigError(
            f"{name}: no such folder here, and the hub gave {type(error).__name__}. "
            "Check the id and the network, or give a folder that holds the model.",
            flag=flag,
        ) from error


def read_template(file: str, flag: str) -> str:
    """Return the text of a Jinja file, without the mark that some editors put before UTF-8.

    Raises:
        ConfigError: it cannot be read; `flag` is the setting that named it.
    """
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read as UTF-8 text. Give a Jinja file.", flag=flag) from error

"""A model's folder is taken as it is, or fetched by its id; a template file is read without its byte order mark."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from alttrain.engine.data.model_folder import fetch_folder, read_template
from alttrain.engine.errors import ConfigError


def test_a_folder_is_not_fetched_and_an_id_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def download(id_: str, allow_patterns: Any) -> str:
        asked.append((id_, allow_patterns))
        return "there"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert fetch_folder(str(tmp_path), "--model.path") == tmp_path
    assert asked == []
    assert fetch_folder("owner/name", "MODEL") == Path("there")
    assert "*.safetensors" in asked[0][1]
    fetch_folder("owner/name", "MODEL", with_weights=False)
    assert "*.safetensors" not in asked[1][1]


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "./a", "~/a", "/a", "a/"])
def test_a_name_that_is_neither_is_refused(name: str) -> None:
    said = r"^MODEL .+: no such folder\. Give a model folder, or a hub id as owner/name\.$"
    with pytest.raises(ConfigError, match=said):
        fetch_folder(name, "MODEL")


def test_a_template_is_read_without_its_mark(tmp_path: Path) -> None:
    file = tmp_path / "t.jinja"
    file.write_text("{{ x }}", encoding="utf-8-sig")
    assert read_template(str(file), "--f") == "{{ x }}"
    file.write_bytes(b"\xff")
    for bad in (file, tmp_path / "none"):
        with pytest.raises(ConfigError, match=r"^--f .+: cannot be read as UTF-8 text\. Give a Jinja file\.$"):
            read_template(str(bad), "--f")

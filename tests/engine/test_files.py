"""Files that are written whole or line by line."""

from pathlib import Path

import pytest

from alttrain.engine.errors import ConfigError
from alttrain.engine.files import PARTIAL, append_line, read_lines, write_output, write_whole


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    assert read_lines(file) == []
    records = [{"step": 1, "loss": 0.5}, {"step": 2, "text": "two\nlines, and Ω"}]
    for record in records:
        append_line(file, record)
    assert read_lines(file) == records
    assert file.read_text(encoding="utf-8").count("\n") == 2


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.json"
    write_whole(file, "old")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            write_whole(file, "new")
    assert file.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir() if path != file] == [f"config.json{PARTIAL}"]
    write_whole(file, "newest")
    assert file.read_text(encoding="utf-8") == "newest"
    assert list(tmp_path.iterdir()) == [file], "what the interrupted write left is taken over, not kept"


def test_an_output_that_cannot_be_written_is_refused_with_its_flag(tmp_path: Path) -> None:
    write_output(tmp_path / "new" / "folder" / "rows.jsonl", "rows")
    assert (tmp_path / "new" / "folder" / "rows.jsonl").read_text(encoding="utf-8") == "rows"
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^--output .+rows\.jsonl: cannot be written \(.+\); name another place\.$"):
        write_output(tmp_path / "file" / "rows.jsonl", "rows")

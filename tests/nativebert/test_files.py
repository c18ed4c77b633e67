"""JSON files, atomic replacement, and checks of whole numbers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from nativebert.checks import at_least, is_integer, whole
from nativebert.errors import BadInputError, CorruptError
from nativebert.files import parse_json, read_json, replacing, update_json, write_json


def test_a_file_is_replaced_when_all_is_written_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    path.chmod(0o640)

    def fail_halfway() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == "old"
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    write_json(tmp_path / "new.json", {})
    assert (tmp_path / "new.json").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_link_is_replaced_and_not_the_shared_file_that_it_names(tmp_path: Path) -> None:
    shared, link = tmp_path / "shared", tmp_path / "config.json"
    shared.write_text('{"a": 1, "b": 2}')
    link.symlink_to(shared)
    update_json(link, {"b": "é"})
    assert shared.read_text() == '{"a": 1, "b": 2}'
    assert link.read_text("utf-8") == '{\n  "a": 1,\n  "b": "é"\n}\n'


def test_json_is_read_or_refused_by_the_name_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes("\ufeff[1]".encode())
    assert read_json(path, list) == [1]
    for data in (b"", b"{", b"\xff", b"[" * 10**5):
        with pytest.raises(CorruptError, match=rf"{path} is not JSON in UTF-8: .*Download it again"):
            parse_json(data, path)
    with pytest.raises(CorruptError, match=f"{path} contains a list instead of a JSON dict"):
        read_json(path)


def test_whole_numbers() -> None:
    for five in (5, 5.0, np.int8(5), np.float16(5), np.array(5), torch.tensor(5), torch.tensor(5.0)):
        assert whole(five) == at_least(5, "n", five) == 5
        assert type(whole(five)) is int
    for other in (5.5, float("nan"), float("inf"), True, np.bool_(True), "5", None, [5], np.array([5])):
        assert whole(other) is None
        with pytest.raises(BadInputError, match="n must be a whole number, 1 or more, not"):
            at_least(1, "n", other)
    with pytest.raises(BadInputError, match="n must be a whole number, 6 or more, or None, not 5"):
        at_least(6, "n", 5, ", or None")
    assert is_integer(0)
    assert not is_integer(0, 1)
    assert not is_integer(True)
    assert not is_integer(1.0)

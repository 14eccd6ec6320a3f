"""Files that survive."""

from __future__ import annotations

import errno
import os

import pytest

from tutelage import records
from tutelage.errors import RunError


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    records.write(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(RunError, match="no space left on device; free some space"):
        records.write(tmp_path / "a.txt", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    with records.whole_folder(tmp_path / "f") as new:
        (new / "x").write_text("1")
    with pytest.raises(ValueError), records.whole_folder(tmp_path / "f") as new:
        (new / "x").write_text("2")
        raise ValueError
    assert (tmp_path / "f" / "x").read_text() == "1" and [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_log_is_cut_back_to_its_mark(tmp_path):
    log = records.Log(tmp_path / "steps.jsonl")
    log.add({"step": 1})
    mark = log.mark()
    log.add({"step": 2})
    log.close()
    again = records.Log(tmp_path / "steps.jsonl", mark)
    again.add({"step": 3})
    again.close()
    assert [r["step"] for r in records.rows(tmp_path / "steps.jsonl")] == [1, 3]


def test_a_lock_is_freed_at_the_end_and_by_a_fault(tmp_path):
    with pytest.raises(ValueError), records.locked(tmp_path):
        raise ValueError
    with records.locked(tmp_path), pytest.raises(RunError, match=f"in use by process {os.getpid()}"), records.locked(tmp_path):
        pass


def test_digests_tell_content_and_order_apart():
    assert records.digest({"a": 1, "b": 2}) == records.digest({"b": 2, "a": 1})
    assert len({records.digest(b"ab", b"c"), records.digest(b"a", b"bc"), records.digest(["a", "b"]), records.digest(["b", "a"])}) == 4

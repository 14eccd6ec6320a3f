"""Every reader of text files gives the same sentence for the same fault, with file and line."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from tutelage import textfiles
from tutelage.answers.passages import Passages
from tutelage.cited import hagrid
from tutelage.coref import formats
from tutelage.engine import zero_shot
from tutelage.errors import DataError, TutelageError
from tutelage.robustness import reading, suites
from tutelage.tasks import _corpus, _glue, _squad, _tables

QUESTION = {"query_id": "q1", "query": "Where?", "quotes": [{"idx": 1, "docid": "d", "text": "TEXT"}], "answers": []}
ARTICLE = {"title": "t", "paragraphs": [{"context": "TEXT", "qas": [{"id": "1", "question": "q", "answers": [], "is_impossible": True}]}]}
TEST = {"name": "n", "type": "MFT", "capability": "c", "labels": None, "data": ["TEXT"]}


def suite(path: Path, **settings: str) -> suites.Suite:
    plain = {"name": "s", "path": str(path), "labels": {"a": "a"}}
    return suites.Suite(**{**plain, **settings})  # type: ignore[arg-type]


def lines_of(path: Path):
    folder = path.parent / f"{path.name}-parts"
    folder.mkdir()
    (folder / "text").write_bytes(path.read_bytes())
    (folder / "label").write_text("a\n")
    return reading.labelled(suite(folder, format="lines", text="text", label="label"))


GLUE = "index\tsentence\tlabel\n"
READERS = {
    # reader: ending, head, a row with the text TEXT, what reads it, whether it is JSON
    "csv": (".csv", "text,label\n", "TEXT,a\n", lambda p: _tables.read_table(p, None), False),
    "tsv": (".tsv", "text\tlabel\n", "TEXT\ta\n", lambda p: _tables.read_table(p, None), False),
    "json lines": (".jsonl", "", json.dumps({"text": "TEXT"}) + "\n", lambda p: _tables.read_table(p, None), True),
    "json": (".json", "", json.dumps([{"text": "TEXT"}]) + "\n", lambda p: _tables.read_table(p, None), True),
    "glue": (".tsv", GLUE, "0\tTEXT\t1\n", lambda p: _glue._read("sst2", _glue.TASKS["sst2"], p), False),
    "text": (".txt", "", "TEXT\n", lambda p: _corpus.documents(str(p)), False),
    "chats": (
        ".jsonl", "", json.dumps({"chat": [{"role": "assistant", "content": "TEXT"}]}) + "\n",
        lambda p: _corpus.chats(str(p), "chat"), True,
    ),
    "squad": (".json", "", json.dumps({"data": [ARTICLE]}) + "\n", _squad.read, True),
    "hagrid": (".jsonl", "", json.dumps(QUESTION) + "\n", hagrid.read, True),
    "passages": (".jsonl", "", json.dumps({"docid": "1", "text": "TEXT"}) + "\n", Passages, True),
    "coreference, json lines": (".jsonl", "", json.dumps({"tokens": ["TEXT"]}) + "\n", formats.read, True),
    "coreference, conll": (".conll", "#begin document (d);\n", "d\t0\t0\tTEXT\t-\n\n#end document\n", formats.read, False),
    "coreference, conllu": (".conllu", "# newdoc id = d\n", "1\tTEXT" + "\t_" * 8 + "\n\n", formats.read, False),
    "coreference, text": (".txt", "", "TEXT\n", formats.read, False),
    "questions": (".jsonl", "", json.dumps({"query": "TEXT", "choices": ["a", "b"], "gold": 0}) + "\n", zero_shot.read, True),
    "suite, json": (
        ".json", "", json.dumps({"test": [{"text": "TEXT", "label": "a"}]}) + "\n",
        lambda p: reading.labelled(suite(p, format="advglue", part="test")), True,
    ),
    "suite, lines": (".text", "", "TEXT\n", lines_of, False),
    "suite, tests": (".jsonl", "", json.dumps(TEST) + "\n", lambda p: reading.tests(suite(p, format="checklist")), True),
}  # fmt: skip
RUNNING = ("text", "coreference, text")
"""Readers of running text, which keep the ends of lines; the second splits words at every kind of white space."""
JSON = [name for name, reader in READERS.items() if reader[4]]


def refused(name: str, path: Path, content: bytes) -> str:
    path = path.with_suffix(READERS[name][0])
    path.write_bytes(content)
    with pytest.raises(DataError) as found:
        READERS[name][3](path)
    said = str(found.value)
    assert "\n" not in said and str(path.with_suffix("")) in said
    return said


def whole(name: str, text: str) -> str:
    return READERS[name][1] + READERS[name][2].replace("TEXT", text)


FAULTS = {
    "not UTF-8": (b"a\xffb", "is not UTF-8 (byte 0xff); save the text as UTF-8"),
    "half a character in UTF-8": (b"a\xed\xa0\x80b", "is not UTF-8 (byte 0xed); save the text as UTF-8"),
    "a NUL": (b"a\0b", "holds a NUL (U+0000), which is no text; take it out, or save the file as UTF-8"),
}
ESCAPED = {
    "half a character": (r"a\ud800b", r"\ud800 is half a character; write the other half behind it, or leave it out"),
    "the other half": (r"a\uDC00b", r"\udc00 is half a character; write the other half behind it, or leave it out"),
    "a NUL": (r"a\u0000b", "holds a NUL (U+0000), which is no text; take it out, or save the file as UTF-8"),
}
VALUES = {
    "deep": ("[" * 101 + "]" * 101, "brackets stand more than 100 deep within each other"),
    "too deep to parse": ("[" * 100_000, "brackets stand more than 100 deep within each other"),
    "objects": ('{"a":' * 101 + "1" + "}" * 101, "brackets stand more than 100 deep within each other"),
    "a huge number": ("9" * 5000, "holds a whole number of 5,000 digits; write it as text"),
    "a number beyond 64 bits": (str(1 << 63), "holds a whole number of 19 digits; write it as text"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_text_is_refused_by_every_reader_in_the_same_words(tmp_path, name, fault):
    found, said = FAULTS[fault]
    line = READERS[name][1].count("\n") + 1
    assert f", line {line}: {said}" in refused(name, tmp_path / "x", whole(name, "TEXT").encode().replace(b"TEXT", found))


@pytest.mark.parametrize("fault", ESCAPED)
@pytest.mark.parametrize("name", JSON)
def test_escapes_that_are_no_text_are_refused_by_every_reader_of_json(tmp_path, name, fault):
    found, said = ESCAPED[fault]
    assert said in refused(name, tmp_path / "x", whole(name, found).encode())


@pytest.mark.parametrize("fault", VALUES)
@pytest.mark.parametrize("name", JSON)
def test_deep_brackets_and_huge_numbers_are_refused_by_every_reader_of_json(tmp_path, name, fault):
    found, said = VALUES[fault]
    assert said in refused(name, tmp_path / "x", whole(name, "TEXT").replace('"TEXT"', found, 1).encode())


@pytest.mark.parametrize("name", READERS)
def test_a_mark_and_the_ends_of_lines_change_nothing_and_other_separators_are_text(tmp_path, name):
    ending, _, _, read, _ = READERS[name]

    def plain(text: bytes, folder: str) -> str:
        path = tmp_path / folder / f"x{ending}"
        path.parent.mkdir()
        path.write_bytes(text)
        made = read(path)
        shown = ascii(list(made) if isinstance(made, Passages) else made)
        return shown.replace(str(path.parent), "").replace("\\\\", "\\")

    first = whole(name, "one")
    assert plain(first.encode(), "a") == plain(b"\xef\xbb\xbf" + first.encode(), "b")
    if name not in RUNNING:
        assert plain(first.encode(), "c") == plain(first.replace("\n", "\r\n").encode(), "d")
    for mark in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029":
        text = f"a{mark}b"
        written = json.dumps(text, ensure_ascii=False)[1:-1] if READERS[name][4] else text
        found = plain(whole(name, written).encode(), str(ord(mark)))
        assert ascii(text)[1:-1] in found or json.dumps(text)[1:-1] in found or name == "coreference, text", mark


@pytest.mark.parametrize("name", [n for n in READERS if n != "suite, lines"])
def test_packed_text_is_text_and_a_damaged_or_boundless_one_is_refused(tmp_path, name, monkeypatch):
    ending, _, _, read, _ = READERS[name]
    packed = gzip.compress(whole(name, "one").encode())
    path = tmp_path / f"x{ending}.gz"
    path.write_bytes(packed)
    read(path)
    path.write_bytes(packed[:-9])
    with pytest.raises(DataError, match="is cut short or not gzip; fetch it again"):
        read(path)
    path.write_bytes(b"no gzip at all")
    with pytest.raises(DataError, match="is cut short or not gzip; fetch it again"):
        read(path)
    monkeypatch.setattr(textfiles, "UNPACKED", (1 << 20, 10))
    path.write_bytes(gzip.compress(b" " * (8 << 20)))
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to more than 1 MiB; unpack it yourself"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("name", [n for n in READERS if n != "suite, lines"])
def test_names_that_no_file_can_have_are_one_sentence(tmp_path, name):
    for odd in ("x" * 300, "a\0b", "none"):
        with pytest.raises(TutelageError) as found:
            READERS[name][3](tmp_path / f"{odd}{READERS[name][0]}")
        assert "\n" not in str(found.value)

"""Whatever stands in a file, a reader gives a value or one of the package's own errors, in bounded time."""

from __future__ import annotations

import io
import json
import random
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import yaml
from pyarrow import parquet
from test_text_files import READERS, whole

from tutelage import config, recipe, yamlfiles
from tutelage.answers.passages import Passages
from tutelage.engine import teacher
from tutelage.errors import TutelageError
from tutelage.models.plan import Plan
from tutelage.robustness import suites
from tutelage.study import plan as studies
from tutelage.tasks.classify import Classify
from tutelage.tasks.image import Image

TOKENS = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\r", b"\n", b"\r\n", b"\x85", b"\xe2\x80\xa8", b'"',
    b'""', b"'", b"\t", b",", b";", b"{", b"}", b"[", b"]", b"(", b")", b"|", b":", b"#", b"&a", b"*a", b"!!", b"<<", b"-", b"null", b"NaN",
    b"1e999", b"true", b"[" * 300, b'{"a":' * 300, b"(" * 300, b"9" * 5000, b"-1", b"99999999999999999999", b"x" * 200_000, b"2024-13-45",
    b"...", b"---",
)  # fmt: skip
VALUES = (
    None, True, False, 0, -1, 3, 1 << 62, 1 << 70, 1.5, float("nan"), float("inf"), "", "x", " ", "\0", "\ud800", [], {}, [None], [[]],
    {"a": 1}, [0, 1],
)  # fmt: skip
"""What may stand in the place of any value of JSON or of settings."""
SECONDS = 10.0
"""Of the process's own time, for one file."""


def harmed(content: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, taken out, doubled or put in."""
    made = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at, to = sorted(draw.randint(0, len(made)) for _ in range(2))
        match draw.randrange(6):
            case 0:
                made[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del made[at : min(to, at + 40)]
            case 2:
                made[at:at] = made[at:to]
            case 3:
                del made[at:]
            case _:
                made[at:at] = draw.choice(TOKENS)
    return bytes(made)


def other(tree: object, draw: random.Random) -> object:
    """A value of JSON with one of its values, or keys, put in the place of another or taken out."""
    places: list[tuple] = []
    ahead = [tree]
    while ahead:
        one = ahead.pop()
        inner = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else []
        places += [(one, key) for key in inner]
        ahead += [one[key] for key in inner]
    if not places:
        return draw.choice(VALUES)
    here, key = draw.choice(places)
    if draw.random() < 0.2:
        del here[key]
    elif isinstance(here, dict) and draw.random() < 0.1:
        here[draw.choice(("", "x", "kind", "text", "\ud800"))] = here.pop(key)
    else:
        here[key] = json.loads(json.dumps(draw.choice(VALUES)))
    return tree


def held(read, path: Path, content: bytes) -> None:
    """The outcome is a value or an error of the package, in bounded time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    begun = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = read(path)
            if isinstance(made, Passages):
                list(made)
    except TutelageError:
        pass
    except BaseException as fault:
        raise AssertionError(f"{type(fault).__name__}: {fault} for {content[:3000]!r}") from fault
    assert time.process_time() - begun < SECONDS, content[:3000]


def npz() -> bytes:
    made, draw = io.BytesIO(), np.random.default_rng(0)
    pixels = draw.integers(0, 256, (40, 4, 4), dtype=np.uint8)
    np.savez(made, x_train=pixels, y_train=np.arange(40) % 2, classes=np.array(["a", "b"]), x_test=pixels[:4], y_test=np.arange(4) % 2)
    return made.getvalue()


def npy() -> bytes:
    made = io.BytesIO()
    np.save(made, np.full((6, 2), 0.5))
    return made.getvalue()


def packed() -> bytes:
    made = io.BytesIO()
    columns = {
        "text": [f"text {i}" for i in range(30)], "label": [i % 2 for i in range(30)],
        "took": pyarrow.array(range(30), pyarrow.duration("ns")), "at": pyarrow.array(range(30), pyarrow.timestamp("us", "Nowhere/City")),
    }  # fmt: skip
    parquet.write_table(pyarrow.table(columns), made)
    return made.getvalue()


SUITE = {
    "kind": "out_of_domain", "summary": "s", "format": "table", "path": "a.csv", "labels": {"a": "1", "b": "0"}, "drop": ["2"], "limit": 9,
}  # fmt: skip
STUDY = {
    "base": "quickstart", "axes": {"method.temperature": [1, 2], "train.learning_rate": [1e-4, 2e-4]}, "seeds": [1, 2],
    "search": {"trials": 4, "sampler": "random"},
}  # fmt: skip
SETTINGS = {
    "recipe": ((Path(__file__).parent.parent / "recipes/quickstart.yaml").read_text(), recipe.load),
    "recipe of coreference": ((Path(__file__).parent.parent / "recipes/coref-ontogum.yaml").read_text(), recipe.load),
    "study": (yaml.safe_dump(STUDY), studies.load),
    "suite": (yaml.safe_dump(SUITE), lambda path: suites.find([str(path)])),
}
PLAN = {
    "format": 1, "shape": {"layers": 2, "heads": 2, "key_heads": 1}, "refit": None, "about": {},
    "attention": [{"kind": "own"}, {"kind": "echo", "source": 0, "heads": [1, 0]}],
}  # fmt: skip
CSV = b"text,label\n" + b"".join(b'"row %d, of",%s\n' % (i, (b"a", b"b")[i % 2]) for i in range(30))


def classify(path: Path):
    return config.build(Classify, {"data": str(path), "target": "labels" if path.stem.endswith("1") else "classes"}).load()


def probabilities(path: Path):
    return teacher.read_probabilities(str(path), ("a", "b"), 6, list(range(6)), "choice")


FILES = {
    **{n: (ending, whole(n, "some words").encode(), read, js) for n, (ending, _, _, read, js) in READERS.items() if n != "suite, lines"},
    "classify, csv": (".csv", CSV, classify, False),
    "classify, tsv": (".tsv", b"text\tlabel\n" + b'"a ""b"" c"\tx\nplain\ty\n' * 9, classify, False),
    "classify, json": (".json", json.dumps([{"text": f"text {i}", "label": i % 2} for i in range(30)]).encode(), classify, True),
    "classify, parquet": (".parquet", packed(), classify, False),
    "parquet": (".parquet", packed(), READERS["csv"][3], False),
    "images": (".npz", npz(), lambda path: config.build(Image, {"data": str(path)}).load(), False),
    "probabilities": (".npy", npy(), probabilities, False),
    "probabilities, csv": (".csv", b"a,b\n" + b"0.5,0.5\n" * 6, probabilities, False),
    "plan": (".json", json.dumps(PLAN).encode(), Plan.read, True),
}


def cases(content: bytes, is_json: bool, draw: random.Random) -> bytes:
    if not is_json or draw.random() < 0.4:
        return harmed(content, draw)
    made = json.loads(content)
    for _ in range(draw.randint(1, 2)):
        made = other(made, draw)
    return json.dumps(made, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass") + b"\n"


def fuzz_file(name: str, folder: Path, count: int, seed: int) -> None:
    ending, content, read, is_json = FILES[name]
    draw = random.Random(f"{name} {seed}")
    held(read, folder / f"x{ending}", content)
    for i in range(count):
        held(read, folder / f"x{i % 2}{ending}", cases(content, is_json, draw))


def fuzz_settings(name: str, folder: Path, count: int, seed: int) -> None:
    text, read = SETTINGS[name]
    held(read, folder / "x.yaml", text.encode())
    draw = random.Random(f"{name} {seed}")
    for _ in range(count):
        if draw.random() < 0.4:
            made = harmed(text.encode(), draw)
        else:
            tree = yamlfiles.parse(text, name)
            for _ in range(draw.randint(1, 2)):
                tree = other(tree, draw)
            made = yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")
        held(read, folder / "x.yaml", made)


@pytest.mark.parametrize("name", FILES)
def test_a_harmed_file_gives_a_value_or_a_sentence(tmp_path, name):
    fuzz_file(name, tmp_path, 12, seed=0)


@pytest.mark.parametrize("name", SETTINGS)
def test_harmed_settings_give_a_value_or_a_sentence(tmp_path, name):
    fuzz_settings(name, tmp_path, 12, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_many_harmed_files_give_a_value_or_a_sentence(tmp_path, name):
    fuzz_file(name, tmp_path, 300, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_many_harmed_settings_give_a_value_or_a_sentence(tmp_path, name):
    fuzz_settings(name, tmp_path, 300, seed=1)

"""Coreference by length of document, ours beside fastcoref's FCoref: documents a second, time of the heads, memory a word.

    python -m venv rival && rival/bin/pip install -c constraints.txt torch
    rival/bin/pip install fastcoref==2.1.6 transformers==4.57.6 datasets==4.4.2
    python benchmarks/coreference.py --rival rival/bin/python --documents ontogum/train.jsonl --rounds 3

Both have a BERT of --layers and --width with random weights, fused attention, float32, one thread, one tokenizer, and are given words.
Each keeps its own windows (ours overlap by a quarter, FCoref's do not), its head as published, and its share of proposals (0.3 a word
and 0.25 a token). A system is a process that lives through all rounds; a round asks each for each length, by turns. A document is words of
--documents in a row, or made-up ones; a call gets as many as make 5,000 words, one at least.

Random weights decide at random what is joined: our threshold is set, before the clock starts, so that about 40 % of the proposals of a
call's first document are in a cluster. Seconds are of a document: `processor` of the whole call, `encoder` the part of its wall time that
the encoder takes, `rest` all else, `head` our grid and merging alone. `MiB` is what a call with one document takes beyond what the process
holds before it (Linux alone); `bytes a word` is MiB by words, and `more` the same for the words that a length has over the one before.
Figures are medians over rounds; ratios are FCoref over ours within a round, median (lowest to highest), of processor time, as neighbours
disturb the wall clock.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from memory import peak

AT_ONCE = 5000
"""Words of a call."""
CLUSTERED = 0.4
"""Share of our proposals that are in a cluster."""


class Ours:
    """`tutelage.Coreference` around the encoder in `folder`."""

    def __init__(self, folder: Path):
        import torch

        from tutelage.config import build
        from tutelage.engine.machine import Machine
        from tutelage.engine.resolve import Coreference
        from tutelage.models.load import open_model
        from tutelage.tasks.coreference import Coreference as Task

        task, machine = build(Task, {"data": "-", "longest": 10**6}), Machine(1)
        machine.precision = lambda wanted: torch.float32  # type: ignore[method-assign]
        torch.manual_seed(0)
        loaded = open_model(str(folder), task.head(None), auto=task.auto)
        self.resolver = Coreference(loaded.model.eval(), loaded.tokenizer, task, machine)
        self.encoder = loaded.model.encoder

    def prepare(self, texts: list[list[str]]) -> Callable[[int], int]:
        """Sets the threshold; returns a call with so many of the documents, which gives the number of mentions in clusters."""
        from tutelage.coref import grid, linking
        from tutelage.coref.documents import Document

        sentences = [tuple(tuple(words[i : i + 20]) for i in range(0, len(words), 20)) for words in texts]
        documents = [Document(f"d{n}", one) for n, one in enumerate(sentences)]
        seen, batch = self.seen(documents[:1])
        [(f, _)] = self.resolver.task.factored(seen, batch)
        share = self.resolver.task.proposals
        spans = grid.proposals(f.mentions, share)
        some = spans[:: max(1, len(spans) // 500)]
        scores = linking.symmetric(f, some, some).flatten().sort().values
        low, high = int(0.9 * len(scores)), len(scores) - 1
        while high - low > len(scores) // 1000 + 1:
            middle = (low + high) // 2
            [found] = linking.at_thresholds(f, [float(scores[middle])], share=share)
            low, high = (middle, high) if len(found.mentions) > CLUSTERED * len(spans) else (low, middle)
        self.resolver.task = dataclasses.replace(self.resolver.task, threshold=float(scores[high]))
        return lambda many: sum(len(one.mentions) for one in self.resolver.predict(documents[:many]))

    def seen(self, documents: list[Any]) -> tuple[Any, Any]:
        """What the model shows of documents, and their batch."""
        import numpy as np
        import torch

        from tutelage.rows import Seen

        bare = np.full(len(documents), -1, dtype=np.int64)
        batch = self.resolver.task.rows_of(documents, self.resolver.tokenizer, bare).batch(list(range(len(documents))))
        with torch.no_grad():
            return Seen({"factors": self.resolver.model(**batch.inputs).factors}), batch

    def head(self, texts: list[list[str]]) -> float:
        """Seconds from the factors of tokens to the clusters."""
        from tutelage.coref.documents import Document

        seen, batch = self.seen([Document(f"d{n}", (tuple(words),)) for n, words in enumerate(texts)])
        begun = time.perf_counter()
        list(self.resolver.task.resolve(seen, batch))
        return time.perf_counter() - begun


class FCoref:
    """fastcoref's model around the encoder in `folder`."""

    def __init__(self, folder: Path):
        import logging

        import datasets
        import spacy
        import torch
        from fastcoref import FCoref as Model
        from fastcoref.coref_models.modeling_fcoref import FCorefModel
        from transformers import AutoConfig, AutoTokenizer

        datasets.disable_progress_bars()
        logging.disable(logging.INFO)
        config = AutoConfig.from_pretrained(folder, attn_implementation="eager")
        config.coref_head = {"max_span_length": 30, "top_lambda": 0.25, "ffnn_size": 1024, "dropout_prob": 0.3, "max_segment_len": 512}
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as place:
            FCorefModel(config).save_pretrained(place)
            AutoTokenizer.from_pretrained(folder).save_pretrained(place)
            self.model = Model(place, device="cpu", nlp=spacy.blank("en"), enable_progress_bar=False)
        self.encoder = self.model.model.base_model
        self.encoder.set_attn_implementation("sdpa")

    def prepare(self, texts: list[list[str]]) -> Callable[[int], int]:
        """A call with so many of the documents, which gives the number of mentions in clusters."""
        return lambda many: sum(len(c) for one in self.model.predict(texts[:many], is_split_into_words=True) for c in one.clusters)


SYSTEMS = {"ours": Ours, "fcoref": FCoref}


def worker(name: str, folder: Path, limit: float) -> None:
    """Answer orders, a line of JSON each, with a line each."""
    import torch

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 2**30),) * 2)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print is no answer
    system = SYSTEMS[name](folder)
    spent = [0.0, 0.0]  # seconds in the encoder, and when it was begun

    def begin(*_: Any) -> None:
        spent[1] = time.perf_counter()

    def end(*_: Any) -> None:
        spent[0] += time.perf_counter() - spent[1]

    system.encoder.register_forward_pre_hook(begin)
    system.encoder.register_forward_hook(end)
    system.prepare([["word"] * 50])(1)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(turn(system, json.loads(line), spent)), file=answers, flush=True)


def turn(system: Any, texts: list[list[str]], spent: list[float]) -> dict[str, Any]:
    """One call, timed, and the memory of another with one document."""
    try:
        call = system.prepare(texts)
        spent[0], begun, cpu = 0.0, time.perf_counter(), time.process_time()
        mentions = call(len(texts))
        found: dict[str, Any] = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu, "encoder": spent[0]}
        found |= {"mentions": mentions, "mib": peak(lambda: call(1))}
        return found | ({"head": system.head(texts)} if hasattr(system, "head") else {})
    except (MemoryError, RuntimeError) as fault:
        return {"failed": " ".join(str(fault).split())[:160] or "out of memory"}


@contextlib.contextmanager
def running(name: str, python: str, folder: Path, limit: float) -> Iterator[Callable[[Any], dict[str, Any]]]:
    """A system's process, as a function from texts to what was found."""
    words = [python, __file__, "--worker", name, str(folder), str(limit)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        out, back = process.stdin, process.stdout

        def ask(texts: Any = None) -> dict[str, Any]:
            if texts:
                out.write(json.dumps(texts) + "\n")
                out.flush()
            if not (line := back.readline()):
                raise SystemExit(f"{name}: its process ended with {process.wait()}; what it wrote stands above")
            return json.loads(line)

        ask()
        yield ask
        out.close()


def words_of(documents: Path | None, tokenizer: Any) -> list[str]:
    """The words of a file of documents in a row, or made-up ones."""
    if documents:
        from tutelage.coref import formats

        return [word for one in formats.read(documents) for word in one.words]
    known = [w for w in sorted(tokenizer.get_vocab()) if w.isalpha()]
    return random.Random(0).choices(known, [1 / n for n in range(1, 1 + len(known))], k=100_000)


def encoder(folder: Path, layers: int, width: int) -> Any:
    """Write a BERT with random weights and MiniLM's tokenizer, which is returned."""
    import torch
    from transformers import BertConfig, BertModel

    from tutelage.models.load import open_tokenizer

    torch.manual_seed(0)
    tokenizer = open_tokenizer("minilm")
    heads = {"num_attention_heads": width // 32, "intermediate_size": 4 * width}
    BertModel(BertConfig(vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=layers, **heads)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each round, length and system."""
    out: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        words = words_of(given.documents, encoder(Path(place), given.layers, given.width))
        pythons = {"ours": sys.executable} | ({"fcoref": given.rival} if given.rival else {})
        ask = {name: stack.enter_context(running(name, python, Path(place), given.limit)) for name, python in pythons.items()}
        for turn in range(given.rounds):
            for length in map(int, given.words.split(",")):
                many = max(1, AT_ONCE // length)
                start = random.Random(turn).randrange(len(words))
                row = (words * (2 + many * length // len(words)))[start : start + many * length]
                texts = [row[i : i + length] for i in range(0, len(row), length)]
                for name in list(ask)[:: 1 if turn % 2 else -1]:
                    out.append({"round": turn, "system": name, "words": length, "documents": many, **ask[name](texts)})
                    print(json.dumps(out[-1]), file=sys.stderr, flush=True)
    return out


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows in markdown."""
    titles = ["words", "system", "documents a second", "processor, s", "encoder, s", "rest, s", "head, s", "MiB", "bytes a word", "more"]
    lines = [f"| {' | '.join([*titles, 'ratio of processor time', 'of MiB'])} |", "|" + "---|" * (len(titles) + 2)]
    before: dict[str, tuple[int, float]] = {}
    for length, name in dict.fromkeys((r["words"], r["system"]) for r in rows):
        mine = {r["round"]: r for r in rows if (r["words"], r["system"]) == (length, name)}
        if failed := [r["failed"] for r in mine.values() if "failed" in r]:
            lines.append(f"| {length:,} | {name} | failed: {failed[0]} |" + " |" * (len(titles) - 1))
            continue
        figures = ("seconds", "cpu", "encoder", "mib", "head")
        middle = {k: median(r[k] for r in mine.values()) for k in figures if all(k in r for r in mine.values())}
        many = next(iter(mine.values()))["documents"]
        cells = [f"{length:,}", name, f"{many / middle['seconds']:.2f}", *(f"{middle[k] / many:.3f}" for k in ("cpu", "encoder"))]
        cells += [f"{(middle['seconds'] - middle['encoder']) / many:.3f}", f"{middle['head'] / many:.3f}" if "head" in middle else ""]
        cells += [f"{middle['mib']:.0f}", f"{middle['mib'] * 2**20 / length:,.0f}"]
        known = before.get(name)
        cells.append(f"{(middle['mib'] - known[1]) * 2**20 / (length - known[0]):,.0f}" if known else "")
        before[name] = (length, middle["mib"])
        others = {r["round"]: r for r in rows if (r["words"], r["system"]) == (length, "fcoref") and "failed" not in r}
        for what in ("cpu", "mib"):
            ratios = sorted(others[n][what] / r[what] for n, r in mine.items() if n in others and name == "ours" and r[what])
            cells.append(f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})" if ratios else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--words", default="500,1000,2000,5000,10000,20000", help="lengths of documents")
    parser.add_argument("--rival", help="the Python of an environment with fastcoref; none: ours alone")
    parser.add_argument("--documents", type=Path, help="a file of documents whose words are taken")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384, help="a multiple of 32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=8, help="GiB that a process may take")
    parser.add_argument("--json", type=Path, help="file for every figure")
    given = parser.parse_args()
    rows = measure(given)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(*table(rows), sep="\n")


if __name__ == "__main__":
    worker(sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])) if sys.argv[1:2] == ["--worker"] else main()

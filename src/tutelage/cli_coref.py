"""The verbs of coreference: `tutelage coref ...`."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import textfiles
from .errors import DataError
from .verbs import JSON, THREADS, Verbs

if TYPE_CHECKING:
    from .coref.documents import Document

_FILE = click.Path(path_type=Path)


@click.group(cls=Verbs, epilog="Example: tutelage coref predict story.txt --model runs/coref-ontogum/run/student")
def coref() -> None:
    """Coreference: which mentions of a text mean the same; find, score, convert and look at clusters."""


@coref.command(
    epilog="Example: tutelage coref predict story.txt --model runs/coref-ontogum/run/student   |   "
    "tutelage coref predict dev.conll --model M --out dev.html"
)
@click.argument("source", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--model", required=True, help="A student of the task coreference: its folder, or a name on the hub.")
@click.option("--out", type=_FILE, help="Where to: .jsonl, .conll, .conllu, or .html, a page to look at [JSON lines to the terminal].")
@click.option("--given", is_flag=True, help="Cluster the mentions that SOURCE has, and find none.")
@click.option("--singletons/--no-singletons", default=None, help="Whether mentions alone in their cluster are given [as in training].")
@click.option("--threshold", type=float, help="Mean score above which clusters are joined [as in training].")
@click.option("--longest", type=click.IntRange(1), help="Most words of a document; a longer one is refused [as in training].")
@THREADS
@JSON
def predict(
    source: Path,
    model: str,
    out: Path | None,
    given: bool,
    singletons: bool | None,
    threshold: float | None,
    longest: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Find the clusters of SOURCE, a raw text, JSON lines, CoNLL-2012 or CoNLL-U; - reads a raw text from standard input.

    Clusters come as words of the document and as exact characters of a raw text.
    """
    from .coref import formats, jsonlines
    from .coref.documents import of_text

    with _noted():
        raw = str(source) == "-"
        documents = [of_text("text", textfiles.decoded(sys.stdin.buffer.read(), "standard input"))] if raw else formats.read(source)
        if out:
            formats.writable(out, (".html", ".htm"))
        from .engine.resolve import Coreference

        changes = {"singletons": singletons, "threshold": threshold, "longest": longest}
        resolver = Coreference.from_pretrained(model, threads=threads, **{k: v for k, v in changes.items() if v is not None})
        found = [one.document for one in resolver.predict(documents, given=given)]
        if out:
            _write(found, out, source.name)
    facts = {
        "documents": len(found), "words": sum(len(one.words) for one in found), "mentions": sum(len(one.mentions) for one in found),
        "clusters": sum(len(one.clusters or ()) for one in found), "out": str(out) if out else None,
    }  # fmt: skip
    if out is None and not as_json:
        click.echo("".join(jsonlines.lines(found)), nl=False)
    elif as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(", ".join(f"{facts[what]:,} {what}" for what in ("documents", "words", "mentions", "clusters")) + f"\nfile     {out}")


@coref.command(epilog="Example: tutelage coref score dev.conll predicted.jsonl --singletons drop")
@click.argument("key", type=_FILE)
@click.argument("response", type=_FILE)
@click.option("--singletons", type=click.Choice(["keep", "drop"]), default="keep", show_default=True, help="Clusters of one mention.")
@click.option("--against", type=_FILE, help="Another response to KEY, for the difference with a paired interval.")
@JSON
def score(key: Path, response: Path, singletons: Any, against: Path | None, as_json: bool) -> None:
    """Score the clusters of RESPONSE by those of KEY: MUC, B3, CEAF, their CoNLL average, LEA, mentions, and links by distance.

    Files are JSON lines, CoNLL-2012 or CoNLL-U; documents are paired by name. Intervals draw documents.
    """
    from .coref import distances, formats, scores

    with _noted():
        true, said = formats.read(key), formats.read(response)
        other = formats.read(against) if against else None
        with _between(key, response):
            counts = scores.by_document(true, said, singletons)
        facts: dict[str, Any] = {"scores": scores.figures(counts) if len(true) > 1 else scores.corpus(true, said, singletons)}
        if len(true) > 1:
            facts["intervals"] = {metric: scores.bootstrap(counts, metric=metric) for metric in ("conll", *scores.METRICS)}
        facts["links"] = distances.links(true, said)
        if other:
            with _between(key, against):
                facts["difference"] = scores.bootstrap(counts, scores.by_document(true, other, singletons))
    if as_json:
        click.echo(json.dumps(facts))
        return
    from .report import table

    table.show_coref(facts)


@coref.command(epilog="Example: tutelage coref diagnose dev.conll --model runs/coref-ontogum/run/student")
@click.argument("key", type=_FILE)
@click.option("--model", required=True, help="A student of the task coreference: its folder, or a name on the hub.")
@THREADS
@JSON
def diagnose(key: Path, model: str, threads: int | None, as_json: bool) -> None:
    """Show where a model loses points on KEY: finding mentions, choosing the threshold, or linking.

    CoNLL F1 with the mentions that the model finds and with KEY's own, linked by merging, by best antecedents and without a fault.
    Thresholds are the best on KEY itself, so only the first line is a result.
    """
    from .coref import formats

    with _noted():
        documents = formats.read(key)
        from .engine.resolve import Coreference

        facts = Coreference.from_pretrained(model, threads=threads).diagnose(documents)
    if as_json:
        click.echo(json.dumps(facts))
        return
    from .report import table

    table.show_diagnosis(facts)


@coref.command(epilog="Example: tutelage coref convert dev.conll dev.jsonl   |   tutelage coref convert dev.conll dev.html")
@click.argument("source", type=_FILE)
@click.argument("out", type=_FILE)
@JSON
def convert(source: Path, out: Path, as_json: bool) -> None:
    """Write the documents of SOURCE to OUT, in the format of its ending: .jsonl, .conll, .conllu, or .html, a page to look at.

    SOURCE may be a raw text (.txt), which is split into sentences and words. What a format cannot hold is noted.
    """
    from .coref import formats

    with _noted():
        documents = formats.read(source)
        _write(documents, out, source.name)
    mentions = sum(len(one.mentions) for one in documents)
    facts = {"documents": len(documents), "words": sum(len(one.words) for one in documents), "mentions": mentions, "out": str(out)}
    counted = ", ".join(f"{facts[what]:,} {what}" for what in ("documents", "words", "mentions"))
    click.echo(json.dumps(facts) if as_json else f"{counted}\nfile     {out}")


def _write(documents: Sequence[Document], out: Path, title: str) -> None:
    """A page where the ending says so, else a file of documents."""
    from .coref import formats

    if out.suffix.lower() in (".html", ".htm"):
        from .report import coreference

        coreference.write(documents, out, title=title)
    else:
        formats.write(out, documents)


@contextlib.contextmanager
def _between(key: Path, response: Path | None) -> Iterator[None]:
    """Name both files in what cannot be scored."""
    try:
        yield
    except DataError as fault:
        raise DataError(f"{key} and {response}: {fault}") from None


@contextlib.contextmanager
def _noted() -> Iterator[None]:
    """Say what is warned of inside on standard error, a line each, once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for message in dict.fromkeys(str(one.message) for one in caught):
                click.echo(f"note: {message}", err=True)

"""The verbs of coreference: `tutelage coref ...`."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from .verbs import JSON, Verbs

_FILE = click.Path(path_type=Path)


@click.group(cls=Verbs, epilog="Example: tutelage coref score dev.conll predicted.jsonl")
def coref() -> None:
    """Coreference: which mentions of a text mean the same; score, convert and look at files of clusters."""


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
    counts = scores.by_document(true, said, singletons)
    facts: dict[str, Any] = {"scores": scores.figures(counts) if len(true) > 1 else scores.corpus(true, said, singletons)}
    if len(true) > 1:
        facts["intervals"] = {metric: scores.bootstrap(counts, metric=metric) for metric in ("conll", *scores.METRICS)}
    facts["links"] = distances.links(true, said)
    if other:
        facts["difference"] = scores.bootstrap(counts, scores.by_document(true, other, singletons))
    if as_json:
        click.echo(json.dumps(facts))
        return
    from .report import table

    table.show_coref(facts)


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
        if out.suffix.lower() in (".html", ".htm"):
            from .report import coreference

            coreference.write(documents, out, title=source.name)
        else:
            formats.write(out, documents)
    mentions = sum(len(one.mentions) for one in documents)
    facts = {"documents": len(documents), "words": sum(len(one.words) for one in documents), "mentions": mentions, "out": str(out)}
    counted = ", ".join(f"{facts[what]:,} {what}" for what in ("documents", "words", "mentions"))
    click.echo(json.dumps(facts) if as_json else f"{counted}\nfile     {out}")


@contextlib.contextmanager
def _noted() -> Iterator[None]:
    """Say what is warned of inside on standard error, a line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for one in caught:
                click.echo(f"note: {one.message}", err=True)

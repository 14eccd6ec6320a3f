"""The verbs of cited answers: `tutelage answers ...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from .errors import ConfigError
from .verbs import JSON, THREADS, TRUST, Verbs, plain

_STORE = click.option("--store", default="answers.db", show_default=True, help="A file of SQLite, or a URL of PostgreSQL.")
_SERVER = click.option("--server", help="URL of an OpenAI-compatible server; its key is read from OPENAI_API_KEY.")
_IN_CLEAR = click.option("--key-over-http", "in_clear", is_flag=True, help="Send that key to another machine without encryption too.")
_INDEX = click.option("--index", default="passages-index", show_default=True, help="The index's folder, or its URI in an object store.")
_STORAGE = click.option("--storage", multiple=True, metavar="KEY=VALUE", help="An option of the object store, such as endpoint; repeat it.")


@click.group(cls=Verbs, epilog="Example: tutelage answers collect questions.jsonl --model smollm2")
def answers() -> None:
    """Answers that cite their sources: find passages, collect answers, let people judge them, score and export."""


@answers.command(epilog="Example: tutelage answers index passages.jsonl")
@click.argument("passages", type=click.Path(path_type=Path))
@_INDEX
@_STORAGE
@click.option("--encoder", default="minilm", show_default=True, help="A Hugging Face encoder for search by meaning.")
@click.option("--skip-broken", is_flag=True, help="Leave broken passages out and go on; else nothing is read.")
@click.option("--prune", is_flag=True, help="Take out passages that PASSAGES no longer has; refused where it has none of the index's.")
@TRUST
@JSON
def index(passages: Path, index: str, storage: tuple[str, ...], encoder: str, skip_broken: bool, prune: bool, as_json: bool) -> None:
    """Index PASSAGES, JSON lines or Parquet with docid, title and text, or a folder of texts; passages that are there are replaced.

    Interrupted, the same command goes on.
    """
    from .answers.passages import Passages
    from .answers.retrieve import Index, Making
    from .engine.talk import Console, Talk

    many = Passages(passages, skip=skip_broken)
    for fault in many.faults:
        click.echo(f"left out: {fault}", err=True)
    if prune and many.faulty:
        raise ConfigError(f"--prune: would take out the {many.faulty:,} passages of {passages} that cannot be read; mend these first")
    talk = Talk() if as_json else Console()
    made = Index.build(index, many, Making(encoder=encoder), storage=_pairs(storage), talk=talk, prune=prune)
    facts = {"passages": len(made), "read": len(many), "left_out": many.faulty, "index": index}
    click.echo(json.dumps(facts) if as_json else f"{len(made):,} passages\nindex    {index}")


@answers.command(epilog='Example: tutelage answers ask "Where does the Arno rise?"')
@click.argument("question")
@_INDEX
@_STORAGE
@click.option("--model", default="smollm2", show_default=True, help="A model's name: in this process, or on --server.")
@_SERVER
@_IN_CLEAR
@click.option("--quotes", default=3, show_default=True, type=click.IntRange(1), help="Passages to answer from.")
@click.option("--prompt", default="short", show_default=True, help="short, long, or a version such as short-1.")
@click.option("--tokens", default=200, show_default=True, type=click.IntRange(1), help="Most tokens of the answer.")
@TRUST
@JSON
def ask(
    question: str,
    index: str,
    storage: tuple[str, ...],
    model: str,
    server: str | None,
    in_clear: bool,
    quotes: int,
    prompt: str,
    tokens: int,
    as_json: bool,
) -> None:
    """Answer QUESTION from the indexed passages, with the quotes beside the answer."""
    from .answers import ask as work
    from .answers import writers
    from .answers.retrieve import Index
    from .cited import prompts

    _with_server(server, in_clear)
    prompts.named(prompt)
    opened = Index.open(index, storage=_pairs(storage))
    writer: Any = writers.Server(model, server, in_clear=in_clear) if server else writers.Local(model)
    found = work.ask(opened, writer, question, k=quotes, prompt=prompt, tokens=tokens)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(found["answer"] + "\n")
    for number, quote in enumerate(found["quotes"], 1):
        mark = "cited" if quote["cited"] else "     "
        click.echo(f"[{number}] {mark}  {quote['title'] or quote['docid']}: {quote['text']}")
    if found["dangling"]:
        click.echo(f"cites what is not there: {', '.join(map(str, found['dangling']))}")


def _with_server(server: str | None, in_clear: bool) -> None:
    if in_clear and not server:
        raise ConfigError("--key-over-http: has no effect without --server; leave it out")


def _pairs(given: tuple[str, ...]) -> dict[str, str] | None:
    """KEY=VALUE words as a dictionary; None for none."""
    if bad := next((word for word in given if "=" not in word), None):
        raise ConfigError(f"--storage: '{bad}' is not written KEY=VALUE, such as endpoint=http://localhost:9000")
    return dict(word.split("=", 1) for word in given) or None


@answers.command(
    epilog="Example: tutelage answers collect questions.jsonl --model smollm2   |   "
    "tutelage answers collect questions.jsonl --model llama3 --server http://localhost:11434/v1"
)
@click.argument("questions", type=click.Path(path_type=Path))
@click.option("--model", default="smollm2", show_default=True, help="A model's name: in this process, or on --server.")
@_SERVER
@_IN_CLEAR
@click.option("--hosted", is_flag=True, help="Ask OpenAI's own service instead; the key is read from OPENAI_API_KEY.")
@_STORE
@click.option("--prompts", default="short,long", show_default=True, help="Prompts, by commas: short, long, or a version such as short-1.")
@click.option("--samples", default=1, show_default=True, type=click.IntRange(1), help="Answers for each prompt.")
@click.option("--temperature", default=0.0, show_default=True, type=click.FloatRange(0), help="Of the model; 0 is greedy.")
@click.option("--tokens", default=300, show_default=True, type=click.IntRange(1), help="Most tokens of an answer.")
@click.option("--concurrency", default=8, show_default=True, type=click.IntRange(1), help="Requests at a time.")
@click.option("--price", nargs=2, type=float, help="Prices of a million tokens read and written, for the ledger.")
@click.option("--index", help="Where questions without quotes find them: the index's folder, or its URI.")
@_STORAGE
@click.option("--quotes", default=3, show_default=True, type=click.IntRange(1), help="How many they get.")
@click.option("--skip-broken", is_flag=True, help="Leave broken lines out and go on; else nothing is read.")
@THREADS
@TRUST
@JSON
def collect(
    questions: Path, model: str, server: str | None, in_clear: bool, hosted: bool, store: str, prompts: str, samples: int,
    temperature: float, tokens: int, concurrency: int, price: tuple[float, float] | None, index: str | None, storage: tuple[str, ...],
    quotes: int, skip_broken: bool, threads: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Ask a model every question of QUESTIONS, JSON lines in HAGRID's form, and keep its answers with their citations.

    Run again, it asks only what has no answer yet.
    """
    from .answers import collect as work
    from .answers import writers
    from .answers.store import Store
    from .cited import hagrid
    from .engine.talk import Console, Talk

    if samples > 1 and not temperature:
        raise ConfigError("--samples: more than one answer of a greedy model are the same; give --temperature")
    if server and hosted:
        raise ConfigError("--hosted: has no effect beside --server; leave one out")
    _with_server(server, in_clear)
    if (server or hosted) and threads:
        raise ConfigError("--threads: has no effect on a server; leave it out")
    if not index and (storage or quotes != 3):
        raise ConfigError(f"--{'storage' if storage else 'quotes'}: has no effect without --index; leave it out")
    found, faults = hagrid.read(questions, skip=skip_broken)
    for fault in faults:
        click.echo(f"left out: {fault}", err=True)
    if index:
        from .answers.ask import quoted
        from .answers.retrieve import Index

        found = quoted(Index.open(index, storage=_pairs(storage)), found, quotes)
    if bare := next((q.query_id for q in found if not q.quotes), None):
        raise ConfigError(f"{questions}: question '{bare}' has no quotes to answer from; give each its quotes, or name an --index")
    kept = Store(store)
    work.add(kept, found)
    writer: Any = writers.Server(model, server, in_clear=in_clear) if server or hosted else writers.Local(model, threads=threads)
    prices = price or (None, None)
    plan = work.Plan(tuple(p.strip() for p in prompts.split(",")), samples, temperature, tokens, concurrency, *prices)
    facts = work.collect(kept, writer, plan, Talk() if as_json else Console())
    if as_json:
        click.echo(json.dumps(facts))
    else:
        click.echo(
            f"{facts['answers']} answers, {facts['failed']} failed, {facts['left']} left; {facts['uncited']} cite nothing, "
            f"{facts['dangling']} cite what is not there; {facts['tokens_in']:,} tokens read, {facts['tokens_out']:,} written"
            + (f", {facts['cost']:.4f} paid" if price else "")
        )
        click.echo(f"store    {kept.shown}")
    if facts["failed"]:
        ended = "the run ended early" if facts["stopped"] else "the same command asks again"
        raise ConfigError(f"{facts['failed']} requests failed, the last because {facts['fault']}; {ended}, and nothing is lost")


@answers.command(epilog="Example: tutelage answers person Ada --role admin   |   tutelage answers person Ada --change --role annotator")
@click.argument("name")
@click.option("--role", help="annotator, adjudicator or admin; annotator unless named.")
@click.option("--change", "changes", is_flag=True, help="Give an account that is there the --role.")
@click.option("--new-password", is_flag=True, help="Only set another password, which ends their sessions.")
@click.option("--close/--open", "closed", default=None, help="Close an account, or open it again; what they judged stays.")
@_STORE
def person(name: str, role: str | None, changes: bool, new_password: bool, closed: bool | None, store: str) -> None:
    """Make an account for NAME, who may then judge; the password is asked for, or read from a line of standard input."""
    from .answers import people
    from .answers.store import Store

    asked = {"--change": changes, "--new-password": new_password, "--close" if closed else "--open": closed is not None}
    first, *more = [option for option, given in asked.items() if given] or [""]
    if more:
        raise ConfigError(f"{more[0]}: is another change than {first}; make one after the other")
    if role and first not in ("", "--change"):
        raise ConfigError(f"--role: has no effect beside {first}; leave it out")
    if changes and not role:
        raise ConfigError("--change: gives an account another role; name it with --role")
    kept = Store(store, make=not first)
    if changes or closed is not None:
        people.change(kept, name, role=role, active=None if closed is None else not closed)
        click.echo(f"{name} is {role}" if role else f"the account of {name} is {'closed' if closed else 'open'}")
        return
    if sys.stdin.isatty():
        password = click.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if new_password:
        people.change_password(kept, name, password)
        click.echo(f"{name} has a new password")
        return
    role = role or "annotator"
    click.echo(f"{name} is {role}, and {people.add(kept, name, role, password)} in exports")


@answers.command(epilog="Example: tutelage answers annotate   |   tutelage answers annotate --store postgresql+psycopg://me@db/judged")
@_STORE
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others than loopback want TUTELAGE_SECRET.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--name", "names", multiple=True, help="Host name that the pages answer to, besides loopback's; repeat it.")
@click.option("--overlap", default=2, show_default=True, type=click.IntRange(1), help="People who judge each answer.")
@click.option("--minutes", default=30.0, show_default=True, type=click.FloatRange(0.1), help="How long someone has for an answer.")
@click.option("--suggest", metavar="JUDGE", help="Show a suggestion beside each part: lexical, by words.")
def annotate(store: str, host: str, port: int, names: tuple[str, ...], overlap: int, minutes: float, suggest: str | None) -> None:
    """Serve the pages where people judge the answers of a store; 'tutelage answers person' makes their accounts."""
    from .answers.web import serve

    serve.run(store, host=host, port=port, names=names, overlap=overlap, seconds=60 * minutes, suggest=suggest)


@answers.command(epilog="Example: tutelage answers agree --disagreements")
@click.option("--disagreements", is_flag=True, help="List what annotators differ on, who said what.")
@click.option("--days", default=7, show_default=True, type=click.IntRange(1), help="Days of a stretch of time.")
@_STORE
@JSON
def agree(disagreements: bool, days: int, store: str, as_json: bool) -> None:
    """How far the annotators agree: shares, kappas and Krippendorff's alpha with 95 % intervals, by criterion, annotator and time."""
    from .answers import agreement, outcomes
    from .answers.store import Store

    ratings = outcomes.ratings(Store(store, make=False))
    if not ratings:
        raise ConfigError(f"--store: {store} holds no judgements yet")
    each = {c: [r for r in ratings if r.criterion == c] for c in sorted({r.criterion for r in ratings})}
    facts: dict[str, Any] = {
        "criteria": agreement.by_criterion(ratings), "suggestions": agreement.by_suggestion(ratings),
        "pairs": {c: agreement.by_pair(own) for c, own in each.items()},
        "annotators": {c: agreement.by_rater(own) for c, own in each.items()},
        "time": {c: agreement.over_time(own, days) for c, own in each.items()}, "disagreements": agreement.disagreements(ratings),
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(plain(facts)))
        return
    if disagreements:
        for one in facts["disagreements"]:
            query, number, segment = one["unit"]
            where = f"question {query}, answer {number + 1}" + ("" if segment is None else f", segment {segment + 1}")
            said = ", ".join(f"{who} {_WORDS[value]}" for who, value in one["said"].items())
            click.echo(f"{where}: {one['criterion']}: {said}")
        return
    from .report import table

    table.show_agreement(facts)


_WORDS = {1: "yes", 0: "no", None: "cannot judge"}


@answers.command(epilog="Example: tutelage answers export judged/")
@click.argument("out", type=click.Path(path_type=Path))
@_STORE
@JSON
def export(out: Path, store: str, as_json: bool) -> None:
    """Write all questions with their labels into folder OUT: HAGRID's JSON lines, every judgement by pseudonym, and a data-set card."""
    from .answers import export as work
    from .answers.store import Store

    facts = work.write(Store(store, make=False), out)
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(f"{facts['questions']} questions, {facts['answers']} answers, {facts['judged']} of them judged by people\nfolder   {out}")


@answers.command(epilog="Example: tutelage answers score answers.jsonl --judge lexical --references judged/answers.jsonl")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--judge",
    default="lexical",
    show_default=True,
    help="What decides on support: lexical, none, or an NLI model by name or folder.",
)
@click.option("--references", type=click.Path(path_type=Path), help="Records with answers that people judged, for ROUGE-L and BLEU.")
@THREADS
@TRUST
@JSON
def score(file: Path, judge: str, references: Path | None, threads: int | None, as_json: bool) -> None:
    """Attribution of the answers in FILE, JSON lines in HAGRID's form: citation recall and precision, and nearness to references."""
    from .answers import lexical, scores
    from .cited import hagrid

    found, _ = hagrid.read(file)
    told = scores.references_of(hagrid.read(references)[0]) if references else None
    if threads and judge in ("lexical", "none"):
        raise ConfigError(f"--threads: has no effect with --judge {judge}; leave it out")
    decides: Any = None
    if judge == "lexical":
        decides = lexical.Lexical()
    elif judge != "none":
        decides = scores.Classifier(judge, threads=threads)
    facts = scores.score(found, decides, references=told)
    if as_json:
        click.echo(json.dumps(plain(facts)))
        return
    for name, row in facts["scores"].items():
        unit, times = ("", 1) if name == "words" else (" %", 100)
        value, low, high = (times * row[k] for k in ("value", "low", "high"))
        click.echo(
            f"{name:<22}{value:6.1f}{unit}  ({low:.1f} to {high:.1f})" if row["known"] else f"{name:<22}not defined: nothing is cited"
        )
    by = f"; support by {facts['judge']}, above {facts['threshold']}" if facts["judge"] else ""
    click.echo(f"answers: {facts['answers']}, questions: {facts['questions']}; 95 % intervals by question{by}")
    if (other := facts["other_brackets"])["answers"]:
        click.echo(f"note: {other['answers']} answers hold brackets such as {other['first']}, which are not read as citations", err=True)

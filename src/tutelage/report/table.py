"""The table of a run: plain rows for `--json`, the same rows as text for the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from . import words

Cell = tuple[str, str]
MATCH = 2
"""The column of `cells` on the match with the teacher."""


def rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a model, in the record's order, of plain numbers: score in natural units, ms, bytes, seconds.

    What was not measured is None. `split` is 'test', or 'dev' where the test split was not touched.
    """
    metric, part = words.primary(record), words.split(record)
    out = []
    for key, model in record["models"].items():
        score, training = words.score(record, model), model.get("training") or {}
        row = {"key": key, "model": model["title"], "role": model.get("role"), "metric": metric, "split": part}
        row |= {"score": score["value"]} | {k: score[k] for k in ("low", "high", "level")}
        row |= {k: ((model.get("fidelity") or {}).get(k) or {}).get("value") for k in words.FIDELITY}
        row |= {k: model.get(k) for k in ("parameters", "layers", "width", "bytes")}
        for batch in (1, 32):
            time = words.latency(model, batch)
            row |= {f"latency_{batch}_{k}": time.get(k) for k in ("median_ms", "low_ms", "high_ms")}
        out.append(row | {"training_seconds": training.get("seconds")})
    return out


def cells(many: Sequence[Mapping[str, Any]], narrow: bool = False) -> tuple[list[Cell], list[list[Cell]]]:
    """Heads and rows as text, each cell a (main, detail) pair; a column that no model fills is left out.

    So is, where it is to be `narrow`, the one on the match with the teacher.
    """
    if not many:
        return [], []
    level = next((f"{100 * r['level']:g} % interval" for r in many if r["level"]), "")
    heads: list[Cell] = [
        ("Model", ""),
        (f"{many[0]['split'].capitalize()} {words.metric_name(many[0]['metric'])}", level),
        _match_head(many),
        ("Parameters", "layers x width" if any(r["layers"] for r in many) else ""),
        ("Size on disk", ""),
        ("Latency, 1 row", "5th to 95th percentile"),
        ("Latency, 32 rows", "5th to 95th percentile"),
        ("Training", ""),
    ]
    body = [[(r["model"], ""), _score(r), _match(r), *_sizes(r), *_times(r), (words.seconds(r["training_seconds"]), "")] for r in many]
    keep = [i for i in range(len(heads)) if i < 2 or (any(line[i][0] != words.NONE for line in body) and not (narrow and i == MATCH))]
    return [heads[i] for i in keep], [[line[i] for i in keep] for line in body]


def show(many: Sequence[Mapping[str, Any]], file: TextIO | None = None) -> None:
    """Print a run's rows as a table to `file`, else to standard output."""
    grid(*cells(many, narrow=True), file=file)


def show_costs(sheets: Mapping[str, Mapping[str, Any]], file: TextIO | None = None) -> None:
    """Print the cost sheets of `tutelage cost`, one line a model."""
    one, inputs = next(iter(sheets.values())), list(dict.fromkeys(sheet["input"] for sheet in sheets.values()))
    heads: list[Cell] = [
        ("Model", ""), ("Parameters", "of them embeddings"), (f"FLOPs, {' or '.join(inputs)}", ""), ("Size on disk", ""),
        ("Latency, 1 row", f"5 % to 95 %; {one['threads']} threads, {one['precision']}"), ("Latency, 32 rows", ""),
    ]  # fmt: skip
    body = []
    for name, sheet in sheets.items():
        times = [_time(sheet["latency"][batch]) for batch in ("1", "32")]
        parameters = (words.count(sheet["parameters"]["total"]), words.count(sheet["parameters"]["embedding"]))
        body.append([(name, ""), parameters, (words.count(sheet["flops"]), ""), (words.size(sheet["disk_bytes"]), ""), *times])
    grid(heads, body, file=file)


def show_export(facts: Mapping[str, Any], out: Any, file: TextIO | None = None) -> None:
    """Print what `tutelage export` wrote, each file beside the model it came from."""
    heads: list[Cell] = [
        ("File", ""), ("Size", ""), ("Largest difference", "of logits on random rows"), ("Same predictions", ""),
        ("Latency, 1 row", f"5 % to 95 %; {facts['threads']} threads"), ("Latency, 32 rows", ""),
    ]  # fmt: skip
    body = [[("the model itself", ""), *[(words.NONE, "")] * 3, *[_time(facts["latency"]["model"][b]) for b in ("1", "32")]]]
    for name, found in facts["files"].items():
        agreement = words.NONE if found["agreement"] is None else f"{found['agreement']:.1%}"
        times = [_time(facts["latency"][name][b]) for b in ("1", "32")]
        body.append(
            [(f"{out}/{name}", ""), (words.size(found["bytes"]), ""), (f"{found['max_difference']:.1e}", ""), (agreement, ""), *times]
        )
    grid(heads, body, file=file)


def show_zero_shot(found: Mapping[str, Mapping[str, Any]], file: TextIO | None = None) -> None:
    """Print what `tutelage evaluate --tasks` found, an interval under each accuracy."""
    heads: list[Cell] = [("Task", ""), ("Questions", ""), ("Accuracy", "95 % interval"), ("Accuracy by length", "log-probability a byte")]
    body = []
    for name, facts in found.items():
        cells = [(words.NONE, "") if (f := facts.get(k)) is None else _share(f) for k in ("accuracy", "accuracy_by_length")]
        body.append([(name, ""), (f"{facts['questions']:,}", ""), *cells])
    grid(heads, body, file=file)


def _by_suggestion(facts: Mapping[str, Any], heads: list[Cell], file: TextIO | None) -> None:
    """Agreement of judgements that were made with and without a model's suggestion in sight."""
    body: list[list[Cell]] = []
    for name, kinds in facts.items():
        for kind, row in kinds.items():
            figures = [_spanned(row[k]) for k in ("raw", "alpha")]
            followed = _number(row["followed"]) if "followed" in row else words.NONE
            body.append([(f"{name}, {kind} it", ""), (f"{row['units']:,}", f"{row['overlapping']:,}"), *figures, (followed, "")])
    grid([("Suggestion", ""), *heads[1:4], ("Followed", "")], body, file=file)


def show_agreement(facts: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Print what `tutelage answers agree` found: criteria, annotators, pairs, and time."""
    heads: list[Cell] = [
        ("Criterion", ""),
        ("Units", "with overlap"),
        ("Agreement", "95 % interval"),
        ("Alpha", "95 % interval"),
        ("Fleiss", ""),
    ]
    body: list[list[Cell]] = []
    for name, row in facts["criteria"].items():
        figures = [_spanned(row[k]) for k in ("raw", "alpha")]
        body.append([(name, ""), (f"{row['units']:,}", f"{row['overlapping']:,}"), *figures, (_number(row["fleiss"]), "")])
    grid(heads, body, file=file)
    if facts["suggestions"]:
        _by_suggestion(facts["suggestions"], heads, file)
    body = []
    for name, people in facts["annotators"].items():
        for who, row in people.items():
            body.append(
                [(f"{who}, {name}", ""), (f"{row['ratings']:,}", ""), (_number(row["agree"]), ""), (_number(row["cannot_judge"]), "")]
            )
    grid([("Annotator", ""), ("Ratings", ""), ("Agree with others", ""), ("Cannot judge", "")], body, file=file)
    body = [
        [(f"{' and '.join(row['raters'])}, {name}", ""), (f"{row['units']:,}", ""), _spanned(row["raw"]), _spanned(row["kappa"])]
        for name, pairs in facts["pairs"].items()
        for row in pairs
    ]
    grid([("Pair", ""), ("Units", ""), ("Agreement", "95 % interval"), ("Cohen's kappa", "95 % interval")], body, file=file)
    body = [
        [(f"{name}, from {row['from']}", ""), (f"{row['units']:,}", ""), _spanned(row["raw"]), _spanned(row["alpha"])]
        for name, rows in facts["time"].items()
        for row in rows
    ]
    grid([("Time", ""), ("Units", ""), ("Agreement", "95 % interval"), ("Alpha", "95 % interval")], body, file=file)


COREF = {"muc": "MUC", "b3": "B3", "ceafe": "CEAFe", "ceafm": "CEAFm", "blanc": "BLANC", "lea": "LEA", "mentions": "Mentions"}


def show_coref(facts: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Print what `tutelage coref score` found: metrics, then links by distance."""
    found, intervals = facts["scores"], facts.get("intervals", {})

    def f1(metric: str, value: float) -> Cell:
        between = intervals.get(metric)
        return _percent(value), f"{_percent(between['low'])} to {_percent(between['high'])}" if between else ""

    heads: list[Cell] = [("Metric, in %", ""), ("Recall", ""), ("Precision", ""), ("F1", "95 % interval" if intervals else "")]
    body: list[list[Cell]] = [[("CoNLL", ""), (words.NONE, ""), (words.NONE, ""), f1("conll", found["conll_f1"])]]
    for metric, title in COREF.items():
        if row := found.get(metric):
            body.append([(title, ""), (_percent(row["recall"]), ""), (_percent(row["precision"]), ""), f1(metric, row["f1"])])
    grid(heads, body, file=file)
    heads = [("Words apart", ""), ("Links", ""), ("Recall", ""), ("Precision", ""), ("F1", "")]
    body = []
    for row in facts["links"]:
        name = f"{row['from']} and more" if row["to"] is None else f"{row['from']} to {row['to']}"
        shares = [(_percent(row[k]), "") for k in ("recall", "precision", "f1")]
        body.append([(name, ""), (f"{row['key']:,}", ""), *shares])
    grid(heads, body, file=file)
    if apart := facts.get("difference"):
        low, high = (f"{100 * apart[k]:+.1f}" for k in ("low", "high"))
        between = f" ({low} to {high})" if intervals else ""
        print(f"CoNLL F1 less the other response's: {100 * apart['value']:+.1f}{between}", file=file)
    print(f"singletons: {found['singletons']}; documents: {found['documents']:,}", file=file)


def show_diagnosis(facts: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Print what `tutelage coref diagnose` found, the model as it is first."""
    had = {"found": "found", "gold": "those of the key", "asked": "all that were asked about"}
    how = {"average": "merged by mean scores", "best": "best antecedents", "faultless": "without a fault"}
    body: list[list[Cell]] = []
    for n, row in enumerate(facts["rows"]):
        at = words.NONE if row["threshold"] is None else f"{row['threshold']:g}"
        name = "found, as it is" if not n else had[row["mentions"]]
        body.append([(name, ""), (how[row["linking"]], ""), (at, ""), (f"{_percent(row['conll_f1'])} %", "")])
    grid([("Mentions", ""), ("Linked", ""), ("Threshold", ""), ("CoNLL", "")], body, file=file)
    print(f"mentions that were asked about: {_percent(facts['recall'])} %", file=file)
    print(f"singletons: {facts['singletons']}; documents: {facts['documents']:,}", file=file)


def _percent(value: float | None) -> str:
    return words.NONE if value is None else f"{100 * value:.1f}"


def _spanned(row: Mapping[str, float]) -> Cell:
    """A figure over its interval."""
    return _number(row["value"]), f"{_number(row['low'])} to {_number(row['high'])}"


def _number(value: float) -> str:
    return f"{value:.2f}" if words.known(value) else words.NONE


def _share(found: Mapping[str, float]) -> Cell:
    return f"{found['value']:.1%}", f"{found['low']:.1%} to {found['high']:.1%}"


def _time(found: Mapping[str, Any]) -> Cell:
    middle, low, high = (words.milliseconds(found[f"{k}_ms"]) for k in ("median", "low", "high"))
    return middle, words.span(low, high).removesuffix(" ms")


def grid(heads: Sequence[Cell], body: Sequence[Sequence[Cell]], file: TextIO | None = None) -> None:
    """Print a table of text, the first column to the left and figures to the right, each over its detail.

    Text is never read as markup. Names wrap, figures never do: a terminal too narrow for them gets longer lines.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    details = list(dict.fromkeys(detail for _, detail in heads if detail))
    leading = 1 if any(detail for line in body for _, detail in line) else 0
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), leading=leading, show_edge=False, pad_edge=False)
    table.caption = f"second lines: {', '.join(details)}" if details else None
    for i, (head, _) in enumerate(heads):
        words_in = [part for line in body for part in line[i]] + head.split()
        if i:
            table.add_column(Text(head), justify="right", width=max(map(len, words_in)))
        else:
            table.add_column(Text(head), min_width=12)
    for line in body:
        table.add_row(*(Text("\n".join(part for part in cell if part)) for cell in line))
    console = Console(file=file)
    console.width = max(console.width, Console(width=10_000).measure(table).minimum)
    console.print(table)


def _score(row: Mapping[str, Any]) -> Cell:
    low, high = (words.value(row["metric"], row[k]) for k in ("low", "high"))
    return words.value(row["metric"], row["score"]), words.span(low, high).removesuffix(" %")


def _match_head(many: Sequence[Mapping[str, Any]]) -> Cell:
    if any(words.known(r["mse"]) for r in many):
        return "Apart from teacher", "mean squared difference"
    return "Same as teacher", "KL in nats" if any(words.known(r["kl"]) for r in many) else ""


def _match(row: Mapping[str, Any]) -> Cell:
    """The share of predictions that are the teacher's over the KL from it, or how far predicted numbers lie apart."""
    if words.known(row["mse"]):
        return f"{row['mse']:.4g}", ""
    return words.value("accuracy", row["agreement"]), f"KL {row['kl']:.3f}" if words.known(row["kl"]) else ""


def _sizes(row: Mapping[str, Any]) -> list[Cell]:
    shape = f"{row['layers']} x {row['width']}" if row["layers"] and row["width"] else ""
    return [(words.count(row["parameters"]), shape), (words.size(row["bytes"]), "")]


def _times(row: Mapping[str, Any]) -> list[Cell]:
    out = []
    for batch in (1, 32):
        out.append(_time({f"{k}_ms": row[f"latency_{batch}_{k}_ms"] for k in ("median", "low", "high")}))
    return out

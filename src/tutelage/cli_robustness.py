"""The verb `tutelage robustness`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .verbs import JSON, THREADS, TRUST


@click.command(
    epilog="Example: tutelage robustness runs/a/student runs/b/student --suite imdb --suite words   |   "
    "tutelage robustness S --suite hans=HANS/"
)
@click.argument("students", nargs=-1, required=True, metavar="STUDENT...")
@click.option("--suite", "asked", multiple=True, required=True, metavar="NAME[=PATH]", help="A suite, or a YAML file; see 'list suites'.")
@click.option("--set", "changes", multiple=True, metavar="SUITE.KEY=VALUE", help="A change of a suite's settings, such as imdb.limit=500.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for figures, page and attacks [runs/robustness-DIGEST].")
@TRUST
@THREADS
@JSON
def robustness(
    students: tuple[str, ...], asked: tuple[str, ...], changes: tuple[str, ...], out: Path | None, threads: int | None, as_json: bool
) -> None:
    """Try the models in folders STUDENT on other domains, benchmarks, behaviours and attacks, all in one table."""
    from .engine.talk import Console, Talk
    from .report import robustness as report
    from .robustness.work import compare

    found = compare(students, asked, changes, out=out, threads=threads, talk=Talk() if as_json else Console())
    if as_json:
        click.echo(json.dumps(found))
        return
    report.show(found)
    click.echo(f"report   {found['report']}")

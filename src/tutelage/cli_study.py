"""The verb of studies: `tutelage study`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .errors import ConfigError
from .verbs import JSON, plain


@click.command(epilog="Example: tutelage study labels-small --workers 2   |   tutelage study labels-small --report")
@click.argument("study")
@click.option("--storage", help="Where its cells are kept: a file of SQLite, or a URL of PostgreSQL [study.db in its folder].")
@click.option("--out", type=click.Path(path_type=Path), help="The study's folder [runs/NAME].")
@click.option("--store", type=click.Path(path_type=Path), help="What its runs share: teachers and signals [store in its folder].")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes to start on this machine.")
@click.option("--retry", is_flag=True, help="Run failed cells again.")
@click.option("--status", is_flag=True, help="Only say what is done, running, failed and missing.")
@click.option("--report", is_flag=True, help="Only write the report, report.html and cells.csv in the study's folder.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@JSON
def study(
    study: str, storage: str | None, out: Path | None, store: Path | None, workers: int, retry: bool, status: bool, report: bool,
    quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Run every cell of STUDY, a YAML file or a name that 'list studies' shows: a grid or a search of runs.

    The same command in several processes, or on several machines with one --storage, shares the work. Started again, it goes on.
    """
    from .study import plan as plans

    if (status or report) and (retry or workers > 1):
        raise ConfigError(f"--{'retry' if retry else 'workers'}: has no effect beside --status and --report; leave it out")
    plan = plans.load(study)
    folder = out or Path("runs") / plan.study.name
    from .study.cells import Cells

    cells = Cells(storage or folder / "study.db", plan, make=not (status or report))
    if not (status or report):
        from .study import work

        again = cells.again() if retry else 0
        place = store or folder / "store"
        work.run(cells, place, [study, "--storage", cells.url, "--store", str(place)], workers, quiet=quiet or as_json, again=again)
    facts = cells.status()
    if report:
        from .study import results

        facts |= results.write(cells, folder, facts)
    if as_json:
        click.echo(json.dumps(plain(facts)))
        return
    from .report import study as told

    told.show(facts, full=status)

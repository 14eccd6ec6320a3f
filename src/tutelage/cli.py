"""The verbs. Everything heavy is imported inside them, so that `--help` answers at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from . import __version__
from .cli_answers import answers
from .cli_coref import coref
from .cli_robustness import robustness
from .cli_study import study
from .errors import ConfigError
from .verbs import JSON, THREADS, TRUST, Verbs

_OVERRIDES = click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]}, epilog="Start with: tutelage distill quickstart")
@click.version_option(__version__, prog_name="tutelage")
def main() -> None:
    """Teach small models to do a big model's work, and prove how well they do it."""


@main.command(epilog="Example: tutelage distill recipes/quickstart.yaml method.temperature=4 seed=2")
@click.argument("recipe")
@_OVERRIDES
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder [runs/NAME-METHOD-SEED-DIGEST].")
@click.option("--store", type=click.Path(path_type=Path), help="What runs share: teachers, students, signals [store beside the run].")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@JSON
def distill(recipe: str, changes: tuple[str, ...], out: Path | None, store: Path | None, quiet: bool, as_json: bool) -> None:
    """Train the student of RECIPE, a YAML file or a name that 'list recipes' shows, and report.

    Interrupted, the same command goes on where it stopped.
    """
    from . import catalogue

    made = catalogue.load(recipe, changes)
    from .engine.distill import distill as carry_out
    from .engine.talk import Console, Talk
    from .report import table

    result = carry_out(made, out=out, store=store, talk=Talk() if quiet else Console())
    if as_json:
        click.echo(
            json.dumps(
                {"folder": str(result.folder), "student": str(result.student), "report": str(result.report), "record": result.record}
            )
        )
        return
    table.show(table.rows(result.record))
    click.echo(f"student  {result.student}\nreport   {result.report}")


@main.command(
    epilog="Example: tutelage evaluate runs/my-run/student data=reviews.csv   |   tutelage evaluate smollm2 --tasks questions.jsonl"
)
@click.argument("student")
@_OVERRIDES
@click.option("--split", help="Which part of the data [test; a data file is taken whole].")
@click.option("--examples", type=click.Path(path_type=Path), help="Write per-example results to this JSON-lines file.")
@click.option("--tasks", help="Zero-shot tasks instead, of lm-evaluation-harness or in JSON-lines files, by commas.")
@click.option("--limit", type=click.IntRange(1), help="First so many questions of each of --tasks.")
@TRUST
@JSON
def evaluate(
    student: str,
    changes: tuple[str, ...],
    split: str | None,
    examples: Path | None,
    tasks: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Score the model in folder STUDENT on its task, on another that KEY=VALUE settings of the task describe, or zero-shot."""
    if tasks:
        if changes or split or examples:
            raise ConfigError("--tasks: takes no settings of a task, no --split and no --examples; leave them out")
        return _zero_shot(student, tasks, limit, as_json)
    if limit:
        raise ConfigError("--limit: has no effect without --tasks; a task's own limits are settings, such as test_limit=100")
    from .engine.judge import evaluate as judge_it

    facts = judge_it(student, changes, split, examples)
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts["metrics"].items():
        click.echo(f"{name:<16}{value:.4f}")
    span = f"{facts['level']:.0%} interval of {facts['name']}: {facts['low']:.4f} to {facts['high']:.4f}"
    click.echo(f"{span} ({facts['method']}, {facts['rows']} rows of {facts['split']})")


def _zero_shot(model: str, tasks: str, limit: int | None, as_json: bool) -> None:
    from .engine.talk import Console, Talk
    from .engine.zero_shot import zero_shot

    found = zero_shot(model, tasks.split(","), limit=limit, talk=Talk() if as_json else Console())
    if as_json:
        click.echo(json.dumps(found))
        return
    from .report import table

    table.show_zero_shot(found)


@main.command(epilog="Example: tutelage export runs/my-run/student student-onnx --int8")
@click.argument("student", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--int8", is_flag=True, help="Also write a dynamically quantised int8 model.")
@TRUST
@JSON
def export(student: Path, out: Path, int8: bool, as_json: bool) -> None:
    """Write the model in folder STUDENT as ONNX to folder OUT, checked against the model and timed."""
    from .models.export import export as write_onnx

    facts = write_onnx(student, out, int8=int8)
    if as_json:
        click.echo(json.dumps(facts))
        return
    from .report import table

    table.show_export(facts, out)


@main.group(cls=Verbs)
def echo() -> None:
    """Language models whose layers share attention: which layers attend alike, and which should echo which."""


def _text_options(verb: Any) -> Any:
    for option in (
        TRUST,
        THREADS,
        click.option("--out", type=click.Path(path_type=Path), help="Folder for what was found [runs/echo-MODEL]."),
        click.option("--distance", type=click.IntRange(1, 12), help="How far back a source may stand [6]."),
        click.option("--tokens", type=click.IntRange(8), help="Tokens of a sample [512]."),
        click.option("--samples", type=click.IntRange(1), help="Samples to look at [8]."),
        click.option("--column", help="The text's column, where the text is a table [text]."),
        click.option("--data", help="A text file, a folder of them, a table, or imdb [imdb]."),
        click.argument("model"),
    ):
        verb = option(verb)
    return verb


@echo.command(epilog="Example: tutelage echo analyze smollm2 --data imdb")
@_text_options
@JSON
def analyze(
    model: str, data: str | None, column: str | None, samples: int | None, tokens: int | None, distance: int | None,
    out: Path | None, threads: int | None, as_json: bool,
) -> None:  # fmt: skip
    """How alike the layers of MODEL attend on real text: similarity by pairs of layers and heads, saved with a report."""
    from .echo import work
    from .engine.talk import Console, Talk

    look = work.Look(data, column, samples, tokens, distance)
    found = work.analyze(model, look, out=out, threads=threads, talk=Talk() if as_json else Console())
    _show_echo(found, as_json)


@echo.command(epilog="Example: tutelage echo plan smollm2 --share 0.4   |   tutelage echo plan smollm2 --layers 20:19,21:19")
@_text_options
@click.option("--share", type=float, help="Share of all layers that shall echo, such as 0.4.")
@click.option("--rule", help="dynamic, greedy (measures losses), paper, blocks, or drop [dynamic].")
@click.option("--layers", help="An explicit plan instead of a rule: ECHO:SOURCE,ECHO:SOURCE...")
@click.option("--block", type=int, help="Layers of a block, for rule blocks [2].")
@click.option("--head-maps/--no-head-maps", default=None, help="Whether heads may echo the heads that fit them best [as the rule does].")
@click.option("--trials", type=int, help="Plans that rule greedy measures at most [120].")
@click.option("--refit/--no-refit", default=True, help="Refit the echoes' output projections in closed form [refit].")
@click.option(
    "--held-out", default=6, show_default=True, type=click.IntRange(0), help="Samples that the plan's loss is measured on; 0 measures none."
)
@click.option("--rivals", is_flag=True, help="Measure other ways of making the model faster beside the plan: loss, speed, size.")
@click.option(
    "--analysis",
    type=click.Path(path_type=Path),
    help="Folder of an analysis to plan from [runs/echo-MODEL, made if missing or of another look].",
)
@JSON
def plan(
    model: str, data: str | None, column: str | None, samples: int | None, tokens: int | None, distance: int | None,
    out: Path | None, threads: int | None, share: float | None, rule: str | None, layers: str | None, block: int | None,
    head_maps: bool | None, trials: int | None, refit: bool,
    held_out: int, rivals: bool, analysis: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Choose which layers of MODEL echo which, predict what it saves, and measure the loss without training."""
    from .echo import work
    from .engine.talk import Console, Talk

    found = work.plan(
        model, work.Look(data, column, samples, tokens, distance), rule=rule, share=share, block=block, head_maps=head_maps,
        pairs=_pairs(layers) if layers else None, analysis=analysis, trials=trials, refit=refit,
        held_out=held_out, rivals=rivals, out=out, threads=threads, talk=Talk() if as_json else Console(),
    )  # fmt: skip
    _show_echo(found, as_json)


def _pairs(text: str) -> dict[int, int]:
    """`20:19,21:19` as echoing layer -> source."""
    try:
        return {int(a): int(b) for a, b in (pair.split(":") for pair in text.split(","))}
    except ValueError:
        raise ConfigError(f"--layers: '{text}' is not written ECHO:SOURCE,ECHO:SOURCE, such as 20:19,21:19") from None


def _show_echo(found: dict[str, Any], as_json: bool) -> None:
    from .echo import work
    from .report import echo as report

    if as_json:
        click.echo(json.dumps(work.plain(found)))
        return
    report.show(found)
    click.echo(report.verdict(found))
    if "file" in found:
        click.echo(f"plan     {found['file']}")
    click.echo(f"report   {found['report']}")


main.add_command(study)
main.add_command(answers)
main.add_command(coref)
main.add_command(robustness)


@main.command("list", epilog="Example: tutelage list methods")
@click.argument("kind", required=False)
@JSON
def list_parts(kind: str | None, as_json: bool) -> None:
    """Show the methods, tasks, surgeries, recipes and studies at hand, one line each; KIND shows only one of these."""
    from . import catalogue

    parts = catalogue.parts(kind)
    if as_json:
        click.echo(json.dumps(parts))
        return
    for title, many in parts.items():
        click.secho(title, bold=True)
        for name, line in many.items():
            click.echo(f"  {name:<16} {line}")


@main.command(epilog="Example: tutelage show recipes/quickstart.yaml train.epochs=5   |   tutelage show kd")
@click.argument("recipe")
@_OVERRIDES
@JSON
def show(recipe: str, changes: tuple[str, ...], as_json: bool) -> None:
    """Print RECIPE in full, every default filled in and checked; or the settings of a part, by its name.

    Trains nothing; a part that RECIPE names by a dotted path is imported, which runs its module's code.
    """
    from . import catalogue, config

    if not changes and (part := catalogue.settings_of(recipe)) and not Path(recipe).exists():
        click.echo(json.dumps(part) if as_json else catalogue.settings_text(part))
        return
    made = catalogue.load(recipe, changes)
    click.echo(json.dumps(config.dump(made)) if as_json else config.text(made), nl=as_json)


@main.command(epilog="Example: tutelage cost minilm runs/my-run/student")
@click.argument("models", nargs=-1, required=True)
@click.option("--tokens", default=32, show_default=True, help="Length of the rows that are timed.")
@THREADS
@TRUST
@JSON
def cost(models: tuple[str, ...], tokens: int, threads: int | None, as_json: bool) -> None:
    """Parameters, FLOPs, bytes and latency with spread of MODELS, names or folders; several are timed in turn."""
    from .engine.inspect import costs

    sheets = costs(models, tokens, threads)
    if as_json:
        click.echo(json.dumps(sheets))
        return
    from .report import table

    table.show_costs(sheets)


@main.command(epilog="Example: tutelage doctor")
@JSON
def doctor(as_json: bool) -> None:
    """Say what this machine has: versions, device, precision, extras, embedded model and data; and run one tiny training."""
    from .engine.inspect import examine

    found = examine()
    if as_json:
        click.echo(json.dumps(found))
    else:
        for line in found["checks"]:
            click.echo(f"{'ok  ' if line['ok'] else 'MISS'} {line['what']:<24}{line['found']}")
    sys.exit(0 if all(c["ok"] or c["optional"] for c in found["checks"]) else 2)

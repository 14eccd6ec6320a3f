"""What the verbs of all files share."""

from __future__ import annotations

import sys
from typing import Any

import click

from .errors import TutelageError

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
THREADS = click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads [one a core].")


def _trust(ctx: click.Context, option: click.Parameter, given: bool) -> None:
    if given:
        from .models.trust import trusting

        ctx.with_resource(trusting())


TRUST = click.option(
    "--trust-remote-code", is_flag=True, expose_value=False, callback=_trust, help="Run the code that a model's folder or page carries."
)


class Verbs(click.Group):
    """A user's fault is one sentence on standard error and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a terminal without some sign must not end a run that has done its work
        try:
            return super().invoke(ctx)
        except TutelageError as fault:
            click.echo(f"tutelage: {fault}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("tutelage: interrupted; the same command goes on from the last checkpoint", err=True)
            sys.exit(130)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def plain(found: Any) -> Any:
    """What was found as JSON has it: null for what is not defined."""
    if isinstance(found, dict):
        return {key: plain(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [plain(value) for value in found]
    return None if isinstance(found, float) and found != found else found

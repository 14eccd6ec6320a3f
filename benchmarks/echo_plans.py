"""What plans lose without training, rule by rule and share by share, with intervals over samples.

    python benchmarks/echo_plans.py --shares 0.2,0.3,0.4,0.5,0.6,0.77 --held-out 32

SmolLM2-135M on IMDB: `--samples` samples of `--tokens` tokens are analysed, and output projections refitted on them; losses are of the
`--held-out` samples after them, each rule's beside the paper's. The intervals draw samples, the same for both sides of a difference.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from echo_quality import interval

from tutelage.echo import rules
from tutelage.echo.analysis import analyse
from tutelage.echo.meter import Meter
from tutelage.echo.refit import refit
from tutelage.echo.samples import samples
from tutelage.models import echoes
from tutelage.models.load import open_model
from tutelage.models.plan import OWN, Entry
from tutelage.models.register import LANGUAGE
from tutelage.tasks import _corpus

WAYS: dict[str, dict[str, Any]] = {
    "paper": {"rule": "paper", "head_maps": False}, "paper, head maps": {"rule": "paper", "head_maps": True},
    "dynamic, no maps": {"rule": "dynamic", "head_maps": False}, "dynamic": {"rule": "dynamic", "head_maps": True},
}  # fmt: skip


def losses(model: Any, entries: Sequence[Entry], again: dict[int, torch.Tensor], held_out: torch.Tensor) -> dict[str, list[float]]:
    """Summed loss and predicted tokens of each sample."""
    student = echoes.convert(model, entries).eval().requires_grad_(False)
    echoes.put_projections(student, again)
    meters = [Meter(student, row[None], entries=entries) for row in held_out]
    return {"loss": [m.base * m.count for m in meters], "tokens": [m.count for m in meters]}


def told(mine: dict[str, list[float]], less: dict[str, list[float]] | None = None) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*interval([mine], [less] if less else None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--data", default="imdb")
    parser.add_argument("--shares", default="0.2,0.3,0.4,0.5,0.6,0.77")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--held-out", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="write every sample's losses to this file")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    loaded = open_model(given.model, {}, auto=LANGUAGE)
    entries: list[Entry] = [OWN] * loaded.model.config.num_hidden_layers
    model = echoes.convert(loaded.model, entries).eval().requires_grad_(False)
    many = samples(_corpus.documents(given.data, "text"), loaded.tokenizer, given.tokens, given.samples + given.held_out)
    seen, held_out = many[: given.samples], many[given.samples :]
    found = analyse(model, seen)
    each = {"unshared": losses(model, entries, {}, held_out)}
    print(f"unshared {told(each['unshared'])}", flush=True)
    for share in (float(x) for x in given.shares.split(",")):
        for name, way in WAYS.items():
            plan = rules.make(analysis=found, config=model.config, share=share, **way)
            for what, again in (("", {}), (", refitted", refit(model, plan, seen))):
                mine = each[f"{share:g} {name}{what}"] = losses(model, plan.attention, again, held_out)
                paper = each[f"{share:g} paper"]
                less = "" if mine is paper else f"  less paper {told(mine, paper)}"
                print(f"{share:g} {name}{what}: {told(mine)}{less}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(each))


if __name__ == "__main__":
    main()

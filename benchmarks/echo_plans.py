"""What plans lose without training, rule by rule and share by share, with intervals over samples.

    python benchmarks/echo_plans.py --shares 0.2,0.3,0.4,0.5,0.6,0.77 --held-out 32

SmolLM2-135M on IMDB: `--samples` samples of `--tokens` tokens are analysed, and output projections refitted on them; losses are of the
`--held-out` samples after them, each rule's beside the paper's. The intervals draw samples, the same for both sides of a difference.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutelage.echo import rules
from tutelage.echo.analysis import analyse
from tutelage.echo.meter import Meter
from tutelage.echo.refit import refit
from tutelage.echo.samples import samples
from tutelage.models import echoes
from tutelage.models.load import open_model
from tutelage.models.plan import OWN, Plan
from tutelage.models.register import LANGUAGE
from tutelage.tasks import _corpus

WAYS: dict[str, dict[str, Any]] = {
    "paper": {"rule": "paper", "head_maps": False}, "paper, head maps": {"rule": "paper", "head_maps": True},
    "dynamic, no maps": {"rule": "dynamic", "head_maps": False}, "dynamic": {"rule": "dynamic", "head_maps": True},
}  # fmt: skip
DRAWS = 10_000


def losses(model: Any, plan: Plan, again: dict[int, torch.Tensor], held_out: torch.Tensor) -> list[float]:
    """Of each sample, in nats a token."""
    student = echoes.convert(model, plan.attention).eval().requires_grad_(False)
    echoes.put_projections(student, again)
    return [Meter(student, row[None], entries=plan.attention).base for row in held_out]


def interval(each: np.ndarray) -> str:
    """The mean of (samples,) and its 95 % interval by bootstrap."""
    at = np.random.default_rng(0).integers(len(each), size=(DRAWS, len(each)))
    low, high = np.quantile(each[at].mean(1), [0.025, 0.975])
    return f"{each.mean():.3f} ({low:.3f} to {high:.3f})"


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
    model = echoes.convert(loaded.model, [OWN] * loaded.model.config.num_hidden_layers).eval().requires_grad_(False)
    many = samples(_corpus.documents(given.data, "text"), loaded.tokenizer, given.tokens, given.samples + given.held_out)
    seen, held_out = many[: given.samples], many[given.samples :]
    found = analyse(model, seen)
    base = Plan(tuple([OWN] * found.layers), model.config.num_attention_heads, model.config.num_key_value_heads, {})
    each = {"unshared": np.array(losses(model, base, {}, held_out))}
    print(f"unshared {interval(each['unshared'])}", flush=True)
    for share in (float(x) for x in given.shares.split(",")):
        for name, way in WAYS.items():
            plan = rules.make(way["rule"], found, model.config, share=share, head_maps=way["head_maps"])
            for what, again in (("", {}), (", refitted", refit(model, plan, seen))):
                mine = each[f"{share:g} {name}{what}"] = np.array(losses(model, plan, again, held_out))
                paper = each[f"{share:g} paper"]
                less = "" if mine is paper else f"  less paper {interval(mine - paper)}"
                print(f"{share:g} {name}{what}: {interval(mine)}{less}", flush=True)
    if given.json:
        given.json.write_text(json.dumps({name: list(values) for name, values in each.items()}))


if __name__ == "__main__":
    main()

"""The two verbs: analyse a model's attention on text, and make, price and measure a plan; both leave a folder with a report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from ..engine.machine import Machine
from ..engine.talk import Talk
from ..errors import ConfigError, ModelError
from ..models import echoes
from ..models.echo_attention import EchoForCausalLM
from ..models.load import Loaded, open_model, weights_digest
from ..models.plan import OWN, Plan, of_pairs
from ..models.register import LANGUAGE
from ..report import echo as report
from ..tasks import _corpus
from . import rivals, rules
from .analysis import Analysis, analyse
from .meter import Meter
from .price import price
from .refit import refit
from .samples import samples

REPORT, PLAN, PROJECTIONS = "report.html", "plan.json", "refit.safetensors"


@dataclasses.dataclass(frozen=True)
class Text:
    """Text to look at: what it is, and how many samples of how many tokens."""

    data: str = "imdb"
    column: str = "text"
    samples: int = 8
    tokens: int = 512


def folder_of(model: str) -> Path:
    """Where an analysis of a model lives unless told otherwise."""
    return Path("runs") / f"echo-{Path(model).name}"


def analyze(
    model: str, text: Text, *, distance: int = 6, out: Path | None = None, threads: int | None = None, talk: Talk | None = None
) -> dict[str, Any]:
    """Analyse a model by name or folder; returns what the report shows, with `folder` and `report`.

    Raises ModelError for families that cannot echo, ConfigError and DataError as `samples.samples` does.
    """
    return _Desk(model, text, threads, talk).analyse(distance, out or folder_of(model))


def plan(
    model: str,
    text: Text,
    *,
    rule: str = "dynamic",
    share: float | None = None,
    block: int = 2,
    head_maps: bool | None = None,
    pairs: dict[int, int] | None = None,
    analysis: Path | None = None,
    distance: int = 6,
    trials: int = 120,
    refit: bool = True,
    held_out: int = 6,
    rivals: bool = False,
    out: Path | None = None,
    threads: int | None = None,
    talk: Talk | None = None,
) -> dict[str, Any]:
    """Make a plan by a rule (`rules.make`), or of explicit `pairs` of echoing layer and source; price it and measure its loss.

    An analysis in the folder `analysis` (default: where `analyze` leaves it) is used where it is of these weights, else made.
    With `refit` the output projections of echoing layers are refitted to the samples of the analysis (`refit.refit`) and
    written beside the plan. The loss is measured on `held_out` samples that follow those of the analysis, 0 measures none; with
    `rivals` other ways of making the model faster are measured on them too (`rivals.compare`). The
    plan is written to `plan.json` in the folder `out` (default the analysis's). Raises as `analyze` and `rules.make` do.
    """
    if rivals and not held_out:
        raise ConfigError("--rivals: are measured on held-out samples; give --held-out")
    desk = _Desk(model, text, threads, talk)
    if pairs is None:
        rules.foresee(rule, share, block, desk.model.config, head_maps)
    else:
        if share is not None:
            raise ConfigError("share: has no effect beside explicit pairs; leave it out")
        of_pairs(pairs, desk.model.config)
    place = analysis or folder_of(model)
    found = desk.known(place, required=analysis is not None) or desk.analyse(distance, place)["analysis"]
    made = desk.plan(found, rule, share, block, head_maps, pairs, trials)
    return desk.finish(found, made, refit, held_out, rivals, out or place)


class _Desk:
    """One model with its text."""

    def __init__(self, name: str, text: Text, threads: int | None, talk: Talk | None):
        self.name, self.text, self.talk = name, text, talk or Talk()
        self.machine = Machine(threads)
        self.loaded: Loaded = open_model(name, {}, auto=LANGUAGE)
        config = self.loaded.model.config
        if any(a["kind"] != "own" for a in echoes.attention_of(config)):
            raise ModelError(f"{name}: some of its layers echo already; analyse the model that it was made from")
        self.weights = weights_digest(self.loaded.model)
        self.model: EchoForCausalLM = echoes.convert(self.loaded.model, [OWN] * config.num_hidden_layers)
        self.model.to(self.machine.device).eval().requires_grad_(False)
        self.texts = _corpus.documents(text.data, text.column)

    def samples(self, count: int, skip: int = 0) -> torch.Tensor:
        limit = self.model.config.max_position_embeddings
        return samples(self.texts, self.loaded.tokenizer, self.text.tokens, count, skip=skip, limit=limit)

    def analyse(self, distance: int, out: Path) -> dict[str, Any]:
        about = {"model": Path(self.name).name, "weights": self.weights, "data": Path(self.text.data).name, "column": self.text.column}
        many = self.samples(self.text.samples)
        with self.talk.task("attention", len(many)) as advance:
            found = analyse(self.model, many, distance=distance, about=about, advance=advance)
        found.write(out)
        shown = _shown(found)
        report.write(shown, out / REPORT)
        return {**shown, "analysis": found, "folder": out, "report": out / REPORT}

    def known(self, folder: Path, required: bool) -> Analysis | None:
        """The analysis in a folder if it is of these weights."""
        if not required and not (folder / "analysis.json").exists():
            return None
        found = Analysis.read(folder)
        if found.about.get("weights") != self.weights:
            if required:
                raise ConfigError(f"{folder}: is an analysis of other weights ({found.about.get('model')}); analyse this model")
            return None
        return found

    def plan(
        self, found: Analysis, rule: str, share: float | None, block: int, head_maps: bool | None, pairs: dict[int, int] | None, trials: int
    ) -> Plan:
        config = self.model.config
        if pairs is not None:
            about = {"rule": "explicit", "head_maps": head_maps is not False}
            return rules.with_heads(pairs, rules.Heads(found) if head_maps is not False else None, config, about)
        meter = Meter(self.model, self.samples(min(4, self.text.samples))) if rule == "greedy" else None
        with self.talk.task("plans measured", trials if meter else 1) as advance:
            return rules.make(
                rule, found, config, share=share, block=block, head_maps=head_maps, meter=meter, trials=trials, advance=advance
            )  # fmt: skip

    def finish(self, found: Analysis, made: Plan, again: bool, held_out: int, beside: bool, out: Path) -> dict[str, Any]:
        cost = price(self.model.config, made.attention, tokens=self.text.tokens)
        out.mkdir(parents=True, exist_ok=True)
        kept, projections = None, {}
        if again and made.echoes:
            with self.talk.task("layers refitted", made.layers) as advance:
                projections = refit(self.model, made, self.samples(found.about["samples"]), advance=advance)
            kept = echoes.save_projections(projections, out / PROJECTIONS, self.weights)
        loss = self._losses(found, made, projections, held_out) if held_out else None
        about = {"model": found.about["model"], "weights": self.weights, **made.about, "price": cost, "loss": loss}
        dataclasses.replace(made, about=about, refit=kept).write(out / PLAN)
        shown = _shown(found) | {"plan": list(made.attention), "price": cost, "loss": loss}
        if beside:
            many = self.samples(held_out, skip=found.about["samples"])
            with self.talk.task("rivals measured", rivals.number_of(made)) as advance:
                shown["rivals"] = rivals.compare(self.model, found, made, projections, many, advance=advance)
        report.write(shown, out / REPORT)
        return {**shown, "analysis": found, "folder": out, "report": out / REPORT, "file": out / PLAN}

    def _losses(self, found: Analysis, made: Plan, projections: dict[int, torch.Tensor], held_out: int) -> dict[str, Any]:
        """The loss unshared, by the plan, and with refitted projections, on samples that follow those of the analysis."""
        many = self.samples(held_out, skip=found.about["samples"])
        meter = Meter(self.model, many)
        out = {"base": meter.base, "plan": meter.loss(made.attention), "refit": None, "samples": held_out, "tokens": self.text.tokens}
        if projections:
            student = echoes.convert(self.model, made.attention).eval().requires_grad_(False)
            echoes.put_projections(student, projections)
            out["refit"] = Meter(student, many, entries=made.attention).base
        return out


def _shown(found: Analysis) -> dict[str, Any]:
    return {
        "about": {k: v for k, v in found.about.items() if k != "weights"} | {"weights": str(found.about.get("weights"))[:16]},
        "similarity": found.similarity, "scores": found.scores, "aligned": found.heads.max(2).mean(-1),
    }  # fmt: skip


def plain(found: dict[str, Any]) -> dict[str, Any]:
    """What a verb found as plain data for JSON."""
    out = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in found.items() if k not in ("analysis", "folder", "report", "file")}
    if "rivals" in out:
        out["rivals"] = [dataclasses.asdict(r) for r in out["rivals"]]
    return out | {k: str(found[k]) for k in ("folder", "report", "file") if k in found}

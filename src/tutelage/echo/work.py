"""The two verbs: analyse a model's attention on text, and make, price and measure a plan; both leave a folder with a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
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
DEFAULTS = {"data": "imdb", "column": "text", "samples": 8, "tokens": 512, "distance": 6}


@dataclasses.dataclass(frozen=True)
class Look:
    """What to look at: a text, so many samples of so many tokens of it, and layers at most `distance` apart.

    What is None is as the analysis at hand had it, else as DEFAULTS says.
    """

    data: str | None = None
    column: str | None = None
    samples: int | None = None
    tokens: int | None = None
    distance: int | None = None

    def whole(self, known: Mapping[str, Any] = DEFAULTS) -> dict[str, Any]:
        """Every setting, those that are None from facts of an analysis."""
        return {name: known[name] if value is None else value for name, value in dataclasses.asdict(self).items()}

    def strays(self, known: Mapping[str, Any]) -> list[str]:
        """The settings that an analysis had otherwise."""
        mine = dataclasses.asdict(self) | {"data": self.data and Path(self.data).name}
        return [name for name, value in mine.items() if value is not None and value != known[name]]


def folder_of(model: str) -> Path:
    """Where an analysis of a model lives unless told otherwise."""
    return Path("runs") / f"echo-{Path(model).name}"


def analyze(model: str, look: Look, *, out: Path | None = None, threads: int | None = None, talk: Talk | None = None) -> dict[str, Any]:
    """Analyse a model by name or folder; returns what the report shows, with `folder` and `report`.

    Raises ModelError for families that cannot echo, ConfigError and DataError as `samples.samples` does.
    """
    return _Desk(model, look.whole(), threads, talk).analyse(out or folder_of(model))


def plan(
    model: str,
    look: Look,
    *,
    rule: str | None = None,
    share: float | None = None,
    block: int | None = None,
    head_maps: bool | None = None,
    pairs: dict[int, int] | None = None,
    analysis: Path | None = None,
    trials: int | None = None,
    refit: bool = True,
    held_out: int = 6,
    rivals: bool = False,
    out: Path | None = None,
    threads: int | None = None,
    talk: Talk | None = None,
) -> dict[str, Any]:
    """Make a plan by a rule (`rules.make`, default dynamic), or of explicit `pairs` of echoing layer and source; price it and
    measure its loss.

    An analysis in the folder `analysis` is used. Without one, that where `analyze` leaves it is used if it is of these weights and
    had what `look` names, else a new one made there.
    With `refit` the output projections of echoing layers are refitted to the samples of the analysis (`refit.refit`) and
    written beside the plan. The loss is measured on `held_out` samples that follow those of the analysis, 0 measures none; with
    `rivals` other ways of making the model faster are measured on them too (`rivals.compare`). The
    plan is written to `plan.json` in the folder `out` (default the analysis's). Raises as `analyze` and `rules.make` do.
    """
    if rivals and not held_out:
        raise ConfigError("--rivals: are measured on held-out samples; give --held-out")
    asked: dict[str, Any] = {"share": share, "block": block, "trials": trials}
    for name, value in ({"rule": rule} | asked).items():
        if pairs is not None and value is not None:
            raise ConfigError(f"{name}: has no effect beside explicit pairs; leave it out")
    rule = rule or "dynamic"
    if pairs is None:
        rules.foresee(rule, **asked, head_maps=head_maps)
    place = analysis or folder_of(model)
    found, whole = _at_hand(place, look, required=analysis is not None)
    desk = _Desk(model, whole, threads, talk)
    if pairs is not None:
        of_pairs(pairs, desk.model.config)
    elif share is not None:
        rules.number_of(share, desk.model.config.num_hidden_layers)
    if found and found.about.get("weights") != desk.weights:
        if analysis:
            raise ConfigError(f"{place}: is an analysis of other weights ({found.about.get('model')}); analyse this model")
        found = None
    found = found or desk.analyse(place)["analysis"]
    made = desk.explicit(found, pairs, head_maps) if pairs is not None else desk.plan(found, rule, asked, head_maps)
    return desk.finish(found, made, refit, held_out, rivals, out or place)


def _at_hand(folder: Path, look: Look, required: bool) -> tuple[Analysis | None, dict[str, Any]]:
    """The analysis in a folder if it had what is named, and every setting of the look.

    Raises ConfigError where it is `required` and had not, and where its text is known by its name alone.
    """
    if not required and not (folder / "analysis.json").exists():
        return None, look.whole()
    found = Analysis.read(folder)
    strays = look.strays(found.about)
    if strays and required:
        raise ConfigError(f"{strays[0]}: the analysis in {folder} had {found.about[strays[0]]}; leave it out, or analyse anew")
    if strays:
        return None, look.whole()
    if look.data is None and not _corpus.comes_along(found.about["data"]):
        raise ConfigError(f"data: the analysis in {folder} looked at '{found.about['data']}'; name that text")
    return found, look.whole(found.about)


class _Desk:
    """One model with its text."""

    def __init__(self, name: str, look: dict[str, Any], threads: int | None, talk: Talk | None):
        self.name, self.look, self.talk = name, look, talk or Talk()
        found = _corpus.documents(look["data"], look["column"])
        self.texts = found.texts
        if found.note:
            self.talk.say(found.note)
        self.machine = Machine(threads)
        self.loaded: Loaded = open_model(name, {}, auto=LANGUAGE)
        config = self.loaded.model.config
        if any(a["kind"] != "own" for a in echoes.attention_of(config)):
            raise ModelError(f"{name}: some of its layers echo already; analyse the model that it was made from")
        self.weights = weights_digest(self.loaded.model)
        self.model: EchoForCausalLM = echoes.convert(self.loaded.model, [OWN] * config.num_hidden_layers)
        self.model.to(self.machine.device).eval().requires_grad_(False)

    def samples(self, count: int, skip: int = 0) -> torch.Tensor:
        limit = self.model.config.max_position_embeddings
        return samples(self.texts, self.loaded.tokenizer, self.look["tokens"], count, skip=skip, limit=limit)

    def analyse(self, out: Path) -> dict[str, Any]:
        data, column = Path(self.look["data"]).name, self.look["column"]
        about = {"model": Path(self.name).name, "weights": self.weights, "data": data, "column": column}
        many = self.samples(self.look["samples"])
        with self.talk.task("attention", len(many)) as advance:
            found = analyse(self.model, many, distance=self.look["distance"], about=about, advance=advance)
        found.write(out)
        shown = _shown(found)
        report.write(shown, out / REPORT)
        return {**shown, "analysis": found, "folder": out, "report": out / REPORT}

    def explicit(self, found: Analysis, pairs: dict[int, int], head_maps: bool | None) -> Plan:
        about = {"rule": "explicit", "head_maps": head_maps is not False}
        return rules.with_heads(pairs, rules.Heads(found) if head_maps is not False else None, self.model.config, about)

    def plan(self, found: Analysis, rule: str, asked: dict[str, Any], head_maps: bool | None) -> Plan:
        if rule != "greedy":
            return rules.make(rule, found, self.model.config, **asked, head_maps=head_maps)
        meter = Meter(self.model, self.samples(min(4, self.look["samples"])))
        with self.talk.task("plans measured", asked["trials"] or rules.TRIALS) as advance:
            return rules.make(rule, found, self.model.config, **asked, head_maps=head_maps, meter=meter, advance=advance)

    def finish(self, found: Analysis, made: Plan, again: bool, held_out: int, beside: bool, out: Path) -> dict[str, Any]:
        cost = price(self.model.config, made.attention, tokens=self.look["tokens"])
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
        out = {"base": meter.base, "plan": meter.loss(made.attention), "refit": None, "samples": held_out, "tokens": self.look["tokens"]}
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

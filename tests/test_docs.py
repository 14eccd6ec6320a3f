"""The documentation says what the code does: help texts, settings, recipes, commands, links and the example method.

`python tests/test_docs.py` writes the blocks of help texts and settings anew.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import re
import shlex
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tutelage import catalogue, config, find, recipe, yamlfiles
from tutelage.cli import main
from tutelage.engine.judge import of_task
from tutelage.study import plan

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
BLOCK = re.compile(r"(<!-- (help|settings): (\w+) -->\n)(.*?)(<!-- end -->)", re.S)
EXAMPLE = re.compile(r"<!-- example: (\w+) -->\n```python\n(.*?)```\n<!-- end -->", re.S)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fenced(language: str) -> list:
    """Every fenced block of a language, with the page it stands on."""
    found = [(p, text) for p in PAGES for text in re.findall(rf"^```{language}\n(.*?)^```", p.read_text(), re.S | re.M)]
    return [pytest.param(p, text, id=f"{name_of(p)}-{i}") for i, (p, text) in enumerate(found)]


def made(what: str, name: str) -> str:
    """What a marked block must hold."""
    return help_text(name) if what == "help" else settings_table(name)


def help_text(verb: str) -> str:
    words = ["--help"] if verb == "tutelage" else [*verb.split("_"), "--help"]
    said = CliRunner().invoke(main, words, prog_name="tutelage", terminal_width=80, max_content_width=80)
    assert said.exit_code == 0, said.output
    return f"```text\n{said.output.rstrip()}\n```\n"


def settings_table(name: str) -> str:
    kind = next((k for k in find.KINDS if name in find.names(k)), None)
    cls = find.find(kind, name) if kind else getattr(recipe, name, None) or getattr(plan, name)
    helped, rows = config.field_help(cls), []
    for field in dataclasses.fields(cls):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        cells = [f"`{field.name}`", shown(default), " ".join(helped[field.name].split())]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(["| setting | default | what it says |\n|---|---|---|\n", *rows]) if rows else "It has no settings.\n"


def shown(default) -> str:
    if default is dataclasses.MISSING:
        return "required"
    if isinstance(default, tuple | dict):
        return f"`{json.dumps(default)}`"
    if dataclasses.is_dataclass(default):
        return "all defaults"
    return "`" + config.text({"x": default}).removeprefix("x:").strip() + "`"


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


def test_help_texts_and_settings_in_the_docs_are_the_codes_own():
    stale = []
    for page in PAGES:
        for _, what, name, text, _ in BLOCK.findall(page.read_text()):
            if text != made(what, name):
                stale.append(f"{name_of(page)}: {what} {name}")
    assert not stale, f"python tests/test_docs.py writes them anew: {stale}"


def test_every_verb_and_every_settings_class_stands_in_the_docs():
    blocks = {(what, name) for page in PAGES for _, what, name, _, _ in BLOCK.findall(page.read_text())}
    inner = {f"{verb}_{name}" for verb, group in main.commands.items() for name in getattr(group, "commands", ())}
    assert {name for what, name in blocks if what == "help"} == {"tutelage", *main.commands, *inner}
    own = {c.__name__ for m in (recipe, plan) for c in vars(m).values() if inspect.isclass(c) and getattr(c, "is_part", False)}
    parts = {name for kind in find.KINDS for name in find.names(kind)}
    assert {name for what, name in blocks if what == "settings"} == own | parts


@pytest.mark.parametrize("name", [*(n for k in find.KINDS for n in find.names(k)), *main.commands])
def test_every_part_and_verb_has_a_page_or_a_heading(name):
    assert any(page.stem == name or name in slugs(page) for page in PAGES)


@pytest.mark.parametrize("name", find.names("methods"))
def test_every_method_has_a_page_that_the_list_links(name):
    assert f"(methods/{name}.md)" in (ROOT / "docs/methods.md").read_text()
    text = (ROOT / f"docs/methods/{name}.md").read_text()
    assert all(f"## {title}" in text for title in ("Formula", "Settings", "When to use it", "Source and departures"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    lost = []
    for target in re.findall(r"(?<!\\)\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in slugs(place)):
            lost.append(target)
    assert not lost


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_page_in_docs_is_on_the_map(page):
    if (ROOT / "docs") in page.parents and page.name != "index.md":
        assert f"({page.relative_to(ROOT / 'docs')})" in (ROOT / "docs/index.md").read_text()


@pytest.mark.parametrize(("page", "text"), [p for p in fenced("yaml") if p.values[1].startswith("# recipe")])
def test_every_recipe_in_the_docs_is_accepted(page, text):
    recipe.load(yamlfiles.parse(text, name_of(page)))


@pytest.mark.parametrize(("page", "text"), [p for p in fenced("yaml") if p.values[1].startswith("base:")])
def test_every_study_in_the_docs_is_accepted(page, text, tmp_path):
    (tmp_path / "study.yaml").write_text(text)
    assert plan.load(tmp_path / "study.yaml").cells


@pytest.mark.parametrize(("page", "text"), fenced("sh"))
def test_every_command_in_the_docs_is_accepted(page, text):
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if "tutelage" not in words:
            continue
        verb, *given = words[words.index("tutelage") + 1 :]
        values = main.commands[verb].make_context(verb, list(given)).params
        if verb == "evaluate":
            config.build(find.find("tasks", "classify"), config.override({}, map(of_task, values["changes"])))
        elif verb == "distill" or (verb == "show" and not catalogue.settings_of(values["recipe"])):
            recipe.load(catalogue.recipe_file(values["recipe"]), values["changes"])


@pytest.mark.parametrize(("page", "text"), fenced("python"))
def test_every_name_imported_in_the_docs_exists(page, text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "tutelage":
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")


def promises() -> dict:
    import test_every_method

    return {name: f for name, f in vars(test_every_method).items() if name.startswith("test_")}


@pytest.mark.parametrize("promise", promises())
def test_the_example_of_contributing_keeps_every_promise(promise, tmp_path, monkeypatch):
    import tutelage.methods

    [(name, code)] = EXAMPLE.findall((ROOT / "CONTRIBUTING.md").read_text())
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.setattr(tutelage.methods, "__path__", [*tutelage.methods.__path__, str(tmp_path)])
    given = {"name": f"tutelage.methods.{name}", "micro": 3, "steps": 10, "tmp_path": tmp_path, "monkeypatch": monkeypatch}
    check = promises()[promise]
    try:
        check(**{k: given[k] for k in inspect.signature(check).parameters})
        cls = find.find("methods", given["name"])
        assert set(config.field_help(cls)) == {f.name for f in dataclasses.fields(cls)}
        assert "\nSource: " in code and "\nDepartures: " in code
    finally:
        sys.modules.pop(given["name"], None)


if __name__ == "__main__":
    for page in PAGES:
        before = page.read_text()
        after = BLOCK.sub(lambda m: m[1] + made(m[2], m[3]) + m[5], before)
        if after != before:
            page.write_text(after)
            click.echo(name_of(page))

"""Imports point down, and what must be light stays light."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tutelage

ROOT = Path(tutelage.__file__).parent
LAYERS = [
    {"errors", "find", "config", "seeds", "records", "textfiles", "yamlfiles", "late", "splitting", "database"},
    {"rows", "losses", "slopes", "schedules", "cited", "coref"},
    {"methods", "tasks", "surgery", "models", "recipe"},
    {"report", "catalogue"},
    {"engine"},
    {"echo", "answers", "robustness", "study"},
    {"verbs", "spacy_pipe"},
    {"cli_answers", "cli_coref", "cli_robustness", "cli_study"},
    {"cli", "__init__", "__main__"},
]
INSIDE = {"methods": {"rows", "losses", "schedules"}, "tasks": {"rows", "losses"}, "surgery": {"models"}, "models": set(), "recipe": set()}
"""Within the third layer, parts know what is named here and no other kind."""


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


def imported(path: Path) -> list[tuple[str, int]]:
    here = path.relative_to(ROOT).parts
    out = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            up = here[: len(here) - node.level]
            parts = (*up, *((node.module or "").split(".") if node.module else ()))
            out += [(parts[0] if parts else alias.name, node.lineno) for alias in node.names]
    return [(name, line) for name, line in out if name != "__version__"]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    mine = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for name, line in imported(path):
        if name == mine or path.name == "__init__.py":
            continue
        assert layer(name) <= layer(mine), f"{mine} imports {name} above it, line {line}"
        if mine in INSIDE and layer(name) == layer(mine):
            assert name in INSIDE[mine], f"{mine} imports its neighbour {name}, line {line}"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["list"],
        ["show", "quickstart"],
        ["show", "kd"],
        *[[verb, "--help"] for verb in ("distill", "evaluate", "export", "list", "show", "cost", "doctor")],
        ["echo", "analyze", "--help"],
        ["echo", "plan", "--help"],
        ["study", "--help"],
        ["answers", "--help"],
        ["answers", "collect", "--help"],
        ["answers", "score", "--help"],
        ["coref", "score", "--help"],
        ["coref", "convert", "--help"],
        ["robustness", "--help"],
        ["list", "suites"],
    ],
    ids=" ".join,
)
def test_light_verbs_load_no_torch(words):
    code = (
        f"import sys\nfrom tutelage.cli import main\ntry:\n    main({words!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'transformers', 'pandas', 'sklearn', 'rich'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Example" in done.stdout or words[-1] != "--help" or len(words) == 1


def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise():
    code = "import sys, tutelage, os; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    for own, policy in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | own
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.split() == [policy, "False"]


def test_there_is_one_training_loop():
    users = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*.py") if ".backward()" in p.read_text()]
    assert users == ["engine/loop.py"]

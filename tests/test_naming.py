"""What names a training in the store: every setting, file and model that its weights depend on."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import sys
import textwrap
from typing import get_args, get_type_hints

import pytest
from toys import bert

from tutelage import config, find
from tutelage.engine import naming
from tutelage.models.load import model_digest
from tutelage.tasks._task import Task

OWN = '''
from tutelage.config import Positive, RowSetting, settings
from tutelage.tasks.classify import Classify
from lab import helpers

@settings
class Own(Classify):
    """A task with settings of its own."""

    sharpness: Positive = 1.0
    """Multiplies the label loss."""
    year: RowSetting[int] = 2020
    """Which rows are read."""

    def label_term(self, seen, batch, weight=1.0):
        return super().label_term(seen, batch, helpers.scaled(weight, self.sharpness))
'''


@pytest.fixture
def own_task(tmp_path, monkeypatch):
    """The name of a module with a task of a user's own, and the file of a helper that it imports."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "own.py").write_text(OWN)
    (tmp_path / "lab" / "helpers.py").write_text("def scaled(weight, by):\n    return weight * by\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "lab.own", tmp_path / "lab" / "helpers.py"
    for name in [n for n in sys.modules if n.partition(".")[0] == "lab"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def task_class(name, own_task):
    return find.find("tasks", own_task[0] if name == "own" else name)


def other_value(hint, value):
    """Another value that a field takes."""
    choices = [x for one in (hint, *get_args(hint)) for x in get_args(one) if isinstance(x, str)]
    for one in (*choices, 0.25, 24, not value, "other", ["a", "b"], [0.5, 0.5, 0.5], {"a": 2.0}, {"a": "b"}):
        try:
            made = config._adapter(hint).validate_json(json.dumps(one), strict=True)
        except ValueError:
            continue
        if made != value:
            return made
    raise AssertionError(f"no other value for {hint}")


@pytest.mark.parametrize("name", [*find.names("tasks"), "own"])
def test_every_setting_of_a_task_names_a_training_unless_it_selects_rows_only(name, own_task):
    cls = task_class(name, own_task)
    hints, task = get_type_hints(cls, include_extras=True), cls()
    for field in dataclasses.fields(cls):
        other = dataclasses.replace(task, **{field.name: other_value(hints[field.name], getattr(task, field.name))})
        same = naming.task_facts(other) == naming.task_facts(task)
        assert same == (field.name in config.row_settings(cls)), field.name
    assert name != "own" or ("year" in config.row_settings(cls) and "sharpness" not in config.row_settings(cls))


def reads(cls, name):
    """Attributes of `self` that a method or property of a class reads, in it and in the parents that it may call."""
    for parent in cls.__mro__:
        member = vars(parent).get(name)
        code = getattr(member, "fget", None) or getattr(member, "func", None) or member
        if inspect.isfunction(code):
            for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(code)))):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
                    yield node.attr


@pytest.mark.parametrize("name", [*find.names("tasks"), "own"])
def test_a_setting_that_selects_rows_is_read_by_nothing_but_the_reading_of_rows(name, own_task):
    cls = task_class(name, own_task)
    reading, named_by_value = {"load", "files", "settled"}, {"kind", "metrics", "primary"}
    waiting = [n for n in vars(Task) if not n.startswith("__") and n not in reading | named_by_value]
    seen: set[str] = set()
    while waiting:
        if (one := waiting.pop()) not in seen | named_by_value:
            seen.add(one)
            waiting += reads(cls, one)
    assert not seen & config.row_settings(cls)
    assert "encode" in seen and (name != "own" or "sharpness" in seen)


def test_metrics_that_follow_from_the_choice_of_data_name_a_training():
    cls = find.find("tasks", "classify")
    assert naming.task_facts(cls(data="mrpc")) != naming.task_facts(cls(data="mine.csv"))


def test_a_change_of_a_helper_that_a_task_of_ones_own_imports_names_another_training(own_task):
    name, helper = own_task
    files = {path.name for path in find.code_files(name)}
    assert {"own.py", "helpers.py", "classify.py", "_task.py", "losses.py"} <= files, "its own, its parent's and what these import"
    assert not files & {"functional.py", "config.py", "errors.py", "records.py"}, "neither packages nor what settles nothing"
    before = naming.code_digests(name)
    helper.write_text("def scaled(weight, by):\n    return weight * by * 2\n")
    naming.code_digests.cache_clear()
    assert naming.code_digests(name) != before


@pytest.mark.parametrize("name", find.names("methods"))
def test_the_code_of_a_method_is_its_file_its_contract_and_the_losses(name):
    files = {path.name for path in find.code_files(f"tutelage.methods.{name}")}
    assert {f"{name}.py", "_method.py", "losses.py", "seeds.py"} <= files and "loop.py" not in files


def test_a_model_with_equal_weights_and_another_dropout_is_another_start(tmp_path):
    one, other = bert(2, dropout=0.1), bert(2, dropout=0.3)
    other.load_state_dict(one.state_dict())
    assert model_digest(one) != model_digest(other)
    one.save_pretrained(tmp_path)
    assert model_digest(type(one).from_pretrained(tmp_path)) == model_digest(one), "as it is read again from its folder"

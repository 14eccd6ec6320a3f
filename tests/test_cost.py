"""Parameters, FLOPs, bytes and latency, against figures made by hand."""

from __future__ import annotations

import time

import pytest
import torch
import transformers
from torch import nn

from tutelage.errors import ConfigError, ModelError
from tutelage.models import anatomy, cost, resnet
from tutelage.report import table

LAYERS, HEADS, WIDTH, INNER, VOCABULARY, PLACES, LABELS = 2, 4, 32, 64, 99, 40, 3
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "max_position_embeddings": PLACES,
    "num_labels": LABELS,
}


@pytest.fixture
def bert():
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(transformers.BertConfig(**SHAPE))


@pytest.fixture
def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SHAPE, num_key_value_heads=2, pad_token_id=0)
    return transformers.LlamaForSequenceClassification(config)


class Slow(nn.Module):
    """A model whose forward pass takes a set time, and that remembers when it ran."""

    def __init__(self, name: str, seconds: float, diary: list[str]):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.name, self.seconds, self.diary = name, seconds, diary
        self.modes: set[bool] = set()

    def forward(self, x):
        self.diary.append(self.name)
        self.modes.add(self.training)
        time.sleep(self.seconds)


def nothing(model, rows):
    return {"x": torch.zeros(rows)}


def test_parameters_of_a_tiny_bert_are_those_counted_by_hand(bert):
    norm, tables = 2 * WIDTH, (VOCABULARY + PLACES + 2) * WIDTH
    layer = 4 * (WIDTH * WIDTH + WIDTH) + norm + WIDTH * INNER + INNER + INNER * WIDTH + WIDTH + norm
    other = norm + LAYERS * layer + WIDTH * WIDTH + WIDTH + WIDTH * LABELS + LABELS
    assert cost.parameters(bert) == {"total": tables + other, "embedding": tables, "other": other}
    assert cost.memory(bert) == 4 * (tables + other)
    assert cost.memory(bert.to(torch.bfloat16)) == 2 * (tables + other)


def test_tied_weights_count_once_and_as_embedding():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10, bias=False))
    model[1].weight = model[0].weight
    assert cost.parameters(model) == {"total": 40, "embedding": 40, "other": 0}
    assert cost.memory(model) == 160


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_flops_of_a_tiny_bert_are_those_counted_by_hand_whichever_attention_runs(bert, attention):
    rows, tokens = 3, 10
    bert.set_attn_implementation(attention)
    projections = 4 * 2 * rows * tokens * WIDTH * WIDTH
    scores_and_sum = 2 * 2 * rows * tokens * tokens * WIDTH
    feed_forward = 2 * 2 * rows * tokens * WIDTH * INNER
    head = 2 * rows * WIDTH * WIDTH + 2 * rows * WIDTH * LABELS
    want = LAYERS * (projections + scores_and_sum + feed_forward) + head
    assert cost.flops(bert, cost.random_inputs(bert, rows, tokens)) == want


def test_flops_of_a_tiny_llama_with_shared_keys_are_those_counted_by_hand(llama):
    rows, tokens = 2, 6
    keys_and_values = 2 * 2 * rows * tokens * WIDTH * (WIDTH // 2)
    queries_and_output = 2 * 2 * rows * tokens * WIDTH * WIDTH
    scores_and_sum = 2 * 2 * rows * tokens * tokens * WIDTH
    feed_forward = 3 * 2 * rows * tokens * WIDTH * INNER
    head = 2 * rows * tokens * WIDTH * LABELS
    want = LAYERS * (keys_and_values + queries_and_output + scores_and_sum + feed_forward) + head
    assert cost.flops(llama, cost.random_inputs(llama, rows, tokens)) == want


def test_flops_leaves_the_model_in_training_mode_where_it_found_it(bert):
    bert.train()
    bert.classifier.eval()
    cost.flops(bert, cost.random_inputs(bert, 1, 4))
    assert bert.training and bert.dropout.training and not bert.classifier.training


def test_size_on_disk_is_that_of_the_weight_files_alone(tmp_path, bert):
    bert.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 1000)
    (tmp_path / "optimizer.pt").write_bytes(b"x" * 1000)
    assert cost.size_on_disk(tmp_path) == (tmp_path / "model.safetensors").stat().st_size
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"x" * 7)
    assert cost.size_on_disk(tmp_path) == (tmp_path / "model-00001-of-00002.safetensors").stat().st_size + 7


def test_a_folder_without_weights_is_one_sentence(tmp_path):
    with pytest.raises(ModelError, match=r"holds no weights \(no \*\.safetensors, .*\); give the folder"):
        cost.size_on_disk(tmp_path)


def test_random_inputs_are_ordinary_tokens_of_the_models_vocabulary(bert):
    bert.config.pad_token_id, bert.config.eos_token_id = 0, 98

    class Tokenizer:
        all_special_ids = (0, 1, 2, 97)

    inputs = cost.random_inputs(bert, 50, 40, tokenizer=Tokenizer())
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (50, 40)
    assert set(inputs["input_ids"].unique().tolist()) == set(range(3, 97))
    assert inputs["attention_mask"].all()
    assert torch.equal(inputs["input_ids"], cost.random_inputs(bert, 50, 40, tokenizer=Tokenizer())["input_ids"])


def test_the_longest_text_fits_and_one_token_more_does_not(bert, llama):
    roberta = transformers.RobertaForSequenceClassification(transformers.RobertaConfig(**SHAPE, pad_token_id=1))
    assert [anatomy.positions(model.config) for model in (bert, llama, roberta)] == [40, 40, 38]
    for model in (bert, roberta):
        longest = anatomy.positions(model.config)
        model.eval()(**cost.random_inputs(model, 1, longest))
        with pytest.raises(ConfigError, match=f"tokens: {longest + 1} asked for; this model takes 1 to {longest}"):
            cost.random_inputs(model, 1, longest + 1)
    with pytest.raises(ConfigError, match="rows: 0 asked for; 1 or more"):
        cost.random_inputs(bert, 0, 4)


def test_a_model_without_a_vocabulary_is_one_sentence():
    with pytest.raises(ModelError, match="Linear: has no vocabulary"):
        cost.random_inputs(nn.Linear(2, 2), 1)


def test_latency_is_the_time_a_forward_pass_takes():
    diary: list[str] = []
    models = {"a": Slow("a", 0.002, diary), "b": Slow("b", 0.03, diary)}
    times = cost.latency(models, nothing, rows=(1, 4), repeats=5, seconds=1)
    assert set(times) == {"a", "b"} and set(times["a"]) == {"1", "4"}
    for name, least in (("a", 2), ("b", 30)):
        for rows in (1, 4):
            one = times[name][str(rows)]
            assert one["rows"] == rows and one["runs"] == 5
            assert least <= one["low_ms"] <= one["median_ms"] <= one["high_ms"]
            assert one["median_ms"] < 10 * least


def test_models_are_timed_by_turns_after_a_warm_up_and_in_eval_mode():
    diary: list[str] = []
    models = {"a": Slow("a", 0.021, diary), "b": Slow("b", 0.021, diary)}
    cost.latency(models, nothing, rows=(1,), repeats=4, seconds=10)
    assert "".join(diary) == "aaabbb" + "aab" + "b" + "ab" * 3
    assert all(m.modes == {False} and m.training for m in models.values())


def test_latency_keeps_to_its_time_though_a_model_is_slow():
    times = cost.latency({"a": Slow("a", 0.05, [])}, nothing, rows=(1,), repeats=1000, seconds=0.2)
    assert cost.LEAST <= times["a"]["1"]["runs"] <= 4
    diary: list[str] = []
    times = cost.latency({"a": Slow("a", 0.05, diary)}, nothing, rows=(1,), repeats=1000, seconds=0.01)
    assert times["a"]["1"]["runs"] == cost.LEAST and len(diary) == cost.LEAST + 2


def test_the_spread_is_the_5th_and_95th_percentile():
    spread = cost._spread([i / 1000 for i in range(101)])
    assert spread == pytest.approx({"median_ms": 50, "low_ms": 5, "high_ms": 95, "runs": 101})


def test_threads_are_those_asked_for_and_put_back(bert):
    before, seen = torch.get_num_threads(), []
    bert.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    cost.latency({"a": bert}, rows=(1,), repeats=2, seconds=0.1, threads=before + 1)
    assert set(seen) == {before + 1} and torch.get_num_threads() == before


def test_a_sheet_states_everything_a_reader_needs(bert):
    sheet = cost.sheet(bert, tokens=8, rows=(1, 2), repeats=3, seconds=0.1, threads=1)
    assert sheet["flops"] == cost.flops(bert, cost.random_inputs(bert, 1, 8))
    assert sheet["parameters"] == cost.parameters(bert) and sheet["bytes"] == 4 * sheet["parameters"]["total"]
    assert {k: sheet[k] for k in ("tokens", "dtype", "precision", "threads", "device")} == {
        "tokens": 8, "dtype": "float32", "precision": "float32", "threads": 1, "device": "cpu",
    }  # fmt: skip
    assert set(sheet["latency"]) == {"1", "2"}


def test_bfloat16_runs_under_autocast(bert):
    seen = []
    bert.classifier.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    cost.sheet(bert, tokens=4, rows=(1,), repeats=1, seconds=0.1, precision="bfloat16")
    assert set(seen[:2]) == {torch.float32} and set(seen[2:]) == {torch.bfloat16}


def test_sheets_of_several_models_draw_from_each_ones_own_vocabulary(bert):
    small = transformers.BertForSequenceClassification(transformers.BertConfig(**SHAPE | {"vocab_size": 5}))
    sheets = cost.sheets({"big": bert, "small": small}, tokens=4, rows=(1,), repeats=1, seconds=0.1)
    assert sheets["big"]["parameters"]["embedding"] - sheets["small"]["parameters"]["embedding"] == 94 * WIDTH


def test_a_network_for_images_is_measured_on_images_of_its_own_size(bert, capsys):
    model = resnet.ConvNetForImageClassification(resnet.named("plane2", num_channels=1, image_size=8))
    inputs = cost.random_inputs(model, 3)
    assert {k: tuple(v.shape) for k, v in inputs.items()} == {"pixel_values": (3, 1, 8, 8)}
    quick = {"rows": (1, 32), "repeats": 2, "seconds": 0.01, "threads": 1}
    made = {"net": cost.sheet(model, **quick), "bert": cost.sheet(bert, tokens=8, **quick)}
    assert (made["net"]["input"], made["net"]["tokens"]) == ("1 x 8 x 8 pixels", None)
    assert made["net"]["flops"] == 2 * (64 * 9 * 16 + 16 * 9 * 16 * 16 + 2 * 2 * 16 * 10)
    table.show_costs({k: v | {"disk_bytes": None} for k, v in made.items()})
    assert "pixels" in (told := capsys.readouterr().out) and "tokens" in told
    with pytest.raises(ConfigError, match="rows: 0 asked for; 1 or more"):
        cost.random_inputs(model, 0)

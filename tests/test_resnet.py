"""The convolutional networks: sizes by hand, another forward pass, and folders that load without Tutelage."""

from __future__ import annotations

from pathlib import Path

import parts
import pytest
import torch
import transformers
from torch.nn import functional

from tutelage.errors import ModelError
from tutelage.models import cost, resnet
from tutelage.models.load import IMAGES, open_bare, open_config, open_model
from tutelage.report import kinds
from tutelage.surgery.fresh import Fresh


def head(*labels: str, channels: int = 3, size: int = 32) -> dict:
    return {
        "num_labels": len(labels), "id2label": dict(enumerate(labels)), "label2id": {x: i for i, x in enumerate(labels)},
        "problem_type": "single_label_classification", "num_channels": channels, "image_size": size,
        "image_mean": [0.5] * channels, "image_std": [0.25] * channels,
    }  # fmt: skip


def opened(name, *labels: str, seed: int = 0, **shape):
    torch.manual_seed(seed)
    return open_model(str(name), head(*labels, **shape), auto=IMAGES, labels=labels, text=False)


def by_hand(n: int, labels: int = 10) -> int:
    """Weights of a CIFAR ResNet of depth 6n+2: 3x3 convolutions without bias, two numbers a channel for each normalisation."""
    total = 9 * 3 * 16 + 2 * 16
    for before, width in ((16, 16), (16, 32), (32, 64)):
        total += 9 * before * width + 9 * width * width + 4 * width + (n - 1) * (18 * width * width + 4 * width)
        total += before * width + 2 * width if before != width else 0
    return total + 64 * labels + labels


@pytest.mark.parametrize(
    ("name", "n", "known"), [("resnet8", 1, 78042), ("resnet14", 2, 175258), ("resnet20", 3, 272474), ("resnet110", 18, 1730714)]
)
def test_parameters_of_the_resnets_are_those_counted_by_hand(name, n, known):
    model = resnet.ConvNetForImageClassification(resnet.named(name))
    assert cost.parameters(model)["total"] == by_hand(n) == known
    assert model.config.num_hidden_layers == int(name.removeprefix("resnet")) and model.config.hidden_size == 64


def test_the_sizes_in_the_docs_are_the_networks_own():
    text = (Path(__file__).parents[1] / "docs" / "howto" / "images.md").read_text()
    lines = [line.split("|") for line in text.splitlines() if line.startswith(("| `resnet", "| `plane"))]
    told = {n: int(x.replace(",", "")) for line in lines for n, x in zip(line[1].replace("`", "").split(), line[3].split(";"), strict=True)}
    assert told == {n: cost.parameters(resnet.ConvNetForImageClassification(resnet.named(n)))["total"] for n in resnet.NAMES}


def test_flops_of_resnet8_on_32_x_32_pixels_are_those_counted_by_hand():
    first = 32 * 32 * 9 * (3 * 16 + 2 * 16 * 16)
    second = 16 * 16 * (9 * (16 * 32 + 32 * 32) + 16 * 32)
    third = 8 * 8 * (9 * (32 * 64 + 64 * 64) + 32 * 64)
    model = resnet.ConvNetForImageClassification(resnet.named("resnet8"))
    assert cost.flops(model, cost.random_inputs(model, 1)) == 2 * (first + second + third + 64 * 10)


@pytest.mark.parametrize(("labels", "widths", "hidden"), [(10, (32, 64, 128, 256), 128), (100, (32, 64, 128, 256), 512)])
def test_parameters_of_plane10_are_those_counted_by_hand(labels, widths, hidden):
    total, before = 0, 3
    for width, count in zip(widths, (2, 2, 2, 4), strict=True):
        for _ in range(count):
            total, before = total + 9 * before * width + 2 * width, width
    total += 2 * 2 * 256 * hidden + hidden + hidden * labels + labels
    assert cost.parameters(resnet.ConvNetForImageClassification(resnet.named("plane10", num_labels=labels)))["total"] == total


def test_plane2_is_wider_for_more_than_ten_labels():
    small, wide = (resnet.ConvNetForImageClassification(resnet.named("plane2", num_labels=n)) for n in (10, 100))
    assert cost.parameters(small)["total"] == 9 * 16 * (3 + 16) + 4 * 16 + 8 * 8 * 16 * 10 + 10
    assert cost.parameters(wide)["total"] == 9 * 32 * (3 + 32) + 4 * 32 + 8 * 8 * 32 * 100 + 100


def test_a_resnet_computes_what_another_writing_of_it_computes():
    torch.manual_seed(1)
    model = resnet.ConvNetForImageClassification(resnet.named("resnet20", num_channels=1)).train()
    for _ in range(3):
        model(torch.randn(16, 1, 16, 16))
    state, x = model.eval().state_dict(), torch.randn(5, 1, 16, 16)

    def layer(x, convolution, norm, stride=1):
        x = functional.conv2d(x, state[f"{convolution}.weight"], stride=stride, padding=state[f"{convolution}.weight"].shape[-1] // 2)
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + 1e-5).sqrt()
        return (x - state[f"{norm}.running_mean"][:, None, None]) * scale[:, None, None] + state[f"{norm}.bias"][:, None, None]

    seen = [layer(x, "body.stem.0", "body.stem.1").clamp(min=0)]
    for stage in range(3):
        out = seen[-1]
        for unit in range(3):
            name, stride = f"body.stages.{stage}.{unit}", 2 if stage and not unit else 1
            inner = layer(out, f"{name}.first", f"{name}.first_norm", stride).clamp(min=0)
            inner = layer(inner, f"{name}.second", f"{name}.second_norm")
            out = (inner + (layer(out, f"{name}.shortcut.0", f"{name}.shortcut.1", stride) if stride == 2 else out)).clamp(min=0)
        seen.append(out)
    want = out.flatten(2).mean(2) @ state["classifier.weight"].T + state["classifier.bias"]
    with torch.inference_mode():
        got = model(x, output_hidden_states=True, labels=torch.tensor([0, 1, 2, 3, 4]))
    assert torch.allclose(got["logits"], want, atol=1e-4) and want.std() > 0.05
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(got.hidden_states, seen, strict=True))
    assert [tuple(h.shape[1:]) for h in got.hidden_states] == [(16, 16, 16), (16, 16, 16), (32, 8, 8), (64, 4, 4)]
    assert torch.allclose(got.loss, functional.cross_entropy(want, torch.tensor([0, 1, 2, 3, 4])), atol=1e-4)


def test_the_same_seed_gives_the_same_weights_of_hes_spread():
    a, b, c = (opened("resnet20", "x", "y", seed=s).model for s in (3, 3, 4))
    states = [m.state_dict() for m in (a, b, c)]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    inner = "body.stages.2.1.first.weight"
    assert not torch.equal(states[0][inner], states[2][inner])
    assert states[0][inner].std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)


def test_a_name_is_fitted_to_labels_channels_and_size():
    loaded = opened("plane4", "a", "b", "c", channels=1, size=12)
    assert loaded.new_head and loaded.tokenizer is None
    assert loaded.model(torch.randn(2, 1, 12, 12)).logits.shape == (2, 3)
    assert loaded.model.config.id2label == {0: "a", 1: "b", 2: "c"} and loaded.model.config.image_mean == [0.5]


def test_a_saved_folder_keeps_its_head_and_finds_its_labels_by_name(tmp_path):
    model = opened("resnet8", "a", "b", "c", size=8).model.eval()
    model.save_pretrained(tmp_path)
    again = opened(tmp_path, "c", "a", "b", size=8)
    x = torch.randn(4, 3, 8, 8)
    assert not again.new_head and "matched by name" in again.notes[0]
    assert torch.equal(model(x).logits[:, [2, 0, 1]], again.model.eval()(x).logits)
    other = opened(tmp_path, "a", "b", size=8)
    assert other.new_head and torch.equal(other.model.body.stem[0].weight, model.body.stem[0].weight)
    assert other.model.classifier.weight.std() > 0.05, "a new head is random, not zero"


def test_a_saved_folder_loads_where_tutelage_is_not_imported(tmp_path):
    model = opened("plane4", "a", "b", channels=1, size=8).model.eval()
    model.save_pretrained(tmp_path / "model")
    torch.save(torch.randn(3, 1, 8, 8), tmp_path / "x.pt")
    code = f"""
import torch
from transformers import AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained({str(tmp_path / "model")!r}, trust_remote_code=True).eval()
torch.save(model(torch.load({str(tmp_path / "x.pt")!r})).logits.detach(), {str(tmp_path / "y.pt")!r})
"""
    parts.said_without_tutelage(code, tmp_path)
    assert torch.equal(torch.load(tmp_path / "y.pt"), model(torch.load(tmp_path / "x.pt")).logits)


def test_a_description_of_ones_own_makes_a_plain_net():
    model = resnet.ConvNetForImageClassification(resnet.ConvNetConfig(blocks=[[4, 8], [8]], hidden=[6], num_labels=3, image_size=[8, 12]))
    assert model(torch.randn(2, 3, 8, 12)).logits.shape == (2, 3)
    assert model.body.linear[0].in_features == 2 * 3 * 8 and model.config.num_hidden_layers == 5


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("plane10", {"size": 8}, r"plane10: does not fit the task's images: it halves images 4 times, so they must have 16 x 16 pixels"),
        ("saved", {"channels": 1, "size": 8}, r"takes images of 3 channels, the task's have 1; name another model"),
        ("saved", {"size": 16}, r"takes images of 8 x 8 pixels, the task's have 16 x 16; set task.resize=8"),
    ],
)
def test_images_that_do_not_fit_a_model_are_one_sentence(tmp_path, name, shape, sentence):
    if name == "saved":
        opened("plane2", "a", "b", size=8).model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=sentence):
        opened(tmp_path if name == "saved" else name, "a", "b", **shape)


def test_a_resnet_takes_other_sizes_and_says_when_it_was_trained_on_another_scale(tmp_path):
    opened("resnet8", "a", "b", size=8).model.save_pretrained(tmp_path)
    changed = {**head("a", "b", size=12), "image_mean": [0.1, 0.1, 0.1]}
    loaded = open_model(str(tmp_path), changed, auto=IMAGES, labels=("a", "b"), text=False)
    assert "was trained on images with image_mean [0.5, 0.5, 0.5], here it is [0.1, 0.1, 0.1]" in loaded.notes[0]


def test_a_vision_transformer_of_the_hubs_form_gets_a_head_for_the_labels(tmp_path):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.ViTForImageClassification(transformers.ViTConfig(**shape, image_size=16, patch_size=8)).save_pretrained(tmp_path)
    loaded = opened(tmp_path, "a", "b", "c", size=16)
    assert loaded.new_head and loaded.model(torch.randn(2, 3, 16, 16)).logits.shape == (2, 3)
    with pytest.raises(ModelError, match=r"takes images of 16 x 16 pixels, the task's have 32 x 32; set task.resize=16"):
        opened(tmp_path, "a", "b", "c")


def test_names_near_a_networks_are_offered_and_text_tasks_refuse_it():
    with pytest.raises(ModelError, match=r"resnet200.*did you mean 'resnet20'\?"):
        open_config("resnet200")
    with pytest.raises(ModelError, match="resnet8: is a model for images, and the task's rows are text"):
        open_model("resnet8", {"num_labels": 2}, auto="AutoModelForSequenceClassification")
    with pytest.raises(ModelError, match="models of type 'tutelage-convnet' are not known to surgeries"):
        Fresh(layers=2)(open_bare("resnet8").model)


def test_the_card_knows_every_networks_name():
    assert set(kinds.ARCHITECTURES) == set(resnet.NAMES)

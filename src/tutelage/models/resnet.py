"""Small convolutional networks for small images: the CIFAR ResNets, and plain stacks of convolutions.

This file imports torch and transformers alone. It is copied into the folder of every model saved from it, so that the folder
loads where Tutelage is not installed: `AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)`.

Source: He, Zhang, Ren, Sun 2016, arXiv:1512.03385, section 4.2 (resnet8 to resnet110, depth 6n+2); Mirzadeh et al. 2020,
arXiv:1902.03393, section "Experiments" and the authors' code (plane2 to plane10).
Departures: where a shape changes, shortcuts are 1x1 convolutions with batch normalisation (the paper's option B) instead of
padding with zeros. Convolutions before a normalisation have no bias. Every block of a plain net ends in pooling, that of plane6
for 100 classes too. All layers start from He's normal distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

RESNETS = {f"resnet{6 * n + 2}": [[width] * n for width in (16, 32, 64)] for n in (1, 2, 3, 4, 5, 7, 9, 18)}
"""Name -> widths of the residual units, a list a stage."""

Plain = tuple[list[list[int]], list[int]]

PLAIN: dict[str, Plain] = {
    "plane2": ([[16], [16]], []),
    "plane4": ([[16, 16], [32, 32]], []),
    "plane6": ([[16, 16], [32, 32], [64, 64]], []),
    "plane8": ([[16, 16], [32, 32], [64, 64], [128, 128]], [64]),
    "plane10": ([[32, 32], [64, 64], [128, 128], [256, 256, 256, 256]], [128]),
}
"""Name -> widths of the convolutions, a list a block, and of the hidden linear layers: the forms for ten classes."""

PLAIN_WIDE: dict[str, Plain] = {
    "plane2": ([[32], [32]], []),
    "plane4": ([[32, 32], [64, 64]], []),
    "plane6": ([[32, 32], [64, 64], [128, 128]], []),
    "plane8": ([[32, 32], [64, 64], [128, 128], [256, 256]], [64]),
    "plane10": ([[32, 32], [64, 64], [128, 128], [256, 256, 256, 256]], [512]),
}
"""The forms for more than ten classes."""

NAMES = (*RESNETS, *PLAIN)


class ConvNetConfig(PretrainedConfig):
    """The shape of a network: `blocks` holds widths, a list a stage; `residual` says what a width stands for.

    residual True: a unit of two 3x3 convolutions and a shortcut. A 3x3 convolution comes first, stages after the first halve
    the picture at their first unit, and the average over all places goes to the classifier.
    residual False: one 3x3 convolution. Each block ends in 2x2 max pooling; `hidden` are the widths of linear layers with ReLU
    before the classifier.
    image_mean and image_std are those of training, in [0, 1] a channel: inputs are (pixels / 255 - mean) / std.
    """

    model_type = "tutelage-convnet"

    def __init__(
        self,
        blocks: Sequence[Sequence[int]] = ((16,), (16,)),
        residual: bool = False,
        hidden: Sequence[int] = (),
        num_channels: int = 3,
        image_size: int | Sequence[int] = 32,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        **others: Any,
    ):
        self.blocks = [list(block) for block in blocks]
        self.residual, self.hidden = residual, list(hidden)
        self.num_channels = num_channels
        self.image_size = image_size if isinstance(image_size, int) else list(image_size)
        self.image_mean, self.image_std = image_mean, image_std
        super().__init__(**others)

    @property
    def num_hidden_layers(self) -> int:
        """Layers with weights from input to output, the last one included: 20 for resnet20."""
        units = sum(len(block) for block in self.blocks)
        return 2 + 2 * units if self.residual else units + len(self.hidden) + 1

    @property
    def hidden_size(self) -> int:
        """Channels of the last block."""
        return self.blocks[-1][-1]

    @property
    def any_size(self) -> bool:
        """Whether images of other sizes than `image_size` can be taken."""
        return bool(self.residual)


def named(name: str, **changes: Any) -> ConvNetConfig:
    """The configuration of one of NAMES; `changes` are fields such as num_labels, num_channels and image_size.

    Plain nets take their wider form where there are more than ten labels.
    """
    if name in RESNETS:
        shape: dict[str, Any] = {"blocks": RESNETS[name], "residual": True}
    else:
        labels = changes.get("num_labels") or len(changes.get("id2label") or range(10))
        blocks, hidden = (PLAIN if labels <= 10 else PLAIN_WIDE)[name]
        shape = {"blocks": blocks, "hidden": hidden}
    return ConvNetConfig(**{"num_labels": 10, **shape, **changes}, architectures=["ConvNetForImageClassification"])


class _Unit(nn.Module):
    """Two 3x3 convolutions and a shortcut; (rows, before, H, W) to (rows, width, H / stride, W / stride)."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.first, self.first_norm = _convolution(before, width, stride), nn.BatchNorm2d(width)
        self.second, self.second_norm = _convolution(width, width), nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


def _convolution(before: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, width, 3, stride, padding=1, bias=False)


def _plain(before: int, width: int) -> list[nn.Module]:
    return [_convolution(before, width), nn.BatchNorm2d(width), nn.ReLU()]


class _Body(nn.Module):
    """Images (rows, channels, H, W) to features (rows, width), and the output of the stem (residual only) and every stage.

    Raises ValueError for images too small for a plain net's pooling.
    """

    def __init__(self, config: ConvNetConfig):
        super().__init__()
        self.residual = config.residual
        before, stages = config.num_channels, []
        if config.residual:
            self.stem = nn.Sequential(*_plain(before, config.blocks[0][0]))
            before = config.blocks[0][0]
        for number, block in enumerate(config.blocks):
            layers: list[nn.Module] = []
            for place, width in enumerate(block):
                if config.residual:
                    layers.append(_Unit(before, width, 2 if number and not place else 1))
                else:
                    layers += _plain(before, width)
                before = width
            stages.append(nn.Sequential(*layers, *([] if config.residual else [nn.MaxPool2d(2)])))
        self.stages = nn.ModuleList(stages)
        self.width = before if config.residual else before * _places(config)
        linear: list[nn.Module] = []
        for width in config.hidden:
            linear += [nn.Linear(self.width, width), nn.ReLU()]
            self.width = width
        self.linear = nn.Sequential(*linear)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        seen = []
        x = x.contiguous(memory_format=torch.channels_last)  # a third less time on processors; weights keep their layout
        if self.residual:
            x = self.stem(x)
            seen.append(x)
        for stage in self.stages:
            x = stage(x)
            seen.append(x)
        return self.linear(x.mean((2, 3)) if self.residual else x.flatten(1)), seen


def _places(config: ConvNetConfig) -> int:
    """Places of the last map of a plain net."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    halved = len(config.blocks)
    if min(height, width) >> halved < 1:
        least = f"{2**halved} x {2**halved}"
        raise ValueError(f"it halves images {halved} times, so they must have {least} pixels or more; got {height} x {width}")
    return (height >> halved) * (width >> halved)


class ConvNetForImageClassification(PreTrainedModel):
    """A network of ConvNetConfig with a linear classifier on top."""

    config_class = ConvNetConfig
    base_model_prefix = "body"
    main_input_name = "pixel_values"

    def __init__(self, config: ConvNetConfig):
        super().__init__(config)
        self.body = _Body(config)
        self.classifier = nn.Linear(self.body.width, config.num_labels or 2)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, output_hidden_states: bool | None = None, **others: Any
    ) -> ImageClassifierOutputWithNoAttention:
        """Logits (rows, labels) of images (rows, channels, H, W), already shifted and scaled; the mean loss where labels are given.

        With `output_hidden_states`, the maps after the stem and after each stage, (rows, width, H', W') each.
        """
        features, seen = self.body(pixel_values)
        logits = self.classifier(features)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits, hidden_states=tuple(seen) if wanted else None)

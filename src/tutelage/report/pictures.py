"""What a model card says of an image classifier, where that differs from what it says of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PIPELINE, NOUN, OTHERS = "image-classification", "An image classifier", "images, cameras or groups of people"
ARCHITECTURES = (*(f"resnet{depth}" for depth in (8, 20, 32, 44, 56, 110)), *(f"plane{depth}" for depth in (2, 4, 6, 8, 10)))
"""Names that stand for a shape with random weights, not for a model."""

CODE = """\
import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageClassification

folder = "path/to/this/folder"
model = AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True).eval()  # runs resnet.py if it lies there
size, channels = model.config.image_size, model.config.num_channels
height, width = (size, size) if isinstance(size, int) else size
image = Image.open("image.png").convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]).resize((width, height))
pixels = torch.from_numpy(np.array(image)).reshape(height, width, channels).permute(2, 0, 1) / 255
mean, std = (torch.tensor(x)[:, None, None] for x in (model.config.image_mean, model.config.image_std))
with torch.inference_mode():
    logits = model(pixel_values=((pixels - mean) / std)[None]).logits
print(model.config.id2label[int(logits[0].argmax())])"""


def about(record: Mapping[str, Any]) -> bool:
    """Whether a record's task is one of images."""
    return ((record.get("recipe") or {}).get("task") or {}).get("kind") == "image"

"""From stored pixels to what a model takes, as tensor operations; a row's draw follows from its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def scaled(pixels: Tensor, mean: Tensor, std: Tensor, side: int | None, by: Tensor | None = None) -> Tensor:
    """(pixels / 255 - mean) / std in float32, resized to `side` x `side` (bilinear, smoothed) where that is given.

    pixels uint8 (rows, channels, H, W); mean and std (rows, channels). `by`, in the shape of pixels, is added to the scaled
    pixels; the sum is held between what a black and a white pixel are scaled to.
    """
    from torch.nn import functional

    mean, std = mean[:, :, None, None], std[:, :, None, None]
    out = (pixels.float() / 255 - mean) / std
    if by is not None:
        out = (out + by).clamp(min=(0 - mean) / std, max=(1 - mean) / std)
    if side is None:
        return out
    return functional.interpolate(out, size=(side, side), mode="bilinear", align_corners=False, antialias=True)


def shifted(pixels: Tensor, seeds: Sequence[int], crop: int, flip: bool) -> Tensor:
    """Each row moved by up to `crop` pixels down and across over black, and mirrored with probability 1/2 where `flip`.

    This is a crop of the same size, at a random place, from the image with `crop` black pixels on all sides.
    Source: He et al. 2016, arXiv:1512.03385, section 4.2.
    """
    import torch
    from torch.nn import functional

    rows, _, height, width = pixels.shape
    ways = 2 * crop + 1
    draws = torch.tensor([[s % 2, (s >> 1) % ways, (s >> 24) % ways] for s in seeds], dtype=torch.long).reshape(rows, 3).to(pixels.device)
    down = draws[:, 1, None] + torch.arange(height, device=pixels.device)
    along = torch.arange(width, device=pixels.device).expand(rows, width)
    if flip:
        along = torch.where(draws[:, :1] == 1, along.flip(1), along)
    along = along + draws[:, 2, None]
    padded = functional.pad(pixels, (crop, crop, crop, crop)).permute(0, 2, 3, 1)
    place = torch.arange(rows, device=pixels.device)[:, None, None]
    return padded[place, down[:, :, None], along[:, None, :]].permute(0, 3, 1, 2)

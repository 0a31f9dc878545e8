# SPDX-License-Identifier: Apache-2.0
"""Looks on frames: which of a Look's doors a frame's format goes through, and what comes out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..looks import Look, LutLook
from ..media.frame import ColorSpec, Frame, shared_tensor, yuv_format
from ..media.mask import Mask
from ..ops import PlaneMask, shrink_planes, yuv_thumbnail


class TensorFrame(Frame):
    """A frame whose planes are torch tensors: pictures from memory, on any device."""

    def tensors(self) -> tuple[Tensor, ...]:
        return self.planes

    def replace_planes(self, planes: Any, *, alpha: Any = None) -> TensorFrame:
        return dataclasses.replace(
            self, planes=tuple(planes), alpha=self.alpha if alpha is None else alpha
        )

    def plain(self) -> Frame:
        """The same picture as numpy planes, for writers (half and double become float32)."""
        image, alpha = _to_numpy(self.planes[0]), self.alpha
        return Frame(
            (image,), self.color, self.index, self.pts, self.time_base, self.duration, self.time,
            None if alpha is None else _to_numpy(alpha), self.matte,
        )  # fmt: skip


def _to_numpy(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def with_tensors(frame: Frame, planes: tuple[Tensor, ...]) -> Frame:
    """The frame with other samples, brought back to where its own are."""
    if isinstance(frame, TensorFrame):
        return frame.replace_planes([plane.to(frame.planes[0].device) for plane in planes])
    return frame.replace_planes([plane.cpu().numpy() for plane in planes])


def mask_tensor(mask: Mask) -> Tensor:
    """The mask's samples [H,W] as a tensor that shares their memory."""
    return mask.data if isinstance(mask.data, Tensor) else shared_tensor(mask.data)


def unit_mask(mask: Mask) -> Tensor:
    """The mask as float32 [H,W] in [0,1]."""
    data = mask_tensor(mask).float()
    if mask.black == 0 and mask.white == 1:
        return data.clamp(0, 1)
    return ((data - mask.black) / (mask.white - mask.black)).clamp(0, 1)


def inverted(mask: Mask) -> Mask:
    """The mask of what this one leaves out."""
    data = mask.data
    if isinstance(data, Tensor):
        return Mask(1 - unit_mask(mask), 0.0, 1.0)
    low, high = data.dtype.type(mask.black), data.dtype.type(mask.white)
    return Mask(low + high - np.clip(data, low, high), mask.black, mask.white)


def is_empty(mask: Mask) -> bool:
    """Whether the mask touches no pixel."""
    data = mask.data
    if isinstance(data, Tensor) and data.dtype == torch.uint16:
        data = data.float()
    # Most masks are told by a few rows; only where those are empty must all be looked at.
    return bool(data[::16].max() <= mask.black) and bool(data.max() <= mask.black)


def apply_look(
    frame: Frame,
    mask: Mask,
    look: Look,
    device: torch.device,
    out: tuple[Tensor, ...] | None = None,
) -> tuple[Tensor, ...]:
    """The frame's planes with the Look applied inside the mask.

    YUV planes stay YUV: samples the mask does not touch are the frame's own. Float RGB tagged as
    linear light is encoded with the sRGB curve for the Look and decoded after it, and blended in
    linear light; values above 1 (or below 0) are carried around the Look as a factor (an offset),
    unless the Look is a LUT whose own domain reaches them. PQ and HLG are harmonized in their
    coded values.

    Args:
        frame: the composite.
        mask: where.
        look: how the colours change.
        device: where RGB and grey frames from the CPU are worked on.
        out: for YUV frames, planes to write into.

    Returns:
        Tensors like the frame's planes; YUV on the CPU, RGB and grey where the frame's are if
        they are on a GPU, and otherwise on `device`.
    """
    planes, layout = frame.tensors(), frame.color.layout
    if layout == "yuv":
        where = PlaneMask(mask_tensor(mask), mask.black, mask.white)
        return tuple(look.apply_yuv(planes, where, yuv_format(frame.color), out=out))
    if planes[0].device.type == "cpu":
        planes = tuple(plane.to(device) for plane in planes)
    device = planes[0].device
    if layout == "gray":
        return (_apply_gray(planes[0], unit_mask(mask).to(device), look, frame.color),)
    if planes[0].is_floating_point():
        return (_apply_float(planes[0], unit_mask(mask).to(device), look, frame),)
    image, weight = planes[0][None], _rgb_mask(mask).to(device)[None, ..., None]
    return (look.apply(image, weight, layout="NHWC")[0],)


def _rgb_mask(mask: Mask) -> Tensor:
    """[H,W], as it is where full scale means 1, else float."""
    data = mask_tensor(mask)
    full = {torch.uint8: 255.0, torch.uint16: 65535.0}.get(data.dtype)
    if data.dtype == torch.bool or (mask.black == 0 and mask.white == full):
        return data
    return unit_mask(mask)


def _apply_float(image: Tensor, mask: Tensor, look: Look, frame: Frame) -> Tensor:
    """[H,W,3] of any float dtype."""
    check_not_nan(image, frame.index)
    linear = frame.color.transfer == "linear"
    own_domain = isinstance(look, LutLook) and not look.unit_domain
    weight = mask[None, ..., None]
    low, high = torch.aminmax(image)
    inside = own_domain or (low >= 0 and high <= 1)
    if inside and not linear:
        return look.apply(image[None], weight.to(image.dtype), layout="NHWC")[0]
    base = image if inside else image.clamp(0, 1)
    if linear:
        colours = _to_linear(look.apply(_from_linear(base)[None], layout="NHWC")[0])
    else:
        colours = look.apply(base[None], layout="NHWC")[0]
    if not inside:
        colours = torch.where(image > 1, colours * image, colours)
        colours = torch.where(image < 0, colours + image, colours)
    mixed = image.float() + mask[..., None] * (colours.float() - image.float())
    return torch.where(mask[..., None] == 0, image, mixed.to(image.dtype))


def check_not_nan(image: Tensor, index: int) -> None:
    """Raises ValueError where a float frame holds NaN: it would spread through every mean."""
    if image.is_floating_point() and bool(torch.isnan(image).any()):
        raise ValueError(f"frames: frame {index} holds NaN samples; expected numbers")


def _from_linear(v: Tensor) -> Tensor:
    """The sRGB curve (IEC 61966-2-1), continued in a straight line below 0."""
    return torch.where(v <= 0.0031308, 12.92 * v, 1.055 * v.clamp(min=1e-9) ** (1 / 2.4) - 0.055)


def _to_linear(v: Tensor) -> Tensor:
    return torch.where(v <= 0.04045, v / 12.92, ((v.clamp(min=0) + 0.055) / 1.055) ** 2.4)


def _apply_gray(plane: Tensor, mask: Tensor, look: Look, color: ColorSpec) -> Tensor:
    """[H,W]: the Look sees a grey picture, and the Rec. 709 luma of its result comes back."""
    span = color.white - color.black
    value = (plane.float() - color.black) / span
    rgb = look.apply(value[None, ..., None].expand(1, -1, -1, 3).contiguous(),
                     mask[None, ..., None], layout="NHWC")[0]  # fmt: skip
    luma = rgb @ rgb.new_tensor([0.2126, 0.7152, 0.0722])
    out = luma * span + color.black
    if color.depth != 32:
        out = out.clamp(0, (1 << color.depth) - 1).round()
    out = torch.where(mask == 0, plane.float(), out)
    return out.to(torch.int32).to(plane.dtype) if color.depth != 32 else out.to(plane.dtype)


def thumbnail(frame: Frame, size: tuple[int, int], device: torch.device) -> Tensor:
    """The frame at [3,h,w], float RGB in [0,1]; linear light is encoded with the sRGB curve.

    Of RGB pictures some rows and columns are enough.
    """
    planes, color = frame.tensors(), frame.color
    if color.layout == "yuv":
        within = (min(size[0], frame.height), min(size[1], frame.width))
        small = yuv_thumbnail(planes, within, format=yuv_format(color))
        small = small.to(device)
        return small if within == tuple(size) else _area(small, size).clamp(0, 1)
    image = planes[0] if planes[0].ndim == 3 else planes[0][..., None]
    check_not_nan(image, frame.index)
    image = _thin(image, size).to(device).permute(2, 0, 1)
    # Planes are averaged faster than interleaved samples, and get there while they are converted.
    image = image.to(torch.float32, memory_format=torch.contiguous_format)
    if color.layout == "rgb" and color.depth != 32:
        return _area(image, size).div_(color.white).clamp_(0, 1)
    if color.layout == "gray":
        image = ((image - color.black) / (color.white - color.black)).expand(3, -1, -1)
    if color.transfer == "linear" and color.depth == 32:
        image = _from_linear(image.clamp(0, 1))
    return _area(image.clamp(0, 1), size)


def mask_thumbnail(mask: Mask, size: tuple[int, int], device: torch.device) -> Tensor:
    """The mask at [1,h,w], float in [0,1]: how much of each small pixel it covers."""
    data = mask_tensor(mask)
    within = (min(size[0], data.shape[0]), min(size[1], data.shape[1]))
    if data.device.type == "cpu" and data.dtype in (torch.uint8, torch.uint16, torch.float32):
        small = shrink_planes((data,), within)
        small = ((small - mask.black) / (mask.white - mask.black)).clamp(0, 1)
    else:
        small = _area(unit_mask(mask)[None], within)
    return _area(small.to(device), size).clamp(0, 1)


def _thin(image: Tensor, size: tuple[int, int]) -> Tensor:
    """[H,W,C]: every n-th row and column where the picture has at least two for each one wanted."""
    step = max(1, min(image.shape[0] // (2 * size[0]), image.shape[1] // (2 * size[1])))
    return image[::step, ::step]


def _area(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[1:]) == tuple(size):
        return image.contiguous()
    if image.shape[1] < size[0] or image.shape[2] < size[1]:
        return F.interpolate(
            image[None], tuple(size), mode="bilinear", antialias=True, align_corners=False
        )[0]
    return F.interpolate(image[None], tuple(size), mode="area")[0]

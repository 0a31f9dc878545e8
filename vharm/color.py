# SPDX-License-Identifier: Apache-2.0
"""CIELAB from and to sRGB, for the transfers that work in it.

Sources: IEC 61966-2-1 (sRGB), CIE 15 (CIELAB, reference white D65, 2 degrees).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Linear sRGB to XYZ, rows summing to the white point D65.
_TO_XYZ = (
    (0.4123907993, 0.3575843394, 0.1804807884),
    (0.2126390059, 0.7151686788, 0.0721923154),
    (0.0193308187, 0.1191947798, 0.9505321522),
)
_DELTA = 6 / 29


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """SRGB `[...,3]` in [0,1] to CIELAB `[...,3]`: L in [0,100], a and b about [-110,110]."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055).clamp(min=0) ** 2.4)
    matrix = rgb.new_tensor(_TO_XYZ)
    xyz = linear @ (matrix / matrix.sum(1, keepdim=True)).mT
    f = torch.where(
        xyz > _DELTA**3, xyz.clamp(min=_DELTA**3) ** (1 / 3), xyz / (3 * _DELTA**2) + 4 / 29
    )
    x, y, z = f.unbind(-1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), -1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """CIELAB `[...,3]` to sRGB `[...,3]`; colours sRGB does not have come out beyond [0,1]."""
    lightness, a, b = lab.unbind(-1)
    y = (lightness + 16) / 116
    f = torch.stack((y + a / 500, y, y - b / 200), -1)
    xyz = torch.where(f > _DELTA, f**3, 3 * _DELTA**2 * (f - 4 / 29))
    matrix = lab.new_tensor(_TO_XYZ)
    linear = xyz @ torch.linalg.inv(matrix / matrix.sum(1, keepdim=True)).mT
    return torch.where(
        linear <= 0.0031308,
        12.92 * linear,
        1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055,
    )

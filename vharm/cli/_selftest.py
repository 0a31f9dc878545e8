# SPDX-License-Identifier: Apache-2.0
"""A tiny run of every op on every backend that can run here, beside the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import ops

# Largest difference allowed; float32 outputs of size about 1, and samples of 8 bits.
FLOAT_TOLERANCE, SAMPLE_TOLERANCE = 2e-4, 1
_FORMAT = ops.YuvFormat("bt709", False, 8, (1, 1))
_SIZE = (13, 18)

Case = Callable[[torch.device], "tuple[Tensor, ...]"]


def _random(*shape: int, seed: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator).to(device)


def _image(device: torch.device) -> Tensor:
    return _random(2, 3, *_SIZE, seed=1, device=device)


def _mask(device: torch.device) -> Tensor:
    # Soft, with regions of exactly 0 and 1.
    return (_random(2, 1, *_SIZE, seed=2, device=device) * 2 - 0.5).clamp(0, 1)


def _arguments(device: torch.device) -> Tensor:
    return _random(2, 6, seed=3, device=device) * 1.2 - 0.6


def _lut(device: torch.device) -> Tensor:
    return _random(9, 9, 9, 3, seed=4, device=device)


def _planes(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    height, width = _SIZE
    small = ((height + 1) // 2, (width + 1) // 2)
    y, u, v = (
        (_random(*size, seed=5 + i, device=device) * 219 + 16).to(torch.uint8)
        for i, size in enumerate((_SIZE, small, small))
    )
    return y, u, v


def _plane_mask(device: torch.device) -> ops.PlaneMask:
    return ops.PlaneMask((_mask(device)[0, 0] * 255).to(torch.uint8))


def _statistics(device: torch.device) -> Tensor:
    return _random(6, 3, seed=9, device=device)


def _flow(device: torch.device, seed: int = 10) -> Tensor:
    return _random(2, 2, *_SIZE, seed=seed, device=device) * 6 - 3


def _features(device: torch.device, seed: int) -> Tensor:
    return _random(2, 4, *_SIZE, seed=seed, device=device)


def _patches(device: torch.device) -> tuple[Tensor, Tensor]:
    """A picture of two by three patches of 4, and which of them are kept."""
    image = _random(2, 3, 8, 12, seed=11, device=device)
    return image, _random(2, 6, seed=12, device=device) > 0.4


def _packed(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    image, keep = _patches(device)
    return ops.pack_patches(image, keep, 4)


def _sequences(device: torch.device) -> tuple[Tensor, Tensor]:
    bounds = torch.tensor([0, 5, 5, 12], dtype=torch.int32, device=device)
    return _random(12, 2, 8, seed=13, device=device), bounds


CASES: dict[str, Case] = {
    "flow_warp": lambda d: (ops.flow_warp(_image(d), _flow(d)),),
    "temporal_loss": lambda d: (
        ops.temporal_loss(_image(d), _image(d).flip(2), _flow(d), _mask(d)),
    ),
    "flow_consistency": lambda d: (ops.flow_consistency(_flow(d), _flow(d, seed=14)),),
    "neighborhood_attention": lambda d: (
        ops.neighborhood_attention(
            _features(d, 15), _features(d, 16), _features(d, 17), _mask(d), window=4
        ),
    ),
    "nonlocal_attention": lambda d: (
        ops.nonlocal_attention(
            _features(d, 15), _features(d, 16), _features(d, 17), _mask(d), 1 - _mask(d)
        ),
    ),
    "similarity_gate": lambda d: (
        ops.similarity_gate(_features(d, 15), _features(d, 16), _features(d, 17), _mask(d)),
    ),
    "gated_mean": lambda d: (
        ops.gated_mean(
            _features(d, 15).unflatten(1, (4, 1)), _features(d, 16)[:, :1], _mask(d), lists=2
        ),
    ),
    "foreground_patches": lambda d: (
        ops.foreground_patches(_random(2, 1, 8, 12, seed=18, device=d) > 0.95, 4),
    ),
    "pack_patches": _packed,
    "unpack_patches": lambda d: (ops.unpack_patches(*_packed(d)[:2], _patches(d)[0].flip(3), 4),),
    "pack_tokens": lambda d: ops.pack_tokens(_random(2, 6, 5, seed=19, device=d), _patches(d)[1]),
    "unpack_tokens": lambda d: (
        ops.unpack_tokens(*_packed(d)[:2], _random(2, 6, 48, seed=20, device=d)),
    ),
    "varlen_attention": lambda d: (
        ops.varlen_attention(
            _sequences(d)[0], _sequences(d)[0].flip(0), _sequences(d)[0] * 2, _sequences(d)[1]
        ),
    ),
    "gram": lambda d: (ops.gram(_sequences(d)[0].flatten(1), _sequences(d)[1]),),
    "patch_balance": lambda d: (ops.patch_balance(_image(d)),),
    "filter_chain": lambda d: (ops.filter_chain(_image(d), _mask(d), _arguments(d)),),
    "filter_statistics": lambda d: (ops.filter_statistics(_image(d), _arguments(d)),),
    "filter_chain_loss": lambda d: (
        ops.filter_chain_loss(
            _image(d), _mask(d), _arguments(d), _random(2, 6, 3, *_SIZE, seed=8, device=d)
        ),
    ),
    "apply_lut": lambda d: (ops.apply_lut(_image(d), _lut(d), _mask(d)),),
    "fit_lut": lambda d: ops.fit_lut(_image(d), _image(d).flip(1), _mask(d), 5),
    "splat_lut": lambda d: (ops.splat_lut(_image(d), _image(d).flip(1), _mask(d), 5),),
    "masked_moments": lambda d: ops.masked_moments(_image(d), _mask(d)),
    "masked_histogram": lambda d: (ops.masked_histogram(_image(d), _mask(d)),),
    "shrink_planes": lambda d: (ops.shrink_planes([x.float() / 255 for x in _planes(d)], (5, 7)),),
    "plane_means": lambda d: (
        torch.tensor(ops.plane_means(_image(d)[0].unbind(0), _mask(d)[0, 0], step=2)),
    ),
    "yuv_to_rgb": lambda d: (ops.yuv_to_rgb(_planes(d), format=_FORMAT),),
    "rgb_to_yuv": lambda d: ops.rgb_to_yuv(_image(d)[0].permute(1, 2, 0), format=_FORMAT),
    "yuv_thumbnail": lambda d: (ops.yuv_thumbnail(_planes(d), (5, 7), format=_FORMAT),),
    "composite_yuv": lambda d: ops.composite_yuv(
        _planes(d), tuple(p.flip(0) for p in _planes(d)), _plane_mask(d), format=_FORMAT
    ),
    "filter_chain_yuv": lambda d: ops.filter_chain_yuv(
        _planes(d), _plane_mask(d), _arguments(d)[0], format=_FORMAT, statistics=_statistics(d)
    ),
    "residual_yuv": lambda d: ops.residual_yuv(
        _planes(d), _plane_mask(d), _random(3, 4, 5, seed=7, device=d) - 0.5, format=_FORMAT
    ),
    "apply_lut_yuv": lambda d: ops.apply_lut_yuv(
        _planes(d), _plane_mask(d), _lut(d), format=_FORMAT
    ),
}


def run_self_tests() -> list[dict[str, Any]]:
    """One row for each op and fast backend that can run on this machine."""
    rows = []
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    for name in devices:
        device = torch.device(name)
        for choice in ops.explain(device):
            rows += [
                _compare(choice.op, backend, device)
                for backend in choice.able
                if backend != "reference"
            ]
    return rows


def _compare(op: str, backend: str, device: torch.device) -> dict[str, Any]:
    row = {"op": op, "backend": backend, "device": device.type, "ok": False, "detail": ""}
    case = CASES.get(op)
    if case is None:
        row["detail"] = "has no self-test"
        return row
    try:
        with torch.no_grad():
            with ops.backend("reference"):
                expected = case(device)
            with ops.backend(backend):
                got = case(device)
    except Exception as error:  # whatever a broken kernel does belongs in the table
        row["detail"] = f"{type(error).__name__}: {error}"
        return row
    worst, right = 0.0, len(expected) == len(got)
    for want, have in zip(expected, got, strict=False):
        difference = (want.double() - have.double()).abs()
        allowed = FLOAT_TOLERANCE * (1 + want.double().abs())
        if not want.is_floating_point():
            allowed = torch.full_like(difference, SAMPLE_TOLERANCE)
        right = right and want.shape == have.shape and bool((difference <= allowed).all())
        worst = max(worst, float(difference.max()))
    row["ok"], row["detail"] = right, f"largest difference {worst:.1e}"
    return row

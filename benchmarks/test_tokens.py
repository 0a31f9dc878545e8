# SPDX-License-Identifier: Apache-2.0
"""Packing patches beside patchify and boolean indexing, and beside a plain copy of the same bytes.

pytest benchmarks/test_tokens.py -s            the full measurement, results kept
pytest benchmarks/test_tokens.py -s --quick    that it works

Into given memory, the bytes that must move are those of the kept patches, read and written; for
`unpack_patches` into another image, those of the whole image. Into fresh memory the operating
system's clearing of pages comes on top, for everybody; `image.clone()` shows how much that is.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from common import Subject, Table, compare, peak_extra, publish
from torch import Tensor

from vharm.ops import gram, pack_patches, patch_balance, unpack_patches, varlen_attention
from vharm.ops.reference import statistics as reference_statistics
from vharm.ops.reference import tokens as reference

PATCH = 16


pytestmark = pytest.mark.usefixtures("two_threads")


def frames(quick: bool, device: torch.device) -> Tensor:
    """1080p padded to whole patches; 200 MB of float32."""
    shape = (2, 3, 272, 480) if quick else (8, 3, 1088, 1920)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)


def box(image: Tensor, share: float) -> Tensor:
    """A rectangle of patches in the middle of each frame."""
    rows, columns = image.shape[2] // PATCH, image.shape[3] // PATCH
    high, wide = round(rows * share**0.5), round(columns * share**0.5)
    keep = torch.zeros(image.shape[0], rows, columns, dtype=torch.bool, device=image.device)
    top, left = (rows - high) // 2, (columns - wide) // 2
    keep[:, top : top + high, left : left + wide] = True
    return keep.flatten(1)


def by_indexing(image: Tensor, keep: Tensor) -> Tensor:
    """What a PyTorch user writes."""
    return reference.patchify(image, PATCH)[keep.flatten()]


def equals(expected: Tensor) -> Callable[[Tensor], None]:
    def check(found: Tensor) -> None:
        assert torch.equal(found, expected)

    return check


def of_copy(table: Table, name: str) -> float:
    """How many times a plain copy of the same bytes takes."""
    assert table.copy_ms is not None
    return next(row.median_ms for row in table.rows if row.name == name) / table.copy_ms


@pytest.mark.benchmark
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_pack(share: float, device, quick: bool) -> None:
    image = frames(quick, device)
    keep = box(image, share)
    expected = by_indexing(image, keep)
    count, width = expected.shape
    out = torch.zeros(keep.numel(), width, device=device)
    levels = (image * 255).to(torch.uint8)
    table = compare(
        f"pack_patches, float32 {tuple(image.shape)}, {100 * share:.0f} % kept",
        [
            Subject("given memory", lambda: pack_patches(image, keep, count=count, out=out)[0],
                    equals(expected)),
            Subject("fresh memory", lambda: pack_patches(image, keep)[0], equals(expected)),
            Subject("tokens.clone(), fresh memory", expected.clone),
            Subject("uint8 to float32, given memory",
                    lambda: pack_patches(levels, keep, dtype=torch.float32, out=out)),
            Subject("patchify, boolean indexing", lambda: by_indexing(image, keep),
                    equals(expected), rounds=7),
        ],
        rounds=2 if quick else 11, device=device, copy_bytes=count * width * 4,
        **{
            "extra memory, MB": f"{peak_extra(lambda: pack_patches(image, keep)) / 1e6:.1f}, "
            f"indexing {peak_extra(lambda: by_indexing(image, keep)) / 1e6:.1f}"
        },
    )  # fmt: skip
    publish(f"tokens-pack-{100 * share:.0f}", [table], device, keep=not quick)
    if quick or device.type != "cpu":
        return
    assert of_copy(table, "given memory") <= 2
    assert table.ratio("patchify, boolean indexing") >= 5


@pytest.mark.benchmark
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_unpack(share: float, device, quick: bool) -> None:
    image = frames(quick, device)
    keep = box(image, share)
    tokens, index, _ = pack_patches(image, keep)
    tokens = 1 - tokens
    mask = torch.rand(image.shape[0], 1, *image.shape[2:], device=device)
    expected = reference.unpack_patches(tokens, index, image, PATCH, None)
    out, place = torch.zeros_like(image), image.clone()

    def by_index_copy() -> Tensor:
        return reference.unpack_patches(tokens, index, image, PATCH, None)

    subjects = {
        "in place": lambda: unpack_patches(tokens, index, place, out=place),
        "given memory": lambda: unpack_patches(tokens, index, image, out=out),
    }
    whole = compare(
        f"unpack_patches, float32 {tuple(image.shape)}, {100 * share:.0f} % kept",
        [
            Subject("given memory", subjects["given memory"], equals(expected)),
            Subject("given memory, soft mask",
                    lambda: unpack_patches(tokens, index, image, mask=mask, out=out)),
            Subject("fresh memory", lambda: unpack_patches(tokens, index, image),
                    equals(expected)),
            Subject("image.clone(), fresh memory", image.clone),
            Subject("index_copy, unpatchify", by_index_copy, equals(expected), rounds=5),
        ],
        rounds=2 if quick else 9, device=device, copy_bytes=image.numel() * 4,
    )  # fmt: skip
    kept = compare(
        f"unpack_patches in place, {100 * share:.0f} % kept",
        [Subject("in place", subjects["in place"], equals(expected))],
        rounds=2 if quick else 11, device=device, copy_bytes=tokens.numel() * 4,
    )  # fmt: skip
    publish(f"tokens-unpack-{100 * share:.0f}", [whole, kept], device, keep=not quick)
    if quick or device.type != "cpu":
        return
    assert of_copy(whole, "given memory") <= 2
    assert of_copy(kept, "in place") <= 2


@pytest.mark.benchmark
def test_backward(device, quick: bool) -> None:
    image = frames(quick, device)[:2].clone().requires_grad_()
    keep = box(image, 0.3)

    def fused() -> Tensor:
        tokens, index, _ = pack_patches(image, keep)
        out = unpack_patches(tokens * 0.5, index, image)
        return torch.autograd.grad(out.sum(), image)[0]

    def plain() -> Tensor:
        index = keep.flatten().nonzero()[:, 0]
        tokens = reference.pack_patches(image, index, PATCH)
        out = reference.unpack_patches(tokens * 0.5, index, image, PATCH, None)
        return torch.autograd.grad(out.sum(), image)[0]

    expected = plain()
    table = compare(
        f"pack, halve, unpack, gradient to the image, float32 {tuple(image.shape)}, 30 % kept",
        [
            Subject("pack_patches, unpack_patches", fused, equals(expected)),
            Subject("patchify, indexing, index_copy", plain, equals(expected)),
        ],
        rounds=1 if quick else 5, device=device, copy_bytes=image.numel() * 4,
        **{
            "extra memory, MB": f"{peak_extra(fused) / 1e6:.0f}, "
            f"plain {peak_extra(plain) / 1e6:.0f}"
        },
    )  # fmt: skip
    publish("tokens-backward", [table], device, keep=not quick)


@pytest.mark.benchmark
def test_statistics(device, quick: bool) -> None:
    image = frames(quick, device)[:4].clone()
    count, c = (300, 64) if quick else (4000, 384)
    tokens = torch.randn(count, c, generator=torch.Generator().manual_seed(1)).to(device)
    bounds = torch.tensor([0, count // 2, count], device=device)
    leaf = image.clone().requires_grad_()

    def gradient(run: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.autograd.grad(run(leaf).sum(), leaf)[0]

    def near(expected: Tensor, atol: float) -> Callable[[Tensor], None]:
        return lambda f: torch.testing.assert_close(f, expected, atol=atol, rtol=1e-4)

    total = reference_statistics.patch_balance(image)
    tables = [
        compare(
            f"patch_balance, float32 {tuple(image.shape)}",
            [
                Subject("patch_balance", lambda: patch_balance(image, reduction="sum"),
                        near(total, 0)),
                Subject("differences", lambda: reference_statistics.patch_balance(image)),
                Subject("patch_balance, with gradient",
                        lambda: gradient(lambda v: patch_balance(v, reduction="sum")),
                        near(gradient(reference_statistics.patch_balance), 1e-4)),
                Subject("differences, with gradient",
                        lambda: gradient(reference_statistics.patch_balance)),
            ],
            rounds=2 if quick else 7, device=device, copy_bytes=image.numel() * 4,
        ),
        compare(
            f"gram, {count} tokens of {c} channels in 2 sequences",
            [
                Subject("gram", lambda: gram(tokens, bounds),
                        near(reference_statistics.gram(tokens, bounds), 1e-2)),
                Subject("F.T @ F", lambda: reference_statistics.gram(tokens, bounds)),
            ],
            rounds=2 if quick else 15, device=device,
        ),
    ]  # fmt: skip
    publish("tokens-statistics", tables, device, keep=not quick)


@pytest.mark.benchmark
def test_attention(device, quick: bool) -> None:
    lengths = [40, 90, 10] if quick else [700, 150, 420, 90, 640]
    bounds = torch.tensor([0, *lengths], device=device).cumsum(0)
    q, k, v = torch.randn(3, sum(lengths), 6, 64, device=device)
    expected = reference.varlen_attention(q, k, v, bounds, 64**-0.5)

    def close(found: Tensor) -> None:
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    table = compare(
        f"varlen_attention, {len(lengths)} sequences, {sum(lengths)} tokens, 6 x 64",
        [
            Subject("varlen_attention", lambda: varlen_attention(q, k, v, bounds), close),
            Subject("one masked matrix",
                    lambda: reference.varlen_attention(q, k, v, bounds, 64**-0.5), close),
        ],
        rounds=2 if quick else 9, device=device,
    )  # fmt: skip
    publish("tokens-attention", [table], device, keep=not quick)

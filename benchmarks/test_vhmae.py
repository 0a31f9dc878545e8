# SPDX-License-Identifier: Apache-2.0
"""What packing buys VHMAE's encoder: its time follows what is visible.

pytest benchmarks/test_vhmae.py -s            the full measurement, results kept
pytest benchmarks/test_vhmae.py -s --quick    that it works

Subjects: the encoder over the visible patches, packed; the same over all patches; and padded to
the longest of the batch, as is done with a rectangular batch and a mask of keys. The padded one
uses torch's own attention and the same weights, and is compared with the packed one first.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from common import Subject, compare, publish
from torch import Tensor

from vharm.models.positions import space_time
from vharm.models.vhmae import Vhmae, VhmaeSize
from vharm.ops.reference.tokens import patchify

SIDE = 256
MIXED = (0.05, 0.15, 0.3, 0.45, 0.6, 0.7, 0.7, 0.7)
"""Foreground shares of a batch: one from each bin below large ones, and large ones."""


pytestmark = pytest.mark.usefixtures("two_threads")


def network(quick: bool, device: torch.device) -> Vhmae:
    torch.manual_seed(0)
    return Vhmae(VhmaeSize(32, 2, 2, 16, 1, 2) if quick else "tiny").to(device).eval()


def visible(shares: tuple[float, ...], device: torch.device) -> Tensor:
    """Bool [N,P]: a band of the frame, from its top, is foreground."""
    patches = (SIDE // 16) ** 2
    order = torch.arange(patches, device=device)
    return torch.stack([order >= round(share * patches) for share in shares])


def frames(count: int, device: torch.device) -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, SIDE, SIDE, generator=source).to(device)


def padded(model: Vhmae, image: Tensor, keep: Tensor) -> Tensor:
    """[V,C], by sequences padded to the longest: what is done without packing."""
    count, longest = len(keep), int(keep.sum(1).max())
    # Kept patches first, in their order; what follows is padding.
    order = (~keep).to(torch.int8).argsort(dim=1, stable=True)[:, :longest]
    there = keep.gather(1, order)
    patches = patchify(image, model.patch).unflatten(0, (count, -1))
    patches = patches.gather(1, order[..., None].expand(-1, -1, patches.shape[2]))
    places = space_time(order.flatten(), (SIDE // 16, SIDE // 16), model.size.width)
    tokens = model.embed(2 * patches - 1) + places.unflatten(0, (count, -1))
    keys = there[:, None, None, :] if not bool(there.all()) else None
    for block in model.encoder.blocks:
        attention = block.attention
        bias = torch.cat(
            (attention.query_bias, torch.zeros_like(attention.query_bias), attention.value_bias)
        )
        mixed = F.linear(block.attention_norm(tokens), attention.qkv.weight, bias)
        query, key, value = mixed.unflatten(2, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=keys)
        tokens = tokens + attention.project(seen.transpose(1, 2).flatten(2))
        tokens = tokens + block.contract(F.gelu(block.expand(block.mlp_norm(tokens))))
    return model.encoder.norm(tokens)[there]


def close(expected: Tensor) -> Callable[[Tensor], None]:
    def check(found: Tensor) -> None:
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)

    return check


@pytest.mark.benchmark
@torch.no_grad()
def test_large_foreground(device, quick: bool) -> None:
    model = network(quick, device)
    count = 2 if quick else 8
    image, keep = frames(count, device), visible((0.7,) * count, device)
    everything = torch.ones_like(keep)
    table = compare(
        f"VHMAE encoder (tiny), {count} frames of {SIDE}, 70 % foreground",
        [
            Subject("visible patches", lambda: model.encode(image, keep).tokens,
                    close(padded(model, image, keep))),
            Subject("all patches", lambda: model.encode(image, everything).tokens),
        ],
        rounds=2 if quick else 9, device=device,
    )  # fmt: skip
    publish("vhmae-encoder-70", [table], device, keep=not quick)
    if not quick:
        assert table.ratio("all patches") >= 2.5


@pytest.mark.benchmark
@torch.no_grad()
def test_mixed_foregrounds(device, quick: bool) -> None:
    model = network(quick, device)
    shares = MIXED[::3] if quick else MIXED
    image, keep = frames(len(shares), device), visible(shares, device)
    parts = keep.float().mean(1)
    seen = f"{float(parts.mean()):.0%} of the patches; padded, {float(parts.max()):.0%}"
    table = compare(
        f"VHMAE encoder (tiny), {len(shares)} frames of {SIDE}, foregrounds of "
        f"{min(shares):.0%} to {max(shares):.0%}",
        [
            Subject("packed", lambda: model.encode(image, keep).tokens,
                    close(padded(model, image, keep))),
            Subject("padded to the longest", lambda: padded(model, image, keep)),
            Subject("all patches", lambda: model.encode(image, torch.ones_like(keep)).tokens),
        ],
        rounds=2 if quick else 9, device=device, visible=seen,
    )  # fmt: skip
    publish("vhmae-encoder-mixed", [table], device, keep=not quick)
    if not quick:
        assert table.ratio("padded to the longest") >= 1.5

# SPDX-License-Identifier: Apache-2.0
"""Patches and packed tokens: against the reference, explicit indexing, and their own inverse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import IMAGE_DTYPES, assert_close, backends, relayout
from torch import Tensor

from vharm import ops
from vharm.ops import foreground_patches, pack_patches, pack_tokens, unpack_patches, unpack_tokens

NATIVE = backends("pack_patches")
ALL = ["reference", *NATIVE]
NAN = float("nan")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    values = torch.rand(shape, generator=seeded(seed))
    if dtype in (torch.uint8, torch.uint16):
        return (values * (255 if dtype == torch.uint8 else 65535)).to(torch.int32).to(dtype)
    return values.to(dtype)


def soft(shape: tuple[int, ...], seed: int = 3) -> Tensor:
    """A third of zeros, some ones, soft between."""
    return (torch.rand(shape, generator=seeded(seed)) * 1.6 - 0.4).clamp(0, 1)


def in_layout(tensor: Tensor, layout: str) -> Tensor:
    return tensor if layout == "NCHW" else tensor.permute(0, 2, 3, 1)


def equal(a: Tensor, b: Tensor) -> bool:
    """Bit for bit; uint16 has no comparison."""
    if a.dtype == torch.uint16:
        a, b = a.view(torch.int16), b.view(torch.int16)
    return torch.equal(a, b)


@st.composite
def batches(draw: st.DrawFn) -> dict:
    """Frames of any dtype and strides, patches to keep, a permutation of them, a soft mask."""
    n, c = draw(st.integers(1, 3)), draw(st.sampled_from((1, 2, 3, 5)))
    patch = draw(st.sampled_from((1, 2, 7, 8, 16, 17, 32)))
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    layout = draw(st.sampled_from(("NCHW", "NHWC")))
    dtype = draw(st.sampled_from(IMAGE_DTYPES))
    seed = draw(st.integers(0, 999))
    image = samples((n, c, rows * patch, columns * patch), dtype, seed)
    mask = soft((n, 1, rows * patch, columns * patch), seed)
    kind = draw(st.sampled_from(("contiguous", "transposed", "offset")))
    if dtype == torch.uint16:
        kind = "contiguous"
    share = draw(st.sampled_from((0.0, 0.4, 1.0)))
    keep = torch.rand(n, rows * columns, generator=seeded(seed)) < share
    return {
        "image": relayout(in_layout(image, layout), kind), "mask": in_layout(mask, layout),
        "keep": keep, "patch": patch, "layout": layout, "seed": seed,
    }  # fmt: skip


@pytest.mark.parametrize("backend", NATIVE)
@settings(max_examples=80)
@given(batch=batches(), kind=st.sampled_from((None, torch.float32, torch.bfloat16)))
def test_agrees_with_reference(backend, device, batch, kind):
    layout, patch = batch["layout"], batch["patch"]
    image, mask, keep = (batch[k].to(device) for k in ("image", "mask", "keep"))
    found = {}
    for name in ("reference", backend):
        with ops.backend(name):
            tokens, index, bounds = pack_patches(image, keep, patch, layout=layout, dtype=kind)
            if kind is not None:
                tokens = (tokens * 1.5 - 0.25).to(kind)  # out of range, for the integers
            order = torch.randperm(len(index), generator=seeded(batch["seed"])).to(device)
            under = in_layout(samples(tuple(in_nchw(image, layout)), image.dtype, 7), layout)
            under = under.to(device)
            found[name] = (
                tokens, index, bounds,
                unpack_patches(tokens, index[order], under, patch, layout=layout),
                unpack_patches(tokens, index[order], under, patch, mask=mask, layout=layout),
                foreground_patches(mask, patch, layout=layout),
            )  # fmt: skip
            outside = (mask == 0).expand(image.shape)
            assert equal(found[name][4][outside], under[outside])
    for expected, got in zip(*found.values(), strict=True):
        assert got.dtype == expected.dtype
        assert_close(got, expected)
    if kind is None:
        assert equal(found[backend][0], found["reference"][0])
        assert equal(found[backend][3], found["reference"][3])


def in_nchw(image: Tensor, layout: str) -> torch.Size:
    return (image if layout == "NCHW" else image.permute(0, 3, 1, 2)).shape


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("dtype", IMAGE_DTYPES, ids=str)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_unpack_undoes_pack(backend, dtype, share, device):
    image = samples((2, 3, 32, 48), dtype).to(device)
    keep = (torch.rand(2, 6, generator=seeded(1)) < share).to(device)
    with ops.backend(backend):
        tokens, index, _ = pack_patches(image, keep)
        assert equal(unpack_patches(tokens, index, image), image)
        blank = torch.zeros_like(image)
        rebuilt = unpack_patches(tokens, index, blank)
        again, _, _ = pack_patches(rebuilt, keep)
        assert equal(again, tokens)
        elsewhere, _, _ = pack_patches(rebuilt, ~keep)
        assert not elsewhere.to(torch.float32).any()


@pytest.mark.parametrize("backend", ALL)
def test_order_of_patches_and_samples(backend, device):
    """Explicit indexing: sample ((row * 4 + column) * 3 + channel) of patch n * P + i."""
    image = torch.arange(2 * 3 * 8 * 12, dtype=torch.float32).view(2, 3, 8, 12).to(device)
    keep = torch.tensor([[0, 1, 0, 0, 1, 1], [1, 0, 0, 0, 0, 1]], dtype=torch.bool).to(device)
    with ops.backend(backend):
        tokens, index, bounds = pack_patches(image, keep, 4)
    assert index.tolist() == [1, 4, 5, 6, 11]
    assert (bounds.tolist(), bounds.dtype) == ([0, 3, 5], torch.int32)
    for token, number in zip(tokens, index.tolist(), strict=True):
        n, y, x = number // 6, number % 6 // 3 * 4, number % 3 * 4
        for row in range(4):
            for column in range(4):
                for channel in range(3):
                    at = (row * 4 + column) * 3 + channel
                    assert token[at] == image[n, channel, y + row, x + column]


def test_channel_first_tokens_are_noticed(device):
    """The usual other order, (channel, row, column), is another tensor."""
    image = samples((1, 3, 16, 16), torch.float32).to(device)
    keep = torch.ones(1, 1, dtype=torch.bool, device=device)
    tokens, _, _ = pack_patches(image, keep)
    wrong = image.flatten()[None]
    assert tokens.shape == wrong.shape
    assert torch.equal(tokens.sort().values, wrong.sort().values)
    assert not torch.equal(tokens, wrong)


@pytest.mark.parametrize("backend", ALL)
def test_one_sequence_per_clip(backend, device):
    image = samples((6, 3, 4, 8), torch.float32).to(device)
    keep = (torch.rand(6, 2, generator=seeded(5)) < 0.5).to(device)
    with ops.backend(backend):
        one = pack_patches(image, keep, 4)
        clips = pack_patches(image, keep, 4, frames_per_clip=3)
    assert torch.equal(one[0], clips[0])
    assert clips[2].tolist() == [0, int(keep[:3].sum()), int(keep.sum())]
    assert one[2].diff().tolist() == keep.sum(1).tolist()
    assert one[2][-1] == len(one[1])


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.uint16, torch.float32], ids=str)
def test_foreground_patches(backend, dtype, device):
    """One pixel in a corner of each of two patches; the smallest value there is counts."""
    mask = torch.zeros(2, 1, 8, 12, dtype=torch.int32)
    mask[0, 0, 3, 4] = mask[1, 0, 7, 11] = 1
    mask = mask.to(dtype).to(device) if dtype != torch.float32 else mask.to(device) * 1e-6
    with ops.backend(backend):
        found = foreground_patches(mask, 4)
    assert found.int().flatten().nonzero()[:, 0].tolist() == [1, 11]


@pytest.mark.parametrize("backend", ALL)
def test_nan_under_a_zero_of_the_mask_stays_out(backend, device):
    image = samples((1, 3, 4, 4), torch.float32).to(device)
    tokens, index = torch.full((1, 48), NAN, device=device), torch.tensor([0], device=device)
    mask = torch.zeros(1, 1, 4, 4, device=device)
    with ops.backend(backend):
        assert torch.equal(unpack_patches(tokens, index, image, 4, mask=mask), image)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_given_memory(backend, layout, device):
    image = in_layout(samples((2, 3, 16, 32), torch.float32), layout).contiguous().to(device)
    keep = torch.tensor([[True, False], [True, True]], device=device)
    options = {"patch": 16, "layout": layout}
    with ops.backend(backend):
        tokens, index, _ = pack_patches(image, keep, **options)
        buffer = torch.full((5, 768), NAN, device=device)
        same, _, _ = pack_patches(image, keep, out=buffer, **options)
        assert torch.equal(same, tokens)
        assert same.data_ptr() == buffer.data_ptr()
        assert buffer[3:].isnan().all()
        expected = unpack_patches(tokens + 1, index, image, **options)
        other = torch.full_like(image, NAN)
        assert unpack_patches(tokens + 1, index, image, out=other, **options) is other
        assert torch.equal(other, expected)
        assert unpack_patches(tokens + 1, index, image, out=image, **options) is image
        assert torch.equal(image, expected)


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("channels", [2, 3])
def test_gradients(backend, layout, with_mask, channels, device):
    shape = (2, channels, 16, 48)
    keep = (torch.rand(2, 3, generator=seeded(2)) < 0.6).to(device)
    weight = torch.randn(shape, generator=seeded(4))
    found = []
    for name in ("reference", backend):
        image = in_layout(samples(shape, torch.float32), layout).to(device).requires_grad_()
        mask = in_layout(soft((2, 1, 16, 48)), layout).to(device).requires_grad_()
        factors = in_layout(weight, layout).to(device)
        with ops.backend(name):
            tokens, index, _ = pack_patches(image, keep, layout=layout)
            out = unpack_patches(
                tokens.sin(), index, image, mask=mask if with_mask else None, layout=layout
            )
            wanted = (image, tokens, mask) if with_mask else (image, tokens)
            found.append(torch.autograd.grad((out * factors).sum(), wanted))
    for expected, got in zip(*found, strict=True):
        assert expected.norm() > 0
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", NATIVE)
def test_half_tokens_of_float_frames(backend, dtype, device):
    image = samples((1, 3, 16, 32), torch.float32).to(device).requires_grad_()
    keep = torch.tensor([[False, True]], device=device)
    with ops.backend(backend):
        tokens, _index, _ = pack_patches(image, keep, dtype=dtype)
        assert tokens.dtype == dtype
        (grad,) = torch.autograd.grad(tokens.float().sum(), image)
    assert grad.dtype == torch.float32
    assert (grad[..., :16] == 0).all()
    assert (grad[..., 16:] == 1).all()


def test_reference_passes_gradcheck():
    image = torch.rand(2, 2, 4, 6, dtype=torch.float64, generator=seeded(1)).requires_grad_()
    mask = soft((2, 1, 4, 6)).double().clamp(0.1, 0.9).requires_grad_()
    keep = torch.tensor([[1, 0, 1, 0, 0, 1], [0, 1, 0, 0, 0, 0]], dtype=torch.bool)
    index = keep.flatten().nonzero()[:, 0]
    tokens = torch.rand(4, 8, dtype=torch.float64, generator=seeded(2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: pack_patches(v, keep, 2)[0], (image,))
    assert torch.autograd.gradcheck(
        lambda t, v, m: unpack_patches(t, index, v, 2, mask=m), (tokens, image, mask)
    )


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rows_of_tokens(backend, dtype, device):
    tokens = samples((3, 5, 33), dtype).to(device).requires_grad_()
    keep = (torch.rand(3, 5, generator=seeded(3)) < 0.5).to(device)
    fill = samples((33,), dtype, 9).to(device).requires_grad_()
    with ops.backend(backend):
        packed, index, bounds = pack_tokens(tokens, keep)
        assert torch.equal(packed, tokens[keep])
        assert torch.equal(index, keep.flatten().nonzero()[:, 0])
        assert bounds.diff().tolist() == keep.sum(1).tolist()
        assert torch.equal(unpack_tokens(packed, index, tokens), tokens)
        filled = unpack_tokens(packed, index, fill, size=(3, 5))
        assert torch.equal(filled, torch.where(keep[..., None], tokens, fill))
        grads = torch.autograd.grad(filled.float().sum(), (tokens, fill))
    assert torch.equal(grads[0].float(), keep[..., None].expand(3, 5, 33).float())
    assert (grads[1].float() == (~keep).sum()).all()


@pytest.mark.parametrize("backend", ALL)
def test_nothing_to_do(backend, device):
    image = torch.zeros(2, 3, 16, 32, device=device, requires_grad=True)
    with ops.backend(backend):
        tokens, index, bounds = pack_patches(image, torch.zeros(2, 2, dtype=torch.bool).to(device))
        assert tokens.shape == (0, 768)
        assert bounds.tolist() == [0, 0, 0]
        (grad,) = torch.autograd.grad(tokens.sum(), image)
        assert (grad == 0).all()
        none = image[:0]
        tokens, index, bounds = pack_patches(none, torch.zeros(0, 2, dtype=torch.bool).to(device))
        assert bounds.tolist() == [0]
        assert unpack_patches(tokens, index, none).shape == none.shape
        assert foreground_patches(none[:, :1]).shape == (0, 2)


@pytest.mark.parametrize("backend", NATIVE)
def test_results_do_not_depend_on_threads(backend, device):
    image, before, results = samples((4, 3, 64, 96), torch.float32), torch.get_num_threads(), []
    keep, mask = torch.rand(4, 24, generator=seeded(0)) < 0.5, soft((4, 1, 64, 96))
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            leaf, m = image.to(device).requires_grad_(), mask.to(device).requires_grad_()
            with ops.backend(backend):
                tokens, index, _ = pack_patches(leaf, keep.to(device))
                out = unpack_patches(tokens * 2, index, leaf, mask=m)
                results.append((tokens, out, *torch.autograd.grad(out.square().sum(), (leaf, m))))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


# ---- torch.library ------------------------------------------------------------------------------


def library_samples() -> dict[str, Tensor]:
    v = samples((2, 3, 8, 12), torch.float32)
    return {
        "contiguous": v,
        "transposed": v.transpose(2, 3).contiguous().transpose(2, 3),
        "channels_last": v.contiguous(memory_format=torch.channels_last),
        "sliced": samples((2, 6, 16, 24), torch.float32)[:, ::2, ::2, 1::2],
        "expanded": samples((1, 3, 8, 12), torch.float32).expand(2, 3, 8, 12),
        "empty": v[:0],
    }


@pytest.mark.parametrize("sample", library_samples())
def test_opcheck(sample):
    if "cpp" not in NATIVE:
        pytest.skip("vharm._C is not built")
    image = library_samples()[sample].detach().requires_grad_()
    keep = torch.tensor([[1, 0, 1, 0, 0, 1], [0, 1, 0, 0, 0, 0]], dtype=torch.bool)[: len(image)]
    mask = torch.full((len(image), 1, 8, 12), 0.5, requires_grad=True)
    library = torch.ops.vharm
    index, _ = library.patch_index(keep, 1, None)
    torch.library.opcheck(library.patch_index.default, (keep, 1, None))
    options = (4, False, torch.float32, "cpp")
    torch.library.opcheck(library.pack_patches.default, (image, index, *options))
    tokens = library.pack_patches(image, index, *options).detach().requires_grad_()
    torch.library.opcheck(
        library.unpack_patches.default, (tokens, index, image, mask, 4, False, "cpp")
    )
    plain = image.detach().clone()
    torch.library.opcheck(
        library.unpack_patches_.default, (tokens.detach(), index, plain, None, 4, False, "cpp")
    )


@pytest.mark.parametrize("count", [None, 3])
@torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)
def test_compiles_without_graph_break(count, device):

    def step(image: Tensor, keep: Tensor) -> Tensor:
        tokens, index, _ = pack_patches(image, keep, 4, count=count)
        return unpack_patches(tokens * 2, index, image, 4)

    image = samples((2, 3, 8, 12), torch.float32).to(device)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for seed in range(2):  # other numbers of tokens in the same graph
        keep = torch.zeros(12, dtype=torch.bool)
        keep[torch.randperm(12, generator=seeded(seed))[: count or 2 + 3 * seed]] = True
        keep = keep.view(2, 6).to(device)
        results = []
        for run in (compiled, step):
            leaf = image.clone().requires_grad_()
            out = run(leaf, keep)
            results.append((out, *torch.autograd.grad(out.square().sum(), leaf)))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


# ---- errors -------------------------------------------------------------------------------------

IMAGE, KEEP = torch.zeros(2, 3, 16, 32), torch.ones(2, 2, dtype=torch.bool)
TOKENS, INDEX = torch.zeros(1, 768), torch.tensor([0])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: pack_patches(IMAGE[..., :30], KEEP), ValueError, "pad it to 16 x 32"),
        (lambda: pack_patches(IMAGE, KEEP, 0), ValueError, "patch must be at least 1"),
        (lambda: pack_patches(IMAGE, KEEP, 16.0), TypeError, "patch must be an int"),
        (lambda: pack_patches(IMAGE, KEEP.int()), TypeError, "keep.*int32"),
        (lambda: pack_patches(IMAGE, KEEP[:, :1]), ValueError, r"keep.*\[2, 2\]"),
        (lambda: pack_patches(IMAGE, KEEP, dtype=torch.uint8), TypeError, "dtype must be a float"),
        (lambda: pack_patches(IMAGE, KEEP, frames_per_clip=3), ValueError, "frames_per_clip"),
        (lambda: pack_patches(IMAGE, KEEP, count=3), ValueError, r"keep.sum\(\) = 4; got 3"),
        (lambda: pack_patches(IMAGE, KEEP, out=TOKENS), ValueError, "out.*at least 4 rows"),
        (lambda: pack_patches(IMAGE, KEEP, layout="HWC"), ValueError, "layout"),
        (lambda: foreground_patches(IMAGE), ValueError, "mask.*1"),
        (lambda: foreground_patches(IMAGE[:, :1].int()), TypeError, "mask.*int32"),
        (lambda: unpack_patches(TOKENS, INDEX.int(), IMAGE), TypeError, "index.*int64"),
        (lambda: unpack_patches(TOKENS[:, 1:], INDEX, IMAGE), ValueError, r"tokens.*\[1, 768\]"),
        (lambda: unpack_patches(TOKENS, INDEX, IMAGE, mask=IMAGE), ValueError, "mask"),
        (lambda: unpack_patches(TOKENS, INDEX + 4, IMAGE), IndexError, r"index.*\[0, 4\)"),
        (lambda: unpack_patches(TOKENS, INDEX - 1, IMAGE), IndexError, "index"),
        (lambda: unpack_patches(TOKENS.int(), INDEX, IMAGE), TypeError, "tokens.*int32"),
        (
            lambda: unpack_patches(TOKENS.requires_grad_(), INDEX, IMAGE, out=IMAGE), ValueError,
            "gradient",
        ),
        (lambda: pack_tokens(IMAGE, KEEP), ValueError, r"tokens.*\[N, P, C\]"),
        (lambda: unpack_tokens(IMAGE[0, 0], INDEX, IMAGE[0, 0, 0]), ValueError, "size"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(call, error, words):
    with ops.backend("cpp" if "cpp" in NATIVE else "reference"), pytest.raises(error, match=words):
        call()

# SPDX-License-Identifier: Apache-2.0
"""`vharm._cuda`: what it says of itself without a GPU, and its kernels against the reference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import ModuleType

import pytest
import torch
from torch import Tensor

from vharm import ops
from vharm.ops import _native
from vharm.ops.filters import DEFAULT_FILTERS, FILTERS

CHAINS = {
    "default": DEFAULT_FILTERS,
    "reversed": DEFAULT_FILTERS[::-1],
    "all": FILTERS,
    "repeated": ("contrast", "saturation", "contrast", "temperature", "temperature", "hue"),
    "none": (),
}
# What rounding costs: a dark sample that passes highlight, 1 - p, is some 1e-7 off, and the power
# of a shadow filter after it multiplies that by hundreds.
TOLERANCE = {
    torch.float32: 1e-4,
    torch.float16: 2**-10,
    torch.bfloat16: 2**-7,
    torch.uint8: 1,
    torch.uint16: 8,
}
FUNCTIONS = [
    name + suffix
    for name in ("filter_chain", "chain_means", "filter_chain_loss")
    for suffix in ("", "_backward")
]


@pytest.fixture(scope="module")
def module() -> ModuleType:
    loaded, reason = _native._load("_cuda")
    if loaded is None:
        pytest.skip(str(reason))
    return loaded


@pytest.fixture
def gpu(module: ModuleType, device: torch.device) -> torch.device:
    assert module.device_status() == "ok"
    return device if device.type == "cuda" else torch.device("cuda")


# ---- without a GPU ------------------------------------------------------------------------------


def without_gpu(module: ModuleType) -> str:
    status = module.device_status()
    if status == "ok":
        pytest.skip("the module sees a usable device")
    return status


def test_status_is_a_reason(module: ModuleType) -> None:
    status = module.device_status()
    assert isinstance(status, str)
    assert module.device_status() == status
    if not torch.cuda.is_available() and torch.version.cuda is not None:
        assert status != "ok"
    assert status == "ok" or re.search("driver|GPU|CUDA", status)


def test_build_info(module: ModuleType) -> None:
    info = module.build_info()
    assert re.fullmatch(r"\d+\.\d", info["runtime"])
    assert info["driver"] is None or re.fullmatch(r"\d+\.\d", info["driver"])
    assert info["archs"]
    assert all(isinstance(a, int) and a >= 50 for a in info["archs"])
    assert (info["driver"] is None) == ("no NVIDIA driver" in module.device_status())


def test_explain_gives_the_reason(module: ModuleType) -> None:
    status = without_gpu(module)
    rows = {row.op: row for row in ops.explain("cuda", torch.uint8)}
    for op in ("filter_chain", "filter_statistics", "filter_chain_loss"):
        assert rows[op].reasons["cuda"] == status
        assert rows[op].backend != "cuda"


def test_forced_on_cpu_tensors_it_says_why_not(module: ModuleType) -> None:
    image = torch.rand(1, 3, 4, 4)
    with ops.backend("cuda"), pytest.raises(RuntimeError, match="runs on CUDA tensors; .* on cpu"):
        ops.filter_chain(image, None, torch.zeros(1, 6))


def test_not_built_is_a_reason_too(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "vharm._cuda was not built (see VHARM_BUILD in the installation notes)"
    monkeypatch.setattr(_native, "_load", lambda name: (None, reason))
    with ops.backend("cuda"), pytest.raises(RuntimeError, match="was not built"):
        ops.filter_chain(torch.rand(1, 3, 4, 4), None, torch.zeros(1, 6))


def raw_call(module: ModuleType, name: str, height: int, filters: Sequence[int]) -> None:
    """Calls a function on host memory, one image of `height` rows, which no GPU may touch."""
    image = torch.rand(1, 3, height, 4)
    view = _native.image_view(image, "NCHW")
    mask = _native.mask_view(image[:, :1], "NCHW", 1.0)
    small = torch.zeros(1, 64, 3)
    chain = (small.data_ptr(), small.data_ptr())
    stage = (list(filters), False)
    grads = (None, small.data_ptr(), small.data_ptr())
    arguments = {
        "filter_chain": (view, mask, *chain, *stage, view),
        "filter_chain_backward": (view, view, mask, *chain, *stage, None, *grads),
        "chain_means": (view, *chain, *stage, small.data_ptr()),
        "chain_means_backward": (small.data_ptr(), view, *chain, *stage, *grads),
        "filter_chain_loss": (view, mask, *chain, view, 0, *stage, small.data_ptr()),
        "filter_chain_loss_backward":
            (small.data_ptr(), view, mask, *chain, view, 0, *stage, *grads),
    }  # fmt: skip
    getattr(module, name)(*arguments[name], (0, True))


def test_both_modules_take_the_same_but_for_where(module: ModuleType) -> None:
    shared = [name for name in dir(module) if hasattr(_native.cpu_module(), name)]
    shared = [name for name in shared if not name.startswith("_")]
    assert set(FUNCTIONS) < set(shared)
    for name in shared:
        signatures = [getattr(one, name).__doc__ for one in (module, _native.cpu_module())]
        gpu, cpu = (text[: text.rindex(", arg")] for text in signatures)
        assert gpu == cpu


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_to_do_needs_no_gpu(module: ModuleType, name: str) -> None:
    raw_call(module, name, 0, range(6))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_too_many_filters(module: ModuleType, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: this case has no native kernel"):
        raw_call(module, name, 0, [0] * 17)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_failed_launch_is_an_error(module: ModuleType, name: str) -> None:
    without_gpu(module)
    with pytest.raises(RuntimeError, match=rf"{name}: CUDA: \w+"):
        raw_call(module, name, 4, range(6))


# ---- on a GPU, against the reference ------------------------------------------------------------


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_image(
    n: int, h: int, w: int, dtype: torch.dtype, layout: str = "NCHW", seed: int = 1
) -> Tensor:
    """Floats reach a little beyond [0,1]."""
    values = torch.rand(n, 3, h, w, generator=seeded(seed))
    if dtype.is_floating_point:
        values = (values * 1.1 - 0.05).to(dtype)
    else:
        values = (values * (255 if dtype == torch.uint8 else 65535)).to(torch.int32).to(dtype)
    return values if layout == "NCHW" else values.permute(0, 2, 3, 1).contiguous()


def random_mask(
    n: int, h: int, w: int, dtype: torch.dtype = torch.float32, layout: str = "NCHW"
) -> Tensor:
    """Zeros, ones and values between; a third of the columns is zero."""
    values = (torch.rand(n, 1, h, w, generator=seeded(7)) * 1.6 - 0.3).clamp(0, 1)
    values[..., : w // 3] = 0
    if dtype == torch.bool:
        values = values > 0.5
    elif not dtype.is_floating_point:
        values = (values * (255 if dtype == torch.uint8 else 65535)).to(torch.int32).to(dtype)
    else:
        values = values.to(dtype)
    return values if layout == "NCHW" else values.permute(0, 2, 3, 1).contiguous()


def random_arguments(n: int, k: int) -> Tensor:
    return torch.rand(n, k, generator=seeded(5)) * 1.2 - 0.6


def numbers(tensor: Tensor) -> Tensor:
    """Doubles on the CPU; uint16 has few operators."""
    tensor = tensor.detach().cpu()
    return (tensor if tensor.is_floating_point() else tensor.to(torch.int32)).double()


def check_chain(
    image: Tensor, mask: Tensor | None, chain: Sequence[str], gpu: torch.device, layout: str,
    **options: float | bool,
) -> Tensor:  # fmt: skip
    """The GPU's output, once it was found equal to the reference's."""
    arguments = random_arguments(image.shape[0], len(chain))
    with ops.backend("reference"):
        statistics = ops.filter_statistics(image, arguments, filters=chain, layout=layout)
        expected = ops.filter_chain(
            image, mask, arguments, filters=chain, statistics=statistics, layout=layout, **options
        )
    with ops.backend("cuda"):
        actual = ops.filter_chain(
            image.to(gpu), None if mask is None else mask.to(gpu), arguments.to(gpu),
            filters=chain, statistics=statistics.to(gpu), layout=layout, **options,
        )  # fmt: skip
    assert (actual.dtype, actual.shape) == (image.dtype, image.shape)
    error = (numbers(actual) - numbers(expected)).abs().max().item()
    assert error <= TOLERANCE[image.dtype]
    return actual.cpu()


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("size", [(2, 12, 16), (1, 5, 7), (2, 3, 37), (1, 1, 1), (1, 130, 260)])
def test_every_dtype_and_layout(
    gpu: torch.device, dtype: torch.dtype, layout: str, size: tuple[int, int, int]
) -> None:
    image = random_image(*size, dtype, layout)
    mask = random_mask(*size, torch.float32, layout)
    actual = check_chain(image, mask, DEFAULT_FILTERS, gpu, layout)
    # Where the mask is 0, the input's own bits.
    untouched = (mask == 0).expand(image.shape)
    assert torch.equal(numbers(actual)[untouched], numbers(image)[untouched])


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(CHAINS))
@pytest.mark.parametrize("quantized", [False, True])
def test_every_chain(gpu: torch.device, name: str, quantized: bool) -> None:
    image = random_image(2, 9, 20, torch.float32)
    mask = random_mask(2, 9, 20)
    check_chain(image, mask, CHAINS[name], gpu, "NCHW", quantized_contrast=quantized)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.uint16, torch.float16, torch.bfloat16, None], ids=str
)
@pytest.mark.parametrize("strength", [1.0, 0.5, 0.0])
def test_every_mask(gpu: torch.device, dtype: torch.dtype | None, strength: float) -> None:
    image = random_image(2, 8, 20, torch.uint8, "NHWC")
    mask = None if dtype is None else random_mask(2, 8, 20, dtype, "NHWC")
    actual = check_chain(image, mask, DEFAULT_FILTERS, gpu, "NHWC", strength=strength)
    if strength == 0:
        assert torch.equal(actual, image)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_any_strides(gpu: torch.device, dtype: torch.dtype) -> None:
    arguments = random_arguments(2, 6).to(gpu)
    wide = random_image(2, 11, 23, dtype).to(gpu)
    mask = random_mask(2, 8, 16).to(gpu)
    views = {
        "crop": wide[:, :, 1:9, 3:19],
        "flipped order": wide[:, :, 1:9, 3:19].transpose(1, 3).contiguous().transpose(1, 3),
        "repeated": wide[:1, :, 1:9, 3:19].expand(2, -1, -1, -1),
    }
    with ops.backend("cuda"):
        for name, view in views.items():
            actual = ops.filter_chain(view, mask, arguments)
            expected = ops.filter_chain(view.contiguous(), mask, arguments)
            assert torch.equal(actual, expected), name


@pytest.mark.gpu
def test_nan_comes_through(gpu: torch.device) -> None:
    image = random_image(1, 4, 8, torch.float32)
    image[0, 1, 2, 3] = float("nan")
    means = torch.full((1, 6, 3), 0.4, device=gpu)
    with ops.backend("cuda"):
        out = ops.filter_chain(
            image.to(gpu), None, random_arguments(1, 6).to(gpu), statistics=means
        ).cpu()
    assert out[0, 1, 2, 3].isnan()
    assert not out[0, :, 0, 0].isnan().any()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_statistics(gpu: torch.device, dtype: torch.dtype, layout: str) -> None:
    image = random_image(2, 33, 41, dtype, layout)
    arguments = random_arguments(2, len(FILTERS))
    with ops.backend("reference"):
        expected = ops.filter_statistics(image, arguments, filters=FILTERS, layout=layout)
    with ops.backend("cuda"):
        actual = ops.filter_statistics(
            image.to(gpu), arguments.to(gpu), filters=FILTERS, layout=layout
        )
    torch.testing.assert_close(actual.cpu(), expected, atol=5e-6, rtol=0)


def gradients(
    backend: str, chain: Sequence[str], layout: str, dtype: torch.dtype, place: torch.device
) -> list[Tensor]:
    """Of a random projection of the output, to image, mask and arguments (through the means)."""
    image = random_image(2, 9, 13, dtype, layout).to(place).requires_grad_()
    mask = random_mask(2, 9, 13, torch.float32, layout).to(place).requires_grad_()
    arguments = random_arguments(2, len(chain)).to(place).requires_grad_()
    direction = torch.randn(image.shape, generator=seeded(3)).to(place)
    with ops.backend(backend):
        out = ops.filter_chain(image, mask, arguments, filters=chain, layout=layout, strength=0.7)
        (out.float() * direction).sum().backward()
    return [t.grad.cpu().float() for t in (image, mask, arguments) if t.grad is not None]


@pytest.mark.gpu
@pytest.mark.parametrize("name", [n for n in CHAINS if n != "none"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_gradients(gpu: torch.device, name: str, layout: str) -> None:
    chain, cpu = CHAINS[name], torch.device("cpu")
    expected = gradients("reference", chain, layout, torch.float32, cpu)
    actual = gradients("cuda", chain, layout, torch.float32, gpu)
    assert len(actual) == len(expected) == 3
    for a, e in zip(actual, expected, strict=True):
        # As vectors, and at every place: single dark samples are ill-conditioned, their sum is not.
        assert (a - e).norm() <= 5e-4 * e.norm()
        torch.testing.assert_close(a, e, atol=5e-3 * float(e.abs().max()), rtol=0)


@pytest.mark.gpu
def test_gradients_of_half_images(gpu: torch.device) -> None:
    cpu = torch.device("cpu")
    expected = gradients("reference", DEFAULT_FILTERS, "NCHW", torch.bfloat16, cpu)
    actual = gradients("cuda", DEFAULT_FILTERS, "NCHW", torch.bfloat16, gpu)
    for a, e in zip(actual, expected, strict=True):
        assert (a - e).norm() <= 1e-2 * e.norm()


def losses(backend: str, chain: Sequence[str], place: torch.device) -> list[Tensor]:
    """The losses and their gradients to image and arguments."""
    image = random_image(2, 9, 14, torch.float32).to(place).requires_grad_()
    arguments = random_arguments(2, len(chain)).to(place).requires_grad_()
    targets = torch.rand(2, len(chain), 3, 9, 14, generator=seeded(11)).to(place)
    mask = random_mask(2, 9, 14).to(place)
    with ops.backend(backend):
        result = ops.filter_chain_loss(image, mask, arguments, targets, filters=chain)
        (result * torch.linspace(0.5, 2, len(chain), device=place)).sum().backward()
    assert image.grad is not None
    assert arguments.grad is not None
    return [result.detach().cpu(), image.grad.cpu(), arguments.grad.cpu()]


@pytest.mark.gpu
@pytest.mark.parametrize("name", [n for n in CHAINS if n != "none"])
def test_losses(gpu: torch.device, name: str) -> None:
    expected = losses("reference", CHAINS[name], torch.device("cpu"))
    actual = losses("cuda", CHAINS[name], gpu)
    for a, e in zip(actual, expected, strict=True):
        assert (a - e).norm() <= 5e-4 * e.norm()
    torch.testing.assert_close(actual[0], expected[0], atol=1e-4, rtol=1e-5)


@pytest.mark.gpu
def test_empty_masks_lose_nothing(gpu: torch.device) -> None:
    image = random_image(1, 6, 5, torch.float32).to(gpu).requires_grad_()
    with ops.backend("cuda"):
        result = ops.filter_chain_loss(
            image, torch.zeros(1, 1, 6, 5, device=gpu), torch.zeros(1, 6, device=gpu),
            torch.zeros(1, 6, 3, 6, 5, device=gpu),
        )  # fmt: skip
        result.sum().backward()
    assert torch.equal(result.cpu(), torch.zeros(1, 6))
    assert image.grad is not None
    assert not image.grad.any()


@pytest.mark.gpu
def test_the_same_on_every_run_and_in_every_batch(gpu: torch.device) -> None:
    image = random_image(3, 67, 90, torch.float32).to(gpu)
    arguments = random_arguments(3, 6).to(gpu)
    with ops.backend("cuda"):
        first = ops.filter_statistics(image, arguments)
        again = ops.filter_statistics(image, arguments)
        alone = torch.cat(
            [ops.filter_statistics(image[i : i + 1], arguments[i : i + 1]) for i in range(3)]
        )
    assert torch.equal(first, again)
    assert torch.equal(first, alone)


@pytest.mark.gpu
def test_side_stream_and_graph(gpu: torch.device) -> None:
    image = random_image(1, 64, 64, torch.float32).to(gpu)
    arguments = random_arguments(1, 6).to(gpu)
    with ops.backend("cuda"):
        expected = ops.filter_chain(image, None, arguments)
        stream = torch.cuda.Stream(gpu)
        stream.wait_stream(torch.cuda.current_stream(gpu))
        with torch.cuda.stream(stream):
            beside = ops.filter_chain(image, None, arguments)
        torch.cuda.current_stream(gpu).wait_stream(stream)
        assert torch.equal(beside, expected)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = ops.filter_chain(image, None, arguments)
    captured.zero_()
    for _ in range(2):
        graph.replay()
    assert torch.equal(captured, expected)

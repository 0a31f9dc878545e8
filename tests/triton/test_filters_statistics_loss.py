# SPDX-License-Identifier: Apache-2.0
"""Triton's `filter_statistics` and `filter_chain_loss`, and the six functions called directly."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from triton_samples import (
    CHAINS,
    TOLERANCE,
    assert_gradients_near,
    assert_near,
    both,
    leaves,
    random_arguments,
    random_image,
    random_mask,
    seeded,
)

from vharm import ops
from vharm.ops._triton import triton_module
from vharm.ops.filters import FILTERS

NAN = float("nan")


# filter_statistics -------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_statistics_and_gradients(layout: str, device: torch.device) -> None:
    filters = ("saturation", "temperature", "brightness", "contrast", "hue", "contrast")
    shape = (2, 5, 7, 3) if layout == "NHWC" else (2, 3, 5, 7)
    factors = torch.randn(2, 6, 3, generator=seeded(9)).to(device)

    def run() -> tuple[Tensor, list[Tensor]]:
        image, arguments = leaves(random_image(shape), random_arguments(2, filters), device=device)
        out = ops.filter_statistics(image, arguments, filters=filters, layout=layout)
        (out * factors).sum().backward()
        return out, [image.grad, arguments.grad]

    (expected, expected_gradients), (got, gradients) = both(run)
    assert_near(got, expected)
    assert (got[:, 1] > 0).all()
    assert_gradients_near(gradients, expected_gradients, device)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_statistics_of_every_dtype(dtype: torch.dtype, device: torch.device) -> None:
    image, arguments = random_image((2, 3, 5, 7), dtype), random_arguments(2)
    expected, got = both(lambda: ops.filter_statistics(image.to(device), arguments.to(device)))
    assert_near(got, expected)


# filter_chain_loss -------------------------------------------------------------------------------


@pytest.mark.parametrize("chain", [*FILTERS, "default", "repeated"])
def test_loss_and_gradients(chain: str, device: torch.device) -> None:
    filters = CHAINS[chain]
    k = len(filters)
    mask = random_mask((2, 1, 5, 7)).to(device)
    targets = torch.rand(2, k, 3, 5, 7, generator=seeded(4)).to(device)
    factors = torch.randn(2, k, generator=seeded(5)).to(device)

    def run() -> tuple[Tensor, list[Tensor]]:
        image, arguments = leaves(
            random_image((2, 3, 5, 7)), random_arguments(2, filters), device=device
        )
        losses = ops.filter_chain_loss(image, mask, arguments, targets, filters=filters)
        (losses * factors).sum().backward()
        return losses, [image.grad, arguments.grad]

    (expected, expected_gradients), (got, gradients) = both(run)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=0)
    assert_gradients_near(gradients, expected_gradients, device)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.uint16, torch.float16], ids=str)
def test_loss_masks(dtype: torch.dtype, device: torch.device) -> None:
    mask = random_mask((2, 1, 5, 7), dtype).to(device)
    targets = torch.rand(2, 6, 3, 5, 7, generator=seeded(4)).to(device)

    def run() -> tuple[Tensor, list[Tensor]]:
        image, arguments = leaves(random_image((2, 3, 5, 7)), random_arguments(2), device=device)
        losses = ops.filter_chain_loss(image, mask, arguments, targets)
        losses.sum().backward()
        return losses, [image.grad, arguments.grad]

    (expected, expected_gradients), (got, gradients) = both(run)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=0)
    assert_gradients_near(gradients, expected_gradients, device)


def test_loss_of_an_empty_mask_is_zero(device: torch.device) -> None:
    image, arguments = leaves(random_image((2, 3, 4, 5)), random_arguments(2), device=device)
    targets = torch.full((2, 6, 3, 4, 5), NAN, device=device)
    with ops.backend("triton"):
        losses = ops.filter_chain_loss(
            image, torch.zeros(2, 1, 4, 5, device=device), arguments, targets
        )
        losses.sum().backward()
    assert (losses == 0).all()
    assert (image.grad == 0).all()
    assert (arguments.grad == 0).all()


# called directly ---------------------------------------------------------------------------------


@pytest.fixture
def kernels(device: torch.device) -> ModuleType:
    return triton_module("filters")


def poisoned(*shape: int, device: torch.device) -> Tensor:
    return torch.full(shape, NAN, device=device)


def test_every_output_is_written_everywhere(kernels: ModuleType, device: torch.device) -> None:
    """Outputs start as NaN; half of the image lies outside the mask, in blocks of their own."""
    n, k, h, w = 2, 8, 2, 300
    codes = list(range(8))
    image, mask = random_image((n, 3, h, w)).to(device), random_mask((n, 1, h, w)).to(device)
    mask[1] = 0
    arguments, statistics = random_arguments(n, FILTERS).to(device), torch.full((n, k, 3), 0.4)
    statistics = statistics.to(device)
    targets = torch.rand(n, k, 3, h, w, generator=seeded(4)).to(device)

    out = poisoned(n, 3, h, w, device=device)
    kernels.filter_chain(image, mask, arguments, statistics, codes, 1.0, False, False, out)
    means = poisoned(n, 3, device=device)
    kernels.chain_means(image, arguments, statistics, codes, False, False, means)
    losses = poisoned(n, k, device=device)
    kernels.filter_chain_loss(image, mask, arguments, statistics, targets, codes, False, losses)
    written = [out, means, losses]

    def outputs() -> list[Tensor]:
        shapes = ((n, 3, h, w), (n, k), (n, k, 3))
        written.extend(poisoned(*shape, device=device) for shape in shapes)
        return written[-3:]

    to_mask = poisoned(n, 1, h, w, device=device)
    to_image, *to_parameters = outputs()
    kernels.filter_chain_backward(
        torch.ones_like(image), image, mask, arguments, statistics, codes, 1.0, False, False,
        to_image, to_mask, *to_parameters,
    )  # fmt: skip
    kernels.chain_means_backward(
        torch.ones(n, 3, device=device), image, arguments, statistics, codes, False, False,
        *outputs(),
    )  # fmt: skip
    kernels.filter_chain_loss_backward(
        torch.ones(n, k, device=device), image, mask, arguments, statistics, targets, codes, False,
        *outputs(),
    )  # fmt: skip
    for tensor in (*written, to_mask):
        assert tensor.isfinite().all()
    assert (to_parameters[0][1] == 0).all()
    assert (to_parameters[0][0] != 0).all()


def test_gradients_not_asked_for_are_left_out(kernels: ModuleType, device: torch.device) -> None:
    image = random_image((1, 3, 3, 5)).to(device)
    arguments = random_arguments(1, FILTERS[:2]).to(device)
    statistics = torch.full((1, 2, 3), 0.4, device=device)
    results = []
    for to_image in (None, torch.empty_like(image)):
        to_arguments = poisoned(1, 2, device=device)
        kernels.filter_chain_backward(
            torch.ones_like(image), image, None, arguments, statistics, [0, 2], 1.0, False, False,
            to_image, None, to_arguments, poisoned(1, 2, 3, device=device),
        )  # fmt: skip
        results.append(to_arguments)
    assert torch.equal(*results)
    assert (results[0] != 0).all()


def test_bad_parameters_are_refused(kernels: ModuleType, device: torch.device) -> None:
    image = random_image((1, 3, 2, 3)).to(device)
    arguments, statistics = torch.zeros(1, 2, device=device), torch.zeros(1, 2, 3, device=device)
    out = torch.empty_like(image)

    def call(arguments: Tensor, statistics: Tensor, codes: list[int]) -> None:
        kernels.chain_means(image, arguments, statistics, codes, False, False, out)

    with pytest.raises(ValueError, match="filters must be at most 16 codes below 8"):
        call(arguments, statistics, [0, 8])
    with pytest.raises(TypeError, match=r"arguments must have dtype float32; got torch\.float64"):
        call(arguments.double(), statistics, [0, 1])
    with pytest.raises(ValueError, match=r"statistics must be contiguous with shape \[1, 2, 3\]"):
        call(arguments, statistics[:, :1], [0, 1])


def test_the_folder_works_without_the_package(kernels: ModuleType, tmp_path: Path) -> None:
    """Copied under another name, with nothing but torch and triton beside it."""
    folder = Path(kernels.__file__).parent
    shutil.copytree(folder, tmp_path / "borrowed", ignore=shutil.ignore_patterns("__pycache__"))
    code = "\n".join(
        [
            "import sys",
            f"sys.path.insert(0, {str(tmp_path)!r})",
            "import borrowed.filters as f",
            "assert f.NAMES[2] == 'contrast'",
            "assert not any(m.split('.')[0] == 'vharm' for m in sys.modules)",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_codes_agree_with_the_library(kernels: ModuleType) -> None:
    assert kernels.NAMES == FILTERS

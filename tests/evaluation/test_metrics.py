# SPDX-License-Identifier: Apache-2.0
"""Metrics of frames: against scikit-image, and against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vharm.evaluation import PROTOCOLS, fmse, fssim, mse, psnr, ssim, ssim_map

CO2NET = PROTOCOLS["co2net"]


def pictures(count=2, height=45, width=70, noise=20.0):
    generator = torch.Generator().manual_seed(1)
    target = 255 * torch.rand(count, 3, height, width, generator=generator)
    error = noise * torch.randn(count, 3, height, width, generator=generator)
    return (target + error).clamp(0, 255), target


def two_by_two(values, last):
    """[1,3,2,2] with all channels equal, and mask with `last` as its last value."""
    plane = torch.tensor(values, dtype=torch.float32).reshape(1, 1, 2, 2)
    masks = torch.tensor([0.0, 0.0, 1.0, last]).reshape(1, 1, 2, 2)
    return plane.expand(1, 3, 2, 2), masks


@pytest.mark.parametrize("constants", ["vharm", "co2net"])
def test_ssim_is_that_of_scikit_image(constants):
    metrics = pytest.importorskip("skimage.metrics")
    output, target = pictures()
    # scikit-image's constants are (K data_range)^2; those of co2net mean a range of 1.
    span = 255 if constants == "vharm" else 1
    found, maps = (
        ssim(output, target, PROTOCOLS[constants]),
        ssim_map(output, target, PROTOCOLS[constants]),
    )
    for number in range(2):
        mean, full = metrics.structural_similarity(
            output[number].double().numpy(), target[number].double().numpy(), channel_axis=0,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=span,
            full=True,
        )  # fmt: skip
        assert found[number].item() == pytest.approx(mean, abs=1e-9)
        assert abs(full.mean(0) - maps[number, 0].numpy()).max() < 1e-7


def test_ssim_of_flat_regions_is_exact_under_tiny_constants():
    output = torch.full((1, 3, 20, 20), 200.0)
    assert ssim(output, output.clone(), CO2NET).item() == pytest.approx(1.0, abs=1e-6)


def test_fssim_is_the_map_over_the_mask():
    output, target = pictures(1)
    masks = torch.zeros(1, 1, 45, 70)
    masks[..., :20, :30] = 1
    expected = ssim_map(output, target)[..., :20, :30].mean()
    assert fssim(output, target, masks).item() == pytest.approx(expected.item(), rel=1e-12)
    assert fssim(output, target, masks).item() != pytest.approx(ssim(output, target).item(), 1e-4)


def test_psnr_is_that_of_scikit_image_under_both_ranges():
    metrics = pytest.importorskip("skimage.metrics")
    output, target = pictures()
    output = output * 0.8 + 10
    for number in range(2):
        one, truth = output[number].double().numpy(), target[number].double().numpy()
        for protocol, span in (("vharm", 255), ("co2net", one.max() - one.min())):
            expected = metrics.peak_signal_noise_ratio(truth, one, data_range=span)
            found = psnr(output, target, PROTOCOLS[protocol])[number].item()
            assert found == pytest.approx(expected, abs=1e-9)


def test_fmse_by_hand():
    output, masks = two_by_two([10, 20, 30, 40], 1.0)
    target, _ = two_by_two([10, 16, 27, 36], 1.0)
    assert mse(output, target).item() == pytest.approx((16 + 9 + 16) / 4)
    assert fmse(output, target, masks).item() == pytest.approx((9 + 16) / 2)
    # The whole frame's error counts as the foreground's: 41/4 x 4 pixels / 2 with mask 1.
    assert fmse(output, target, masks, CO2NET).item() == pytest.approx(41 / 2)


def test_soft_masks_by_hand():
    output, masks = two_by_two([10, 20, 30, 40], 0.5)
    target, _ = two_by_two([10, 16, 27, 36], 0.5)
    assert fmse(output, target, masks).item() == pytest.approx((9 + 0.5 * 16) / 1.5)
    # A pixel of mask 0.5 is no foreground here.
    assert fmse(output, target, masks, CO2NET).item() == pytest.approx(41 / 1)


def test_ignoring_the_mask_is_another_number():
    output, target = pictures(1)
    masks = torch.zeros(1, 1, 45, 70)
    masks[..., :10, :10] = 1
    output = torch.where(masks > 0, output, target)
    assert fmse(output, target, masks).item() > 10 * mse(output, target).item()
    assert fmse(output, target, masks, CO2NET).item() == pytest.approx(
        fmse(output, target, masks).item()
    )


def test_no_foreground_and_no_error():
    _, target = pictures(1)
    empty = torch.zeros(1, 1, 45, 70)
    assert math.isnan(fmse(target, target, empty).item())
    assert math.isnan(fmse(target, target, empty, CO2NET).item())
    assert psnr(target, target).item() == math.inf
    assert ssim(target, target).item() == pytest.approx(1, abs=1e-12)


def test_refusals():
    output, target = pictures(1)
    with pytest.raises(TypeError, match="output: expected a float tensor, got"):
        mse(output.byte(), target)
    with pytest.raises(ValueError, match="target: expected shape"):
        mse(output, target[..., 1:])
    with pytest.raises(ValueError, match="masks: expected shape"):
        fmse(output, target, torch.ones(1, 1, 3, 3))
    with pytest.raises(ValueError, match="11x11 pixels or larger, got 70x10"):
        ssim(output[:, :, :10], target[:, :, :10])

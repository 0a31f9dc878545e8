# SPDX-License-Identifier: Apache-2.0
"""The classical transfers: exactness of their mathematics, and what users see of them."""

from __future__ import annotations

import warnings

import pytest
import torch

from vharm.color import lab_to_rgb, rgb_to_lab
from vharm.looks import LutLook
from vharm.methods import Histogram, Mkl, Reinhard, histogram, mkl, reinhard
from vharm.methods.transfer import Moments

METHODS = (Mkl, Reinhard, Histogram)
FULL = {"lightness": 1.0, "colour": 1.0}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def picture(height: int = 64, width: int = 80) -> torch.Tensor:
    """Texture of one distribution everywhere, correlated between channels."""
    mixing = torch.tensor([[0.10, 0.03, 0.0], [0.04, 0.08, 0.02], [0.0, 0.03, 0.09]])
    noise = torch.randn(3, height * width)
    colours = mixing @ noise + torch.tensor([0.45, 0.5, 0.4])[:, None]
    return colours.reshape(1, 3, height, width).clamp(0.05, 0.95)


def disc(height: int = 64, width: int = 80, radius: float = 18.0) -> torch.Tensor:
    """A soft-edged foreground mask."""
    y, x = torch.arange(height)[:, None] - height / 2, torch.arange(width)[None] - width / 2
    return (radius + 0.5 - (x**2 + y**2).sqrt()).clamp(0, 1)[None, None]


def error(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor) -> float:
    return float((((a - b) ** 2) * mask).sum() / (3 * mask.sum()))


def test_lab_of_known_colours():
    """White, and sRGB red by the published matrix and white point: (53.24, 80.09, 67.20)."""
    lab = rgb_to_lab(torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.float64))
    expected = torch.tensor(
        [[100, 0, 0], [53.24, 80.09, 67.20], [0, 0, 0]], dtype=torch.float64
    )  # fmt: skip
    torch.testing.assert_close(lab, expected, atol=0.02, rtol=0)
    colours = torch.rand(500, 3, dtype=torch.float64)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(colours)), colours, atol=1e-7, rtol=0)


def test_mkl_brings_one_covariance_to_the_other():
    for _ in range(10):
        a, b = torch.randn(2, 3, 3, dtype=torch.float64)
        source, target = a @ a.mT + 0.01 * torch.eye(3), b @ b.mT
        matrix = mkl.mkl_matrix(source, target)
        torch.testing.assert_close(matrix @ source @ matrix.mT, target, atol=1e-9, rtol=1e-7)
        torch.testing.assert_close(matrix, matrix.mT, atol=1e-9, rtol=1e-7)
        assert torch.linalg.eigvalsh(matrix).min() > 0


def test_mkl_on_gaussian_samples_gives_the_targets_covariance():
    mixing = torch.tensor([[1.0, 0.4, 0.0], [0.0, 0.9, 0.3], [0.2, 0.0, 1.1]], dtype=torch.float64)
    source = torch.randn(20000, 3, dtype=torch.float64) @ mixing
    target = torch.cov((torch.randn(500, 3, dtype=torch.float64) @ mixing.mT * 1.7).mT)
    moved = source @ mkl.mkl_matrix(torch.cov(source.mT), target)
    torch.testing.assert_close(torch.cov(moved.mT), target, atol=1e-10, rtol=0)


def test_mkl_gains_are_limited():
    matrix = mkl.mkl_matrix(torch.eye(3) * 1e-4, torch.diag(torch.tensor([1.0, 1e-4, 1e-9])))
    values = torch.linalg.eigvalsh(mkl.limited(matrix))
    torch.testing.assert_close(values, torch.tensor([0.5, 1.0, 2.0]), atol=1e-5, rtol=0)


def test_reinhard_brings_mean_and_deviation():
    source = torch.randn(5000, 3) * torch.tensor([8.0, 5.0, 6.0]) + torch.tensor([50.0, 5.0, -8.0])
    given = Moments(source.mean(0), torch.cov(source.mT))
    target = Moments(torch.tensor([60.0, -4.0, 9.0]), torch.diag(torch.tensor([100.0, 16.0, 49.0])))
    moved = rgb_to_lab(Reinhard().transfer(given, target, lab_to_rgb(source)))
    torch.testing.assert_close(moved.mean(0), target.mean, atol=0.01, rtol=0)
    # The regularisation adds 2 Lab units to both deviations, hence the 5 %.
    torch.testing.assert_close(moved.std(0), torch.tensor([10.0, 4.0, 7.0]), rtol=0.05, atol=0)


def test_reinhard_gain_is_regularised_and_limited():
    flat = reinhard.lab_gain(torch.zeros(3), torch.zeros(3))
    assert torch.equal(flat, torch.ones(3))
    wild = reinhard.lab_gain(torch.tensor([0.0, 900.0, 1.0]), torch.tensor([900.0, 0.0, 1.0]))
    torch.testing.assert_close(wild, torch.tensor([2.0, 0.5, 1.0]))


def test_histogram_curves_are_monotone_and_match():
    source, target = torch.rand(1, 3, 64, 64) ** 2, torch.rand(1, 3, 64, 64) * 0.5 + 0.2
    weight = torch.ones(1, 1, 64, 64)
    first, second = (histogram.weighted_histogram(p, weight)[0] for p in (source, target))
    torch.testing.assert_close(first.sum(1), torch.ones(3))
    for c in range(3):
        exact = histogram.matching_curve(first[c], second[c], limit=None)
        assert (exact.diff() >= 0).all()
        quantiles = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
        moved = torch.quantile(
            exact.float()[(source[0, c] * 255).round().long()].flatten(), quantiles
        )
        wanted = torch.quantile(target[0, c].flatten(), quantiles)
        torch.testing.assert_close(moved, wanted, atol=0.03, rtol=0)
        steps = histogram.matching_curve(first[c], second[c]).diff() * 255
        assert steps.min() >= 0.5 - 1e-9
        assert steps.max() <= 2 + 1e-9


def test_histogram_of_a_region_with_itself_is_the_identity():
    level = histogram.weighted_histogram(picture(), disc())[0, 0]
    curve = histogram.matching_curve(level, level)
    inside = level > 1e-4
    expected = torch.linspace(0, 1, 256, dtype=torch.float64)
    torch.testing.assert_close(curve[inside], expected[inside], atol=0.01, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_equal_statistics_give_the_identity(method):
    """A foreground that already belongs is left alone, even at full amounts."""
    frame, mask = picture(), disc()
    (look,) = method(**FULL).estimate(frame, mask, background=frame, background_weight=mask)
    assert error(look.apply(frame), frame, mask) ** 0.5 < 0.005


@pytest.mark.parametrize("options", [{}, FULL])
@pytest.mark.parametrize("method", METHODS)
def test_recolour_and_recover(method, options):
    """Foreground and background share a distribution; the gain and offset are taken back."""
    truth, mask = picture(), disc()
    gain = torch.tensor([1.15, 0.9, 0.8]).reshape(1, 3, 1, 1)
    offset = torch.tensor([0.08, -0.05, 0.05]).reshape(1, 3, 1, 1)
    composite = mask * (truth * gain + offset).clamp(0, 1) + (1 - mask) * truth
    (look,) = method(**options).estimate(composite, mask)
    assert isinstance(look, LutLook)
    pasted = error(composite, truth, mask)
    ours = error(look.apply(composite, mask), truth, mask)
    assert ours < (0.1 if options else 0.75) * pasted
    undone = look.with_strength(0.0).apply(composite, mask)
    assert torch.equal(undone, composite)


@pytest.mark.parametrize("method", METHODS)
def test_amounts_scale_luma_and_colour_apart(method):
    truth, mask = picture(), disc()
    composite = mask * (truth * 0.9) + (1 - mask) * truth
    composite[:, 2] *= 1 - 0.2 * mask[:, 0]
    luma = torch.tensor([0.2126, 0.7152, 0.0722])
    changes = {}
    for lightness, colour in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)):
        (look,) = method(lightness=lightness, colour=colour).estimate(composite, mask)
        inner = slice(14, 19)  # nodes whose change is not clamped
        nodes = LutLook.identity(33).grid
        changes[lightness, colour] = (look.grid - nodes)[inner, inner, inner]
    assert (changes[0.0, 1.0] @ luma).abs().max() < 1e-5
    assert changes[1.0, 0.0].std(-1).max() < 1e-5
    torch.testing.assert_close(
        changes[1.0, 0.0] + changes[0.0, 1.0], changes[1.0, 1.0], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(changes[0.5, 0.5] * 2, changes[1.0, 1.0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_empty_and_tiny_masks(method):
    frames = torch.cat([picture(), picture(), picture()])
    masks = torch.zeros(3, 1, 64, 80)
    masks[1, 0, 30, 40] = 1
    masks[2, 0, 20:50, 20:60] = 1
    frames[1:] = frames[1:] * (1 - 0.6 * masks[1:])
    empty, tiny, large = method().estimate(frames, masks)
    assert torch.equal(empty.grid, LutLook.identity().grid)
    nodes = LutLook.identity().grid
    assert 0 < (tiny.grid - nodes).abs().max() < 0.2 * (large.grid - nodes).abs().max()


@pytest.mark.parametrize("method", METHODS)
def test_a_full_mask_is_told_once_unless_a_background_is_given(method):
    frame, mask = picture(), torch.ones(1, 1, 64, 80)
    one = method()
    with pytest.warns(UserWarning, match="covers the whole frame"):
        (look,) = one.estimate(frame, mask)
    assert torch.equal(look.grid, LutLook.identity().grid)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one.estimate(frame, mask)
        other = (picture(20, 30) * torch.tensor([0.6, 1.0, 1.2]).reshape(3, 1, 1)).clamp(0, 1)
        (look,) = method(**FULL).estimate(frame, mask, background=other)
    out = look.apply(frame)
    torch.testing.assert_close(out.mean((2, 3)), other.mean((2, 3)), atol=0.03, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_background_that_counts_is_matched(method):
    """A black border would darken the foreground; the weight leaves it out."""
    truth, mask = picture(), disc()
    framed = truth.clone()
    framed[..., :20] = 0
    counts = torch.ones(1, 1, 64, 80)
    counts[..., :20] = 0
    (blind,) = method(**FULL).estimate(framed, mask)
    (told,) = method(**FULL).estimate(framed, mask, background_weight=counts)
    blind_out, told_out = (look.apply(framed, mask) for look in (blind, told))
    assert error(told_out, framed, mask) < 0.1 * error(blind_out, framed, mask)


@pytest.mark.parametrize("method", METHODS)
def test_flat_regions_do_no_harm(method):
    """One colour everywhere, in a textured picture: moved, never stretched or NaN."""
    frame, mask = picture(), disc()
    frame = torch.where(mask > 0, torch.tensor([0.9, 0.2, 0.2]).reshape(1, 3, 1, 1), frame)
    (look,) = method().estimate(frame, mask)
    assert torch.isfinite(look.grid).all()
    assert torch.isfinite(method(**FULL).estimate(frame, mask)[0].grid).all()
    near = look.grid[26:32, 4:10, 4:10]  # the nodes about the foreground's colour
    # Measured 3.4 at the edge of the gamut (7.3 where Lab colours beyond it are not clamped).
    assert (near.diff(dim=0) * 32).abs().max() < 4
    black = torch.zeros_like(frame)
    (look,) = method().estimate(black, mask)
    torch.testing.assert_close(look.apply(black), black, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_batch_equals_loop(method):
    frames, masks = torch.rand(3, 3, 20, 24), (torch.rand(3, 1, 20, 24) > 0.6).float()
    together = method().estimate(frames, masks)
    for i, look in enumerate(together):
        (alone,) = method().estimate(frames[i : i + 1], masks[i : i + 1])
        torch.testing.assert_close(alone.grid, look.grid, atol=1e-5, rtol=0)


def test_amounts_outside_are_refused():
    with pytest.raises(ValueError, match=r"lightness must be a number in \[0, 1\], got 2"):
        Mkl(lightness=2)
    with pytest.raises(ValueError, match="colour"):
        Reinhard(colour=float("nan"))

# SPDX-License-Identifier: Apache-2.0
"""Clips without masks: the method's map, how sure it is, refusal, saving it, bounded memory."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from clips import ListWriter
from finding import FindsOrange, orange_clip

import vharm
from vharm.media import open_mask, open_reader
from vharm.session import Session
from vharm.session.mask_free import guided

torch.set_num_threads(1)


def overlap(found, truth):
    return (found & truth).sum() / (found | truth).sum()


def run(method, frames, **options):
    """The results, the report and the masks the Looks were applied by."""
    reader, writer = open_reader(frames), ListWriter()
    report = Session(method, temporal="per-frame", **options).run(reader, None, writer)
    return np.stack([frame.planes[0] for frame in writer.frames]), report


def test_what_stands_out_is_harmonized_and_nothing_else():
    frames, masks = orange_clip()
    out, report = run(FindsOrange(), frames)
    changed = (out != frames).any(-1)
    assert overlap(changed, masks) > 0.85
    assert report.mask_confidence > 0.9
    assert report.mask_area == pytest.approx(masks.mean(), abs=0.03)
    assert report.empty_masks == 0
    assert report.warnings == []
    assert report.stages["masks"] > 0
    assert "masks found with confidence" in str(report)
    # Halved where the mask is whole.
    np.testing.assert_allclose(out[0, 20:28, 16:24], frames[0, 20:28, 16:24] / 2, atol=2)


def test_masks_that_are_there_come_first():
    frames, masks = orange_clip()
    alpha = np.zeros((*masks.shape, 1), np.uint8)
    alpha[:, :8] = 255
    method = FindsOrange()
    given = vharm.harmonize(np.concatenate([frames, alpha], -1), None, method, verbose=False)
    assert method.asked == []
    assert (given[:, :8, :, :3] != frames[:, :8]).any()
    np.testing.assert_array_equal(given[:, 8:, :, :3], frames[:, 8:])
    _, report = run("mkl", np.concatenate([frames, alpha], -1))
    assert report.mask_confidence is None
    vharm.harmonize(frames, masks, method, verbose=False)
    assert method.asked == []


def test_a_frame_in_which_nothing_stands_out_passes_through():
    frames, _ = orange_clip(count=5, first=3)
    out, report = run(FindsOrange(), frames)
    np.testing.assert_array_equal(out[:3], frames[:3])
    assert (out[3:] != frames[3:]).any((1, 2, 3)).all()
    assert report.empty_masks == 3
    assert report.mask_confidence > 0.9


@pytest.mark.parametrize("temporal", ["per-frame", "smooth", "lock"])
def test_nothing_found_is_refused(temporal):
    frames, _ = orange_clip(first=9)
    with pytest.raises(ValueError, match=r"masks: none were given, and finds-orange finds nothing"):
        vharm.harmonize(frames, None, FindsOrange(), temporal=temporal, verbose=False)
    orange = np.broadcast_to(np.uint8([220, 130, 30]), frames.shape)
    with pytest.raises(ValueError, match=r"its highest value is 1\.00"):
        vharm.harmonize(orange, None, FindsOrange(), temporal=temporal, verbose=False)


def test_a_method_that_cannot_names_one_that_can():
    frames, _ = orange_clip()
    with pytest.raises(ValueError, match='masks: none were given.*method="huang"'):
        vharm.harmonize(frames, None, "mkl", verbose=False)


def test_threshold_and_soft_masks():
    frames, masks = orange_clip()
    doubtful = FindsOrange(sure=0.28)
    with pytest.raises(ValueError, match="lower mask_threshold"):
        run(doubtful, frames)
    out, report = run(doubtful, frames, mask_threshold=0.2)
    assert overlap((out != frames).any(-1), masks) > 0.8
    assert report.mask_confidence == pytest.approx(0.28, abs=0.05)
    assert any("confidence of 0.2" in warning for warning in report.warnings)
    soft, _ = run(FindsOrange(sure=0.8), frames, mask_threshold=0.0)
    whole, _ = run(FindsOrange(sure=0.8), frames)
    middle = np.s_[0, 20:28, 16:24]
    assert (whole[middle] < soft[middle]).all()
    for value in (-0.1, 1.5):
        with pytest.raises(ValueError, match="mask_threshold"):
            Session("mkl", mask_threshold=value)


def test_lock_looks_at_samples_only_in_its_first_pass():
    frames, masks = orange_clip(count=130)
    method = FindsOrange()
    out, report = run_locked(method, frames)
    assert sum(method.asked) == 130 + 65
    assert overlap((out != frames).any(-1), masks) > 0.8
    assert report.empty_masks == int((~masks.any((1, 2))).sum())


def run_locked(method, frames):
    reader, writer = open_reader(frames), ListWriter()
    report = Session(method, temporal="lock").run(reader, None, writer)
    return np.stack([frame.planes[0] for frame in writer.frames]), report


def test_shaping_and_swapping_apply_to_found_masks():
    frames, masks = orange_clip()
    grown = vharm.harmonize(frames, None, FindsOrange(), mask_grow=4, verbose=False)
    plain = vharm.harmonize(frames, None, FindsOrange(), verbose=False)
    assert (grown != frames).any(-1).sum() > 1.2 * (plain != frames).any(-1).sum()
    swapped = vharm.harmonize(frames, None, FindsOrange(), swap=True, verbose=False)
    assert overlap((swapped != frames).any(-1), ~masks) > 0.9
    inverted = vharm.harmonize(frames, None, FindsOrange(), invert_mask=True, verbose=False)
    np.testing.assert_array_equal(inverted, swapped)


def test_a_matte_is_saved_and_reads_back(tmp_path):
    pytest.importorskip("av")
    frames, masks = orange_clip()
    path = tmp_path / "matte.mp4"
    out = vharm.harmonize(
        frames, None, FindsOrange(), mask_out=path, frame_rate=25, temporal="per-frame",
        verbose=False,
    )  # fmt: skip
    saved = np.stack([m.unit() for m in open_mask(str(path), width=64, height=48)])
    assert overlap(saved > 0.5, masks) > 0.85
    again = vharm.harmonize(frames, str(path), FindsOrange(), temporal="per-frame", verbose=False)
    assert np.abs(again.astype(int) - out)[masks].mean() < 3
    pictures = tmp_path / "mattes"
    pictures.mkdir()
    vharm.harmonize(frames, None, FindsOrange(), mask_out=pictures, verbose=False)
    assert len(list(pictures.glob("*.png"))) == 4


def test_no_matte_is_left_behind(tmp_path):
    pytest.importorskip("av")
    nothing, _ = orange_clip(first=9)
    frames, masks = orange_clip()
    path = tmp_path / "matte.mp4"
    with pytest.raises(ValueError, match="finds nothing"):
        vharm.harmonize(nothing, None, FindsOrange(), mask_out=path, frame_rate=25, verbose=False)
    for options, match in (
        ({"masks": masks, "method": FindsOrange()}, "mask_out: saves .* masks were given"),
        ({"method": "mkl"}, 'mask_out: .*mkl finds none; use method="huang"'),
        ({"method": FindsOrange(), "output": path}, "mask_out: .* is the output already"),
    ):
        with pytest.raises(ValueError, match=match):
            vharm.harmonize(frames, mask_out=path, frame_rate=25, verbose=False, **options)
    with pytest.raises(ValueError, match="mask_out: not for an iterator"):
        vharm.harmonize(iter(frames), None, FindsOrange(), mask_out=path, verbose=False)
    alpha = np.concatenate([frames, np.full((*masks.shape, 1), 255, np.uint8)], -1)
    with pytest.raises(ValueError, match="frames carry their own"):
        vharm.harmonize(alpha, None, FindsOrange(), mask_out=path, frame_rate=25, verbose=False)
    assert list(tmp_path.iterdir()) == []


def test_streams_hold_a_few_frames_only():
    frames, _ = orange_clip(count=2)
    alive: list[weakref.ref] = []

    def source():
        for number in range(60):
            picture = frames[number % 2].copy()
            alive.append(weakref.ref(picture))
            yield picture
            del picture

    most = 0
    method = FindsOrange(batch=2)
    for result in vharm.harmonize(source(), None, method, verbose=False):
        most = max(most, sum(ref() is not None for ref in alive))
        assert result.shape == (48, 64, 3)
    assert len(alive) == 60
    assert most <= 8


def test_tensors_stay_tensors():
    frames, masks = orange_clip()
    tensor = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    out = vharm.harmonize(tensor, None, FindsOrange(), verbose=False)
    assert isinstance(out, torch.Tensor)
    assert overlap((out != tensor).any(1).numpy(), masks) > 0.85


def test_an_edge_of_the_map_moves_to_the_pictures():
    """The map is of 12x16 pixels; the picture's edge lies between them."""
    guide = torch.full((96, 128), 0.2)
    guide[:, 45:] = 0.8
    small = torch.nn.functional.interpolate(
        (guide[None, None] > 0.5).float(), (12, 16), mode="area"
    )[0]
    matte = guided(small, guide)
    assert ((matte > 0.5) == (guide > 0.5)).float().mean() > 0.995
    flat = torch.nn.functional.interpolate(small[None], (96, 128), mode="bilinear")[0, 0]
    blur = (flat - (guide > 0.5).float()).abs().mean()
    assert (matte - (guide > 0.5).float()).abs().mean() < 0.5 * blur

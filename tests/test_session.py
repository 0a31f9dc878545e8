# SPDX-License-Identifier: Apache-2.0
"""Session: pairing, cuts, smoothing, locking, planes outside the mask, errors, memory."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from clips import ListWriter, Shift, box_mask, clip, outside, texture, yuv_frame
from hypothesis import given, settings
from hypothesis import strategies as st

import vharm
from vharm.looks import FilterLook, LutLook
from vharm.media import ColorSpec, Frame, Mask
from vharm.session import Session

torch.set_num_threads(1)


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
@pytest.mark.parametrize(
    ("depth", "subsampling"), [(8, (1, 1)), (10, (1, 1)), (8, (1, 0)), (8, (0, 0))]
)
def test_planes_outside_the_mask_are_the_decoded_ones(size, depth, subsampling):
    frames = clip(3, height=size[0], width=size[1], depth=depth, subsampling=subsampling)
    mask = box_mask(*size, top=9, left=11, size=13)
    writer = ListWriter()
    report = Session("mkl").run(frames, [mask] * 3, writer)
    assert (report.frames, writer.state) == (3, "closed")
    for before, after in zip(frames, writer.frames, strict=True):
        for old, new in zip(before.planes, after.planes, strict=True):
            still = outside(mask, old.shape)
            assert new.dtype == old.dtype
            np.testing.assert_array_equal(new[still], old[still])
            assert (new != old).any()


@given(
    height=st.integers(1, 21), width=st.integers(1, 21), seed=st.integers(0, 99),
    subsampling=st.sampled_from([(0, 0), (1, 0), (1, 1)]), depth=st.sampled_from([8, 10]),
    density=st.sampled_from([0.02, 0.3, 0.9]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_any_mask_leaves_the_outside_alone(height, width, seed, subsampling, depth, density):
    frame = yuv_frame(0, height, width, seed=seed, depth=depth, subsampling=subsampling)
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (height, width)) * (rng.random((height, width)) < density)
    mask = Mask(data.astype(np.uint8))
    look = FilterLook(torch.tensor([0.5, -0.4]), torch.full((2, 3), 0.5), ("contrast", "shadow"))
    out = next(Session(look).frames([frame], [mask]))
    for old, new in zip(frame.planes, out.planes, strict=True):
        still = outside(mask, old.shape)
        np.testing.assert_array_equal(new[still], old[still])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_rgb_and_gray_outside_the_mask(dtype):
    picture = texture(40, 56) / 255
    full = 1 if dtype == np.float32 else np.iinfo(dtype).max
    rgb = (picture * full).astype(dtype)
    depth = {1: 8, 2: 16, 4: 32}[rgb.itemsize]
    mask = box_mask(40, 56)
    touched = mask.data > 0
    for layout, plane in (("rgb", rgb), ("gray", rgb[..., 1])):
        frame = Frame((plane,), ColorSpec(layout, depth))
        writer = ListWriter()
        Session("mkl").run([frame], [mask], writer)
        out = writer.frames[0].planes[0]
        assert out.dtype == dtype
        np.testing.assert_array_equal(out[~touched], plane[~touched])
        assert (out[touched] != plane[touched]).mean() > 0.5


def test_strength_zero_gives_the_very_frames():
    frames = clip(3)
    writer = ListWriter()
    Session("mkl", strength=0).run(frames, [box_mask()] * 3, writer)
    assert all(a is b for a, b in zip(frames, writer.frames, strict=True))


def test_strength_is_between():
    frames, masks = clip(1), [box_mask(soft=False)]
    luma = {}
    for strength in (0.0, 0.5, 1.0):
        session = Session(Shift(0.2), strength=strength)
        luma[strength] = next(session.frames(frames, masks)).planes[0].astype(int)
    inside = masks[0].data > 0
    half = (luma[0.5] - luma[0.0])[inside].mean()
    whole = (luma[1.0] - luma[0.0])[inside].mean()
    assert whole > 20
    assert half == pytest.approx(whole / 2, abs=1)


def test_empty_masks_pass_through_and_are_counted():
    frames = clip(6)
    empty = Mask(np.zeros((48, 64), np.uint8))
    masks = [empty, box_mask(), empty, empty, box_mask(), empty]
    for temporal in ("per-frame", "smooth", "lock"):
        writer = ListWriter()
        report = Session("mkl", temporal=temporal).run(frames, masks, writer)
        assert report.empty_masks == 4
        same = [a is b for a, b in zip(frames, writer.frames, strict=True)]
        assert same == [True, False, True, True, False, True]


def test_all_empty_is_said():
    empty = Mask(np.zeros((48, 64), np.uint8))
    for temporal in ("smooth", "lock"):
        report = Session("mkl", temporal=temporal).run(clip(2), [empty] * 2, ListWriter())
        assert report.flicker is None
        assert any("every mask is empty" in text for text in report.warnings)


@pytest.mark.filterwarnings("ignore:.*covers the whole frame.*")
def test_a_mask_over_everything_is_said():
    full = Mask(np.full((48, 64), 255, np.uint8))
    writer = ListWriter()
    report = Session("mkl").run(clip(2), [full] * 2, writer)
    assert any("covers the whole" in text for text in report.warnings)
    assert len(writer.frames) == 2


def test_swap_is_the_inverted_mask():
    frames, mask = clip(2), box_mask()
    other = Mask(255 - mask.data)
    swapped = list(Session("mkl", swap=True).frames(frames, [mask] * 2))
    plain = list(Session("mkl").frames(frames, [other] * 2))
    for a, b in zip(swapped, plain, strict=True):
        for x, y in zip(a.planes, b.planes, strict=True):
            np.testing.assert_array_equal(x, y)
    limited = Mask(np.where(mask.data > 128, 235, 16).astype(np.uint8), 16, 235)
    out = next(iter(Session("mkl", swap=True).frames(frames, [limited] * 2)))
    inside = limited.data == 235
    np.testing.assert_array_equal(out.planes[0][inside], frames[0].planes[0][inside])


def test_reference_picture_is_the_goal(tmp_path):
    red = np.full((20, 20, 3), 40, np.uint8)
    red[..., 0] = 200
    red[:10] = 0
    frame = Frame(((texture(48, 64)).astype(np.uint8),), ColorSpec("rgb", 8))
    mask = box_mask(soft=False)
    lower = np.zeros((20, 20), bool)
    lower[10:] = True
    full = {"lightness": 1.0, "colour": 1.0}
    session = Session("mkl", reference=red, reference_mask=lower, method_options=full)
    out = next(session.frames([frame], [mask])).planes[0][mask.data > 0].mean(0)
    assert out[0] > 150
    assert out[1] < 90
    whole = Session("mkl", reference=torch.from_numpy(red).permute(2, 0, 1), method_options=full)
    darker = next(whole.frames([frame], [mask])).planes[0][mask.data > 0].mean(0)
    assert darker[0] < out[0] - 40


def test_reference_mask_chooses_the_background_that_counts():
    picture = np.full((40, 60, 3), 128, np.uint8)
    picture[:, :30], picture[:, 30:] = 60, 200
    picture[15:25, 25:35] = 128
    frame = Frame((picture,), ColorSpec("rgb", 8))
    inside = np.zeros((40, 60), np.uint8)
    inside[15:25, 25:35] = 255
    means = []
    for part in (slice(0, 30), slice(30, 60)):
        counts = np.zeros((2, 40, 60), bool)
        counts[:, :, part] = True
        session = Session("mkl", reference_mask=counts, method_options={"lightness": 1.0})
        out = list(session.frames([frame] * 2, [Mask(inside)] * 2))
        means.append(out[1].planes[0][inside > 0].mean())
    assert means[0] < 90
    assert means[1] > 170


def test_matte_and_alpha_serve_as_masks():
    mask = box_mask()
    frame = yuv_frame(0)
    plain = next(Session("mkl").frames([frame], [mask]))
    frame.matte = mask
    matted = next(Session("mkl").frames([frame]))
    frame.matte, frame.alpha = None, mask.data
    alpha = next(Session("mkl").frames([frame]))
    for other in (matted, alpha):
        np.testing.assert_array_equal(plain.planes[0], other.planes[0])
    assert alpha.alpha is mask.data
    frame.alpha = None
    with pytest.raises(ValueError, match="masks: none were given"):
        next(Session("mkl").frames([frame]))


@pytest.mark.parametrize("compare", ["wipe", "side-by-side"])
@pytest.mark.parametrize("size", [(48, 64), (33, 47)])
def test_compare(compare, size):
    frames = clip(2, height=size[0], width=size[1])
    mask = Mask(np.full(size, 255, np.uint8))
    session = Session(LutLook(LutLook.identity(2).grid + 0.2))
    out = next(session.frames(frames, [mask] * 2, compare=compare))
    luma, source = out.planes[0], frames[0].planes[0]
    if compare == "wipe":
        assert luma.shape == source.shape
        edge = int(size[1] * 0.5) // 2 * 2
        np.testing.assert_array_equal(luma[:, :edge], source[:, :edge])
        assert (luma[:, edge : edge + 2] == 235).all()
        assert (luma[:, edge + 2 :] > source[:, edge + 2 :]).all()
    else:
        keep = size[1] // 2 * 2
        assert luma.shape == (size[0], 2 * keep)
        assert out.planes[1].shape == (-(-size[0] // 2), keep)
        np.testing.assert_array_equal(luma[:, :keep], source[:, :keep])
        assert (luma[:, keep:] > source[:, :keep]).all()


def test_linear_light_keeps_highlights():
    picture = (texture(32, 32) / 255).astype(np.float32)
    picture[4:8, 4:8] = 6.0  # inside
    picture[25:28, 25:28] = 9.0  # outside
    picture[10, 10] = -0.01
    frame = Frame((picture,), ColorSpec("rgb", 32, transfer_tag=8))
    data = np.zeros((32, 32), np.float32)
    data[2:20, 2:20] = 1
    look = FilterLook(torch.tensor([-0.4]), torch.zeros(1, 3), ("brightness",))
    out = next(Session(look).frames([frame], [Mask(data, 0.0, 1.0)])).planes[0]
    np.testing.assert_array_equal(out[data == 0], picture[data == 0])
    assert (out[4:8, 4:8] > 1).all()
    assert (out[4:8, 4:8] < 6).all()
    # Brightness -0.4 scales encoded values by 0.6, so linear light by far less.
    ratio = out[12:18, 12:18] / picture[12:18, 12:18]
    assert 0.2 < ratio.mean() < 0.45


def test_backend_is_forced_in_threads():
    frames, masks = clip(2), [box_mask()] * 2
    usual, forced = ListWriter(), ListWriter()
    Session("mkl").run(frames, masks, usual)
    Session("mkl", backend="reference").run(frames, masks, forced)
    for a, b in zip(usual.frames, forced.frames, strict=True):
        assert abs(a.planes[0].astype(int) - b.planes[0]).max() <= 1
    with pytest.raises(RuntimeError, match="triton"):
        Session("mkl", backend="triton").run(frames, masks, ListWriter())
    with vharm.ops.backend("triton"), pytest.raises(RuntimeError, match="triton"):
        Session("mkl").run(frames, masks, ListWriter())


def test_progress_and_report(tmp_path):
    calls = []
    frames, masks = clip(4), [box_mask()] * 4
    report = Session("mkl", temporal="lock").run(
        frames, masks, ListWriter(), progress=lambda *call: calls.append(call)
    )
    assert [stage for _, _, stage in calls] == ["estimate"] * 4 + ["harmonize"] * 4
    assert [done for done, _, _ in calls] == [1, 2, 3, 4] * 2
    assert report.seconds > 0
    assert set(report.stages) == {"decode", "mask", "thumbnails", "estimate", "apply", "encode"}
    assert str(report).startswith("mkl, lock: 4 frames in")


@pytest.mark.parametrize("threads", [True, False])
def test_frames_are_not_read_far_ahead(threads):
    read = 0
    most = 0

    def source():
        nonlocal read
        for i in range(200):
            read += 1
            yield yuv_frame(i, 16, 16)

    class Watching(ListWriter):
        def write(self, frame):
            nonlocal most
            most = max(most, read - len(self.frames))
            self.frames.append(frame)

    masks = [box_mask(16, 16, 2, 2, 8)] * 200
    Session("mkl", batch=3).run(source(), masks, Watching(), threads=threads)
    assert most <= (16 if threads else 4)


def test_batches_of_huge_frames_are_small():
    class Huge(list):
        width, height, color = 8192, 4320, ColorSpec("rgb", 32)

    method = Shift(0.1, batch=8)
    frames, masks = clip(5, height=16, width=16), [box_mask(16, 16, 2, 2, 8)] * 5
    Session(method).run(Huge(frames), masks, ListWriter())
    assert [len(call[0]) for call in method.calls] == [1] * 5
    asked = Shift(0.1, batch=8)
    Session(asked, batch=3).run(Huge(frames), masks, ListWriter())
    assert [len(call[0]) for call in asked.calls] == [3, 2]


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("error", [StoppedError("stop"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["reader", "masks", "method", "writer", "progress"])
def test_errors_of_any_stage_end_everything(where, error):
    def broken(items, at):
        for number, item in enumerate(items):
            if number == at:
                raise error
            yield item

    class Failing(Shift):
        def estimate(self, frames, masks, **options):
            if self.seen > 3:
                raise error
            return super().estimate(frames, masks, **options)

    def failing_progress(done, total, stage):
        if where == "progress" and done == 3:
            raise error

    frames, masks = clip(30), [box_mask()] * 30
    source = broken(frames, 6) if where == "reader" else frames
    mattes = broken(masks, 6) if where == "masks" else masks
    method = Failing(0.1) if where == "method" else Shift(0.1)
    writer = ListWriter(fail_at=5 if where == "writer" else None, error=error)
    with pytest.raises(type(error)) as caught:
        Session(method).run(source, mattes, writer, progress=failing_progress)
    assert caught.value is error
    assert writer.state == "aborted"
    alive = [t for t in threading.enumerate() if t.name == "vharm-prefetch" and t.is_alive()]
    for thread in alive:
        thread.join(5)
    assert not any(thread.is_alive() for thread in alive)


def test_frame_count_is_checked(monkeypatch):
    from vharm.session.run import Run

    genuine = Run.frames

    def losing(self):
        for number, frame in enumerate(genuine(self)):
            if number != 1:
                yield frame

    monkeypatch.setattr(Run, "frames", losing)
    writer = ListWriter()
    with pytest.raises(RuntimeError, match="4 frames were read, 3 written"):
        Session("mkl").run(clip(4), [box_mask()] * 4, writer)
    assert writer.state == "aborted"

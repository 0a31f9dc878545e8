# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from vharm.media import ColorSpec, Frame, open_mask, open_reader, open_writer
from vharm.media.mask_shape import shape_mask

SIZE = {"width": 12, "height": 10}


def disc(dtype=np.float32, count=3):
    y, x = np.mgrid[0:10, 0:12]
    masks = [np.clip(4 - np.hypot(x - 5 - k, y - 5), 0, 1) for k in range(count)]
    masks = np.stack(masks)
    if dtype is bool:
        return masks > 0.5
    if np.dtype(dtype).kind == "f":
        return masks.astype(dtype)
    return np.rint(masks * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("form", ["thw", "thw1", "t1hw", "list", "generator", "torch"])
def test_kinds(dtype, form):
    masks = disc(dtype)
    source = {
        "thw": lambda: masks,
        "thw1": lambda: masks[..., None],
        "t1hw": lambda: masks[:, None],
        "list": lambda: list(masks),
        "generator": lambda: iter(list(masks)),
        "torch": lambda: torch.from_numpy(masks),
    }[form]()
    read = list(open_mask(source, **SIZE))
    assert [mask.index for mask in read] == [0, 1, 2]
    top = 1.0 if dtype is bool or np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    for mask, expected in zip(read, masks, strict=True):
        assert mask.data.shape == (10, 12)
        assert np.allclose(mask.unit(), expected.astype(np.float64) / top, atol=1e-6)


def test_integers_and_bools_are_not_copied():
    for dtype in (bool, np.uint8, np.uint16):
        masks = disc(dtype)
        assert np.shares_memory(next(iter(open_mask(masks, **SIZE))).data, masks)


def test_one_picture_stands_for_all():
    one = disc()[0]
    frames = list(itertools.islice(open_mask(one, **SIZE, frame_count=7), 7))
    assert [mask.index for mask in frames] == list(range(7))
    assert all(np.array_equal(mask.data, one) for mask in frames)
    with pytest.raises(ValueError, match="has 1 frames, the clip has 7"):
        open_mask(one, **SIZE, frame_count=7, single_ok=False)


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        ((disc(np.uint8) > 0).astype(np.uint8), ValueError, "0 and 1: make it bool, or multiply"),
        (disc() * 2, ValueError, r"must lie in \[0,1\]; frame 0 has 0 to 2"),
        (disc() - 1, ValueError, r"must lie in \[0,1\]"),
        (disc() * np.nan, ValueError, "nan"),
        (disc().astype(np.int64), TypeError, "got int64"),
        (np.zeros((3, 12, 10)), ValueError, "is 10x12, the clip is 12x10; it seems to be turned"),
        (np.zeros((3, 5, 6)), ValueError, "is 6x5, .* scale it by 2"),
        (np.zeros((3, 5, 7)), ValueError, "is 7x5, the clip is 12x10$"),
        (np.zeros((2, 10, 12, 3)), ValueError, r"expected \[T,H,W\]"),
        ("absent.png", FileNotFoundError, "absent"),
    ],
)
def test_refused(source, error, text):
    if error is FileNotFoundError:
        pytest.importorskip("av")
    with pytest.raises(error, match=text):
        list(open_mask(source, **SIZE))


def test_zero_one_is_seen_after_empty_masks():
    masks = np.zeros((4, 10, 12), np.uint8)
    masks[2, 3:5, 3:5] = 1
    reader = iter(open_mask(masks, **SIZE))
    next(reader), next(reader)
    with pytest.raises(ValueError, match="multiply it by 255"):
        next(reader)
    assert len(list(open_mask(np.zeros((4, 10, 12), np.uint8), **SIZE))) == 4


def clip(count):
    return open_reader(np.zeros((count, 10, 12, 3), np.uint8), frame_rate=10)


def test_lengths():
    with pytest.raises(ValueError, match="mask: has 3 frames, the clip has 5"):
        open_mask(disc(), **SIZE, frame_count=5)
    with pytest.raises(ValueError, match=r"mask: has 3 frames, the clip has more \(5\)|about 5"):
        list(open_mask(iter(disc()), **SIZE).pairs(clip(5)))
    with pytest.raises(ValueError, match=r"mask: has more frames \(3\) than the clip, .* 2"):
        list(open_mask(disc(), **SIZE).pairs(clip(2)))
    with pytest.raises(ValueError, match="mask: has more frames than the clip, which has 2"):
        list(open_mask(iter(disc()), **SIZE).pairs(clip(2)))
    looped = [m for _, m in open_mask(disc(), **SIZE, on_short="loop").pairs(clip(7))]
    assert [np.array_equal(m.data, disc()[k % 3]) for k, m in enumerate(looped)] == [True] * 7
    assert [mask.index for mask in looped] == list(range(7))
    held = [m for _, m in open_mask(iter(disc()), **SIZE, on_short="hold").pairs(clip(5))]
    assert np.array_equal(held[4].data, disc()[2])
    assert len(list(open_mask(disc(), **SIZE, on_short="hold").pairs(clip(2)))) == 2
    with pytest.raises(ValueError, match="generator cannot be looped"):
        open_mask(iter(disc()), **SIZE, on_short="loop")
    assert len(list(open_mask(disc()[0], **SIZE).pairs(clip(4)))) == 4


def test_invert():
    for dtype in (bool, np.uint8, np.float32):
        plain, turned = (list(open_mask(disc(dtype), **SIZE, invert=x)) for x in (False, True))
        for a, b in zip(plain, turned, strict=True):
            assert np.allclose(a.unit() + b.unit(), 1)


def test_growing_is_by_a_disc():
    point = np.zeros((21, 21), np.float32)
    point[10, 10] = 1
    grown = shape_mask(point, grow=5)
    y, x = np.mgrid[-10:11, -10:11]
    assert np.array_equal(grown > 0.5, x * x + y * y <= 25)
    assert np.array_equal(shape_mask(grown, grow=-5), point)
    whole = np.ones((9, 9), np.float32)
    assert shape_mask(whole, grow=-3).min() == 1
    blurred = shape_mask(point, feather=2)
    assert blurred.sum() == pytest.approx(1, abs=1e-4)
    assert blurred[10, 12] / blurred[10, 10] == pytest.approx(np.exp(-0.5), abs=1e-3)


@pytest.mark.parametrize("settings", [{"grow": 3}, {"grow": -2.5}, {"feather": 1.7},
                                      {"grow": 1, "feather": 0.4}])  # fmt: skip
def test_opencv_and_torch_agree(settings):
    pytest.importorskip("cv2")
    mask = np.random.default_rng(1).random((37, 41)).astype(np.float32) ** 3
    first, second = (shape_mask(mask, **settings, backend=name) for name in ("cv2", "torch"))
    assert np.allclose(first, second, atol=1e-6)
    assert not np.allclose(first, mask, atol=1e-2)


def test_shaping_in_the_reader():
    mask = next(iter(open_mask(disc(np.uint8), **SIZE, grow=1, feather=0.5, invert=True)))
    unit = 1 - disc()[0]
    expected = shape_mask(np.rint(unit * 255) / np.float32(255), grow=1, feather=0.5)
    assert np.allclose(mask.unit(), expected, atol=0.01)


def test_video_masks_keep_their_samples(make_clip):
    pytest.importorskip("av")
    path = make_clip()
    read = list(open_mask(path, width=64, height=48))
    assert len(read) == 12
    for mask, frame in zip(read, open_reader(path), strict=True):
        assert np.array_equal(mask.data, frame.planes[0])
        assert (mask.black, mask.white) == (16, 235)
    assert read[0].unit().min() == 0
    turned = next(iter(open_mask(path, width=64, height=48, invert=True)))
    assert np.allclose(turned.unit(), 1 - read[0].unit(), atol=1e-6)
    full = make_clip("full.mp4", tags={"color_range": 2})
    assert next(iter(open_mask(full, width=64, height=48))).white == 255
    deep = make_clip("deep.mkv", codec="ffv1", pixel_format="yuv420p10le")
    assert next(iter(open_mask(deep, width=64, height=48))).white == 940


def save(path, planes, color, alpha=None):
    with open_writer(path) as writer:
        writer.write(Frame(planes, color, alpha=alpha))


def test_picture_masks(tmp_path):
    pytest.importorskip("av")
    grey = disc(np.uint16, 1)[0]
    save(tmp_path / "grey.png", (grey,), ColorSpec("gray", 16))
    mask = next(iter(open_mask(tmp_path / "grey.png", **SIZE)))
    assert np.array_equal(mask.data, grey)
    assert mask.white == 65535
    rgb = np.repeat(disc(np.uint8, 1)[0][..., None], 3, axis=2)
    save(tmp_path / "rgb.png", (rgb,), ColorSpec("rgb"))
    assert np.array_equal(next(iter(open_mask(tmp_path / "rgb.png", **SIZE))).data, rgb[..., 0])
    rgb[..., 1:] = 0
    save(tmp_path / "red.png", (rgb,), ColorSpec("rgb"))
    with pytest.raises(ValueError, match="coloured"):
        next(iter(open_mask(tmp_path / "red.png", **SIZE)))
    save(tmp_path / "cut.png", (rgb,), ColorSpec("rgb"), alpha=disc(np.uint8, 1)[0])
    mask = next(iter(open_mask(tmp_path / "cut.png", **SIZE)))
    assert np.array_equal(mask.data, disc(np.uint8, 1)[0])
    with pytest.raises(ValueError, match="no alpha channel"):
        next(iter(open_mask(tmp_path / "red.png", **SIZE, channel="alpha")))


def test_bad_arguments():
    with pytest.raises(ValueError, match="on_short"):
        open_mask(disc(), **SIZE, on_short="stretch")
    with pytest.raises(ValueError, match="feather"):
        open_mask(disc(), **SIZE, feather=-1)
    with pytest.raises(ValueError, match="channel"):
        open_mask(disc(), **SIZE, channel="red")


@pytest.mark.parametrize("shaping", [{"grow": 4000}, {"grow": float("nan")}, {"feather": 1e4}])
def test_absurd_shaping_is_refused(shaping):
    with pytest.raises(ValueError, match=next(iter(shaping))):
        open_mask(np.zeros((1, 4, 4), np.uint8), width=4, height=4, **shaping)

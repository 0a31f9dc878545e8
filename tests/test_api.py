# SPDX-License-Identifier: Apache-2.0
"""harmonize and composite: what goes in comes out, in the same form."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vharm
from vharm import api
from vharm.looks import LutLook, load_look

torch.set_num_threads(1)

T, H, W = 3, 32, 44
FULL = {"uint8": 255, "uint16": 65535}


def pictures(dtype="uint8", count=T, height=H, width=W, channels=3):
    """Textured clips [T,H,W,C] whose frames resemble each other."""
    rng = np.random.default_rng(3)
    base = rng.random((height // 4 + 1, width // 4 + 1, channels)).repeat(4, 0).repeat(4, 1)
    base = 0.2 + 0.6 * base[:height, :width]
    clip = np.stack([np.clip(base + 0.01 * i, 0, 1) for i in range(count)])
    return (clip * FULL.get(dtype, 1)).astype(dtype)


def box(count=T, height=H, width=W):
    masks = np.zeros((count, height, width), bool)
    masks[:, 6:20, 8:24] = True
    return masks


def harmonize(*args, **options):
    return vharm.harmonize(*args, **{"method": "mkl", "verbose": False, **options})


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
def test_arrays_keep_dtype_shape_and_the_outside(dtype):
    frames, masks = pictures(dtype), box()
    before = frames.copy()
    out = harmonize(frames, masks)
    assert isinstance(out, np.ndarray)
    assert (out.dtype, out.shape) == (frames.dtype, frames.shape)
    np.testing.assert_array_equal(frames, before)
    np.testing.assert_array_equal(out[~masks], frames[~masks])
    assert (out[masks] != frames[masks]).mean() > 0.5
    scale = FULL.get(dtype, 1)
    same = harmonize(pictures("float32"), masks)
    np.testing.assert_allclose(out / scale, same, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.bfloat16])
def test_tensors_are_nchw(dtype, device):
    name = {torch.uint8: "uint8", torch.uint16: "uint16"}.get(dtype, "float32")
    frames = torch.from_numpy(pictures(name)).permute(0, 3, 1, 2).to(device, dtype)
    out = harmonize(frames, torch.from_numpy(box()).to(device))
    assert isinstance(out, torch.Tensor)
    assert (out.dtype, out.shape, out.device) == (frames.dtype, frames.shape, frames.device)
    array = harmonize(frames.permute(0, 2, 3, 1).float().cpu().numpy() / FULL.get(name, 1), box())
    got = out.float().cpu().permute(0, 2, 3, 1).numpy() / FULL.get(name, 1)
    np.testing.assert_allclose(got, array, atol=0.02)


def test_layout_overrides_and_misfits_are_errors():
    frames, masks = pictures(), box()
    planar = np.ascontiguousarray(frames.transpose(0, 3, 1, 2))
    expected = harmonize(frames, masks)
    out = harmonize(planar, masks, layout="NCHW")
    np.testing.assert_array_equal(out.transpose(0, 2, 3, 1), expected)
    tensor = harmonize(torch.from_numpy(frames), masks, layout="NHWC")
    np.testing.assert_array_equal(tensor.numpy(), expected)
    with pytest.raises(ValueError, match=r"layout NHWC\), got shape .*layout=.NCHW. if"):
        harmonize(planar, masks)
    with pytest.raises(ValueError, match=r"layout NCHW\), got shape .*layout=.NHWC. if"):
        harmonize(torch.from_numpy(frames), masks)
    with pytest.raises(ValueError, match=r"frames: .*expected .* got shape \[32, 44, 5\]$"):
        harmonize(np.zeros((T, H, W, 5), np.uint8), masks)
    with pytest.raises(ValueError, match="layout: expected one of NHWC, NCHW; got 'HWC'"):
        harmonize(frames, masks, layout="HWC")


def test_one_picture_comes_back_as_one():
    frames, masks = pictures(), box()
    out = harmonize(frames[0], masks[0])
    assert out.shape == (H, W, 3)
    np.testing.assert_array_equal(out, harmonize(frames[:1], masks[:1])[0])
    tensor = torch.from_numpy(frames[0]).permute(2, 0, 1)
    assert torch.equal(
        harmonize(tensor, torch.from_numpy(masks[0])), torch.from_numpy(out).permute(2, 0, 1)
    )


def test_lists_and_generators():
    frames, masks = pictures(), box()
    expected = harmonize(frames, masks)
    out = harmonize(list(frames), list(masks))
    assert isinstance(out, list)
    np.testing.assert_array_equal(np.stack(out), expected)
    lazy = harmonize((f for f in frames), (m for m in masks))
    assert not isinstance(lazy, list | np.ndarray)
    assert iter(lazy) is lazy
    np.testing.assert_array_equal(np.stack(list(lazy)), expected)
    mixed = harmonize(iter(list(torch.from_numpy(frames).permute(0, 3, 1, 2))), masks)
    assert all(isinstance(p, torch.Tensor) and p.shape == (3, H, W) for p in mixed)


def test_a_generator_is_read_as_results_are_drawn():
    read = 0

    def source():
        nonlocal read
        for picture in pictures(count=60):
            read += 1
            yield picture

    out = harmonize(source(), box()[0])
    assert read == 0
    for drawn in range(1, 61):
        next(out)
        assert read - drawn <= 10
    assert next(out, None) is None


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_alpha_is_the_mask_and_comes_back(dtype):
    frames, masks = pictures(dtype, channels=4), box()
    frames[..., 3] = masks * FULL.get(dtype, 1)
    out = harmonize(frames)
    assert out.dtype == frames.dtype
    np.testing.assert_array_equal(out[..., 3], frames[..., 3])
    np.testing.assert_array_equal(out[..., :3], harmonize(frames[..., :3], masks))
    inverted = harmonize(frames, invert_mask=True)
    np.testing.assert_array_equal(inverted[..., :3], harmonize(frames[..., :3], ~masks))
    with pytest.raises(ValueError, match="masks: none were given"):
        harmonize(frames[..., :3])


def test_masks_of_every_kind():
    frames, masks = pictures(), box()
    expected = harmonize(frames, masks)
    kinds = [
        masks.astype(np.uint8) * 255,
        masks.astype(np.uint16) * 65535,
        masks.astype(np.float32),
        masks.astype(np.float64),
        masks[..., None],
        masks[:, None],
        masks[0],
        torch.from_numpy(masks),
        list(masks),
    ]
    for kind in kinds:
        np.testing.assert_array_equal(harmonize(frames, kind), expected)
    with pytest.raises(ValueError, match="mask: uint8 values up to 1 only"):
        harmonize(frames, masks.astype(np.uint8))
    with pytest.raises(TypeError, match="mask: expected bool, uint8"):
        harmonize(frames, masks.astype(np.int64))
    grown = harmonize(frames, masks, mask_grow=2)
    assert (grown != frames).any(-1).sum() > (expected != frames).any(-1).sum()


def test_on_short():
    frames, masks = pictures(), box()
    with pytest.raises(ValueError, match="mask: has 2 frames, the clip has 3"):
        harmonize(frames, masks[:2])
    expected = harmonize(frames, masks)
    for on_short in ("loop", "hold"):
        np.testing.assert_array_equal(harmonize(frames, masks[:2], on_short=on_short), expected)


def test_estimating_fewer_frames():
    frames = pictures(count=9)
    # The background's light changes, and so must what is estimated.
    frames = (frames * np.linspace(1, 0.5, 9)[:, None, None, None]).astype(np.uint8)
    frames[:, H // 4 : H // 2, W // 4 : W // 2] = (200, 60, 60)
    masks = box(9)
    each = harmonize(frames, masks, temporal="per-frame")
    some = harmonize(frames, masks, temporal="per-frame", estimate_every=4)
    for index in (0, 4, 8):
        np.testing.assert_array_equal(each[index], some[index])
    gap, drift = (abs(some[a].astype(int) - each[b])[masks[2]] for a, b in ((2, 2), (0, 2)))
    assert 0 < gap.mean() < drift.mean() / 2
    drawn = harmonize(iter(frames), masks, temporal="per-frame", estimate_every=4)
    np.testing.assert_array_equal(np.stack(list(drawn)), some)


def test_the_method_is_printed(capsys):
    vharm.harmonize(pictures(), box())
    default = vharm.methods.default_name()
    assert capsys.readouterr().err == f"vharm: method {default}, temporal smooth, on cpu\n"
    vharm.harmonize(pictures(), box(), "mkl", estimate_every=3)
    said = "vharm: method mkl, temporal smooth, estimated every 3 frames, on cpu\n"
    assert capsys.readouterr().err == said
    vharm.harmonize(pictures(), box(), "reinhard", verbose=False)
    assert capsys.readouterr().err == ""


def test_strength_zero_gives_the_input_bits():
    for dtype in ("uint8", "float32"):
        frames = pictures(dtype)
        out = harmonize(frames, box(), strength=0)
        assert out is not frames
        assert not np.shares_memory(out, frames)
        np.testing.assert_array_equal(out, frames)


def test_odd_memory_is_read_right():
    frames, masks = pictures(), box()
    expected = harmonize(frames, masks)
    wide = np.zeros((T, H, 2 * W, 3), np.uint8)
    wide[:, :, ::2] = frames
    for view in (
        wide[:, :, ::2],
        np.asfortranarray(frames),
        frames[:, ::-1][:, ::-1],
        np.ascontiguousarray(frames[::-1])[::-1],
    ):
        np.testing.assert_array_equal(harmonize(view, masks), expected)
    locked = frames.copy()
    locked.setflags(write=False)
    np.testing.assert_array_equal(harmonize(locked, masks), expected)
    big = frames.astype(">u2") * 257
    np.testing.assert_array_equal(
        harmonize(big, masks), harmonize(frames.astype(np.uint16) * 257, masks)
    )


def test_looks_in_and_out(tmp_path):
    frames, masks = pictures(), box()
    path, cube = tmp_path / "look.json", tmp_path / "look.cube"
    out = harmonize(frames, masks, temporal="lock", look_out=path, cube_out=cube)
    for look in (path, load_look(path)):
        np.testing.assert_array_equal(harmonize(frames, masks, method=None, look=look), out)
    from_cube = harmonize(frames, masks, method=None, look=cube)
    assert abs(from_cube.astype(int) - out).max() <= 1
    with pytest.raises(ValueError, match="look: a Look replaces the method"):
        harmonize(frames, masks, method="mkl", look=path)
    with pytest.raises(TypeError, match="look: expected a Look, a LookTrack or a path, got int"):
        harmonize(frames, masks, method=None, look=3)
    with pytest.raises(ValueError, match="look_out: not for an iterator"):
        harmonize(iter(frames), masks, look_out=path)


def test_compare_doubles_arrays():
    frames, masks = pictures(width=43), box(width=43)
    out = harmonize(frames, masks, compare="side-by-side")
    assert out.shape == (T, H, 84, 3)
    np.testing.assert_array_equal(out[:, :, :42], frames[:, :, :42])
    plain = harmonize(frames, masks)
    np.testing.assert_array_equal(out[:, :, 42:], plain[:, :, :42])
    wiped = harmonize(torch.from_numpy(frames).permute(0, 3, 1, 2), masks, compare="wipe")
    assert wiped.shape == (T, 3, H, 43)
    for kind in ("slide", "side_by_side"):
        with pytest.raises(ValueError, match="compare: expected one of wipe, side-by-side"):
            harmonize(frames, masks, compare=kind)


def test_composite_of_arrays():
    front, back, masks = pictures(), 255 - pictures(), box()
    out = vharm.composite(front, back, masks)
    np.testing.assert_array_equal(out[masks], front[masks])
    np.testing.assert_array_equal(out[~masks], back[~masks])
    half = vharm.composite(front, back, np.full((T, H, W), 0.5, np.float32))
    assert abs(half.astype(float) - 127.5).max() <= 1
    alpha = np.concatenate([front, (masks * 255)[..., None].astype(np.uint8)], -1)
    np.testing.assert_array_equal(vharm.composite(alpha, back), out)
    lazy = vharm.composite(iter(front), iter(back), iter(masks))
    np.testing.assert_array_equal(np.stack(list(lazy)), out)
    planar = [torch.from_numpy(x).permute(0, 3, 1, 2) for x in (front, back)]
    tensor = vharm.composite(*planar, masks)
    np.testing.assert_array_equal(tensor.permute(0, 2, 3, 1).numpy(), out)
    premultiplied = front * masks[..., None]
    np.testing.assert_array_equal(
        vharm.composite(premultiplied, back, masks, premultiplied=True), out
    )


def test_foreground_and_background_are_composed_first():
    front, back, masks = pictures(), 255 - pictures(), box()
    together = harmonize(vharm.composite(front, back, masks), masks)
    apart = vharm.harmonize(None, masks, "mkl", foreground=front, background=back, verbose=False)
    np.testing.assert_array_equal(apart, together)
    with pytest.raises(ValueError, match="frames: give either frames, or foreground"):
        harmonize(front, masks, foreground=front, background=back)
    with pytest.raises(ValueError, match="background: is needed"):
        harmonize(None, masks, foreground=front)
    with pytest.raises(TypeError, match="frames: expected pictures or a path, got None"):
        harmonize()


def test_start_and_end_cut_memory_too():
    frames, masks = pictures(count=10), box(10)
    out = harmonize(frames, masks, start=0.2, end=0.5, frame_rate=10)
    np.testing.assert_array_equal(out, harmonize(frames[2:5], masks[2:5], frame_rate=10))
    with pytest.raises(ValueError, match=r"start, end: .*frame_rate"):
        harmonize(frames, masks, start=0.2)


def test_files(tmp_path):
    pytest.importorskip("av")
    from vharm.media import open_reader

    frames, masks = pictures(count=6), box(6)
    source, matte, result = (tmp_path / name for name in ("in.mkv", "mask.mkv", "out.mkv"))
    nothing = LutLook.identity(2)
    lossless = {"codec": "ffv1", "frame_rate": 25, "verbose": False}
    vharm.harmonize(frames, masks[0], look=nothing, output=source, **lossless)
    grey = np.repeat(masks[..., None], 3, -1).astype(np.uint8) * 255
    vharm.harmonize(grey, masks[0], look=nothing, output=matte, **lossless)
    done = []
    out = harmonize(source, matte, output=result, codec="ffv1",
                    progress=lambda *call: done.append(call))  # fmt: skip
    assert out == result
    assert [call[0] for call in done] == [1, 2, 3, 4, 5, 6]
    clips = [np.stack([f.planes[0] for f in open_reader(p)]) for p in (source, result)]
    changed = (clips[0] != clips[1]).reshape(6, H, W, -1).any(-1)
    assert not changed[~masks].any()
    assert changed[masks].mean() > 0.5
    part = tmp_path / "part.mkv"
    harmonize(source, str(matte), output=str(part), codec="ffv1", start=0.08, end=0.16)
    assert len(list(open_reader(part))) == 2
    with pytest.raises(ValueError, match="output: is needed where frames come from files"):
        harmonize(source, matte)
    with pytest.raises(ValueError, match="layout: is for pictures in memory"):
        harmonize(source, matte, output=part, layout="NHWC")


def test_pictures_in_a_folder(tmp_path):
    pytest.importorskip("av")
    from vharm.media import open_reader

    (tmp_path / "in").mkdir()
    frames, masks = pictures(), box()
    vharm.harmonize(frames, masks, look=LutLook.identity(2), output=tmp_path / "in/f_%03d.png",
                    verbose=False)  # fmt: skip
    out = harmonize(tmp_path / "in", masks, output=f"{tmp_path}/out/")
    assert out == tmp_path / "out"
    read = np.stack([f.planes[0] for f in open_reader(tmp_path / "out")])
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"f_{i:03d}.png" for i in range(3)]
    np.testing.assert_array_equal(read[~masks], frames[~masks])
    one = harmonize(tmp_path / "in/f_000.png", masks[0], output=tmp_path / "one.png")
    assert one.exists()


def test_methods_and_include():
    names = [row.name for row in vharm.methods()]
    assert "mkl" in names
    folder = Path(vharm.get_include())
    assert list((folder / "vharm").glob("*.hpp"))
    assert (Path(vharm.__file__).parent / "py.typed").exists()


def test_exports_exist():
    for name in vharm.__all__:
        assert getattr(vharm, name) is not None
    assert set(vharm.__all__) <= set(dir(vharm))
    with pytest.raises(AttributeError, match="no attribute 'harmonise'"):
        vharm.harmonise  # noqa: B018


def test_arrays_need_no_media_library():
    code = (
        "import sys\n"
        "heavy = ('av', 'cv2', 'typer', 'rich', 'matplotlib', 'PIL', 'nvtx')\n"
        "for name in heavy: sys.modules[name] = None\n"
        "import vharm, numpy\n"
        "frames = numpy.zeros((2, 16, 16, 3), numpy.uint8); frames[:, 8:] = 200\n"
        "masks = numpy.zeros((2, 16, 16), bool); masks[:, 4:12, 4:12] = True\n"
        "out = vharm.harmonize(frames, masks, 'mkl')\n"
        "assert out.shape == frames.shape\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_examples_in_docstrings_run():
    import vharm.session.session as session

    for module in (api, session):
        result = doctest.testmod(module)
        assert result.attempted > 3
        assert result.failed == 0

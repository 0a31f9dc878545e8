# SPDX-License-Identifier: Apache-2.0
"""Bad input: a clear error that names the argument, and nothing left behind."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from clips import can_be_interrupted

import vharm
from vharm.looks import LutLook
from vharm.session import Session

torch.set_num_threads(1)

T, H, W = 4, 32, 48


def clip(count=T, height=H, width=W, dtype=np.uint8):
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([60 + x, 80 + 2 * y, 100 + x // 2 + y], -1) % 256
    frames = np.stack([base] * count) if count else np.zeros((0, height, width, 3))
    return (frames / 255).astype(dtype) if np.dtype(dtype).kind == "f" else frames.astype(dtype)


def box(count=T, height=H, width=W):
    masks = np.zeros((count, height, width), bool)
    masks[:, height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = True
    return masks


def harmonize(*args, **options):
    return vharm.harmonize(*args, **{"method": "mkl", "verbose": False, **options})


@pytest.fixture
def video(tmp_path):
    """Return a function that writes a small 4:2:0 clip and gives its path."""
    pytest.importorskip("av")

    def make(name="clip.mp4", frames=None, **options):
        frames = clip() if frames is None else frames
        path = tmp_path / name
        vharm.harmonize(
            frames, np.ones(frames.shape[1:3], bool), look=LutLook.identity(2), output=path,
            frame_rate=25, pixel_format="yuv420p", preset="ultrafast", verbose=False, **options,
        )  # fmt: skip
        return path

    return make


def left_over(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"strength": 1.5}, ValueError, "strength: expected 0 to 1, got 1.5"),
        ({"strength": -0.1}, ValueError, "strength: expected 0 to 1, got -0.1"),
        ({"strength": math.nan}, ValueError, "strength: expected 0 to 1, got nan"),
        ({"strength": "1"}, TypeError, "strength: expected a number, got str"),
        ({"temporal": "locked"}, ValueError, "temporal: expected one of per-frame, smooth, lock"),
        ({"time_constant": -1}, ValueError, "time_constant: expected 0 to"),
        ({"estimate_every": 0}, ValueError, "estimate_every: expected at least 1, got 0"),
        ({"estimate_every": -3}, ValueError, "estimate_every: expected at least 1, got -3"),
        ({"estimate_every": 2.0}, TypeError, "estimate_every: expected an integer, got float"),
        ({"estimate_every": True}, TypeError, "estimate_every: expected an integer, got bool"),
        ({"method": "mlk"}, ValueError, "did you mean 'mkl'"),
        ({"method": 3}, TypeError, "method: expected a name, a Method"),
        ({"backend": "metal"}, ValueError, "backend: expected one of reference, cpp"),
        ({"device": "abacus"}, ValueError, "device: expected such as"),
        ({"weights": "x.safetensors"}, ValueError, "weights: the method 'mkl' uses none"),
        ({"on_short": "stop"}, ValueError, 'on_short: expected "error"'),
        ({"mask_feather": -1}, ValueError, "feather: expected a sigma of 0 to"),
        ({"reference_mask": np.zeros((3, 3), bool)}, ValueError, "reference_mask: mask: is 3x3"),
        ({"reference": np.zeros((3, 3), np.uint8)}, ValueError, "reference: expected a path or"),
        ({"reference": np.zeros((3, 3, 3), np.int8)}, TypeError, "reference: expected a path or"),
        ({"compare": "both"}, ValueError, "compare: expected one of"),
    ],
)
def test_options_out_of_range(options, error, text):
    with pytest.raises(error, match=text):
        harmonize(clip(), box(), **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"estimate_every": 0}, "estimate_every: expected at least 1, got 0"),
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"cut_threshold": -1}, "cut_threshold: expected 0 to inf, got -1"),
    ],
)
def test_session_options(options, text):
    with pytest.raises(ValueError, match=text):
        Session("mkl", **options)
    look = LutLook.identity(2)
    with pytest.raises(ValueError, match="method: a Look was given, so nothing is estimated"):
        Session(look, weights="file")
    method = vharm.methods.get("mkl")
    with pytest.raises(ValueError, match="method: is made already"):
        Session(method, method_options={"lightness": 1.0})


def test_no_cuda_is_said():
    if torch.cuda.is_available():
        pytest.skip("has a GPU")
    with pytest.raises(ValueError, match="device: cuda was asked for"):
        harmonize(clip(), box(), device="cuda")


def test_wrong_weights(tmp_path, monkeypatch):
    from vharm.methods import shipped
    from vharm.models.weights import WeightsError

    monkeypatch.setattr(shipped, "FOLDER", tmp_path)

    with pytest.raises(WeightsError, match="without trained weights"):
        harmonize(clip(), box(), method="harmonizer")
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"not weights at all")
    with pytest.raises(WeightsError, match=r"wrong\.safetensors"):
        harmonize(clip(), box(), method="harmonizer", weights=wrong)


def test_mask_of_another_size_or_length():
    with pytest.raises(ValueError, match="mask: is 46x32, the clip is 48x32"):
        harmonize(clip(), box(width=46))
    with pytest.raises(ValueError, match="turned by 90 degrees"):
        harmonize(clip(), box(height=W, width=H))
    for count in (T - 1, T + 1):
        with pytest.raises(ValueError, match=f"mask: has {count} frames, the clip has {T}"):
            harmonize(clip(), box(count))
    with pytest.raises(ValueError, match="mask: has 3 frames, the clip has more"):
        list(harmonize(iter(clip()), iter(box(3))))
    with pytest.raises(ValueError, match="mask: has more frames"):
        list(harmonize(iter(clip()), iter(box(T + 1))))
    with pytest.raises(ValueError, match="on_short: a generator cannot be looped"):
        list(harmonize(iter(clip()), iter(box(2)), on_short="loop"))


def test_mask_video_too_short(video, tmp_path):
    source, matte = video("a.mp4"), video("m.mp4", clip(2) * 0 + 255)
    with pytest.raises(ValueError, match=r"mask: has 2 frames, the clip has"):
        harmonize(source, matte, output=tmp_path / "out.mp4")
    assert left_over(tmp_path) == ["a.mp4", "m.mp4"]
    for on_short in ("loop", "hold"):
        harmonize(source, matte, output=tmp_path / f"{on_short}.mp4", on_short=on_short,
                  reference=np.full((4, 4, 3), 90, np.uint8))  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("look", [None, LutLook.identity(2)])
def test_nan_is_refused(dtype, look):
    frames = clip(dtype=dtype)
    frames[2, 3, 4, 1] = np.nan
    method = None if look is not None else "mkl"
    with pytest.raises(ValueError, match="frames: frame 2 holds NaN"):
        harmonize(frames, box(), method=method, look=look)
    with pytest.raises(ValueError, match="mask: float values must lie in"):
        harmonize(clip(), np.full((H, W), np.nan, np.float32))


def test_scales_that_look_wrong():
    with pytest.raises(ValueError, match=r"frames: frame 0: float samples are 0 to 1, got up to"):
        harmonize(clip().astype(np.float32), box())
    with pytest.raises(TypeError, match="frames: frame 0: expected uint8, uint16 or float, got"):
        harmonize(clip().astype(np.int32), box())
    with pytest.raises(ValueError, match="this looks like a mask of 0 and 1"):
        harmonize(clip(), box().astype(np.uint8))
    with pytest.raises(TypeError, match="frames: frame 1: expected an array or a tensor, got str"):
        harmonize([clip()[0], "picture"], box(2))
    with pytest.raises(TypeError, match="frames: expected a path, an array"):
        harmonize(5, box())


def test_no_frames():
    for nothing in (clip(0), [], iter([]), torch.zeros(0, 3, 8, 8)):
        with pytest.raises(ValueError, match="frames: expected at least one frame, got none"):
            list(harmonize(nothing, box(1)))
    with pytest.raises(ValueError, match=r"frames: frame 0: is empty"):
        harmonize(np.zeros((2, 0, 5, 3), np.uint8), np.zeros((2, 0, 5), bool))
    with pytest.raises(ValueError, match="frames: expected at least one frame, got none"):
        list(Session("mkl").frames([], []))


def test_frames_that_change_midway():
    frames = [*clip(2), clip(1, width=50)[0]]
    with pytest.raises(ValueError, match="frames: frame 2 is 50x32 torch"):
        harmonize(frames, box(3))


@pytest.mark.parametrize("temporal", ["per-frame", "smooth", "lock"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (3, 3)])
@pytest.mark.filterwarnings("ignore:.*covers the whole.*")
def test_tiny_pictures(temporal, size):
    frames = clip(1, *size)
    mask = np.zeros(size, bool)
    mask[0, 0] = True
    out = harmonize(frames, mask, temporal=temporal)
    assert out.shape == frames.shape
    np.testing.assert_array_equal(out[:, ~mask], frames[:, ~mask])


@pytest.mark.parametrize("method", ["mkl", "reinhard", "histogram"])
def test_empty_and_full_masks(method):
    frames = clip()
    with pytest.warns(UserWarning, match="every mask is empty"):
        out = harmonize(frames, np.zeros((H, W), bool), method=method)
    np.testing.assert_array_equal(out, frames)
    with pytest.warns(UserWarning, match="covers the whole"):
        out = harmonize(frames, np.ones((H, W), bool), method=method)
    assert abs(out.astype(int) - frames).max() <= 1


def test_not_a_video(tmp_path, video):
    from vharm.media import MediaError

    mask = np.ones((H, W), bool)
    out = tmp_path / "out.mp4"
    text = tmp_path / "text.mp4"
    text.write_text("no video here")
    with pytest.raises(MediaError, match="not a readable media file"):
        harmonize(text, mask, output=out)
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        harmonize(tmp_path / "none.mp4", mask, output=out)
    sound = tmp_path / "sound.wav"
    import wave

    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    with pytest.raises(MediaError, match="no video stream"):
        harmonize(sound, mask, output=out)
    assert left_over(tmp_path) == ["sound.wav", "text.mp4"]


def test_truncated_video(tmp_path, video):
    from vharm.media import MediaError

    noise = np.random.default_rng(0).integers(0, 256, (40, H, W, 3), np.uint8)
    whole = video("whole.mkv", noise)
    data = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(MediaError, match="broken or cut off") as caught:
        harmonize(cut, box(1)[0], output=tmp_path / "out.mp4")
    assert 0 < caught.value.frames < 40
    assert left_over(tmp_path) == ["cut.mkv", "whole.mkv"]


@pytest.mark.parametrize("size", [(33, 47), (31, 48), (32, 45)])
def test_odd_sizes_with_subsampled_chroma(tmp_path, size):
    av = pytest.importorskip("av")
    from vharm.media import open_reader

    source = tmp_path / "odd.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        for picture in clip(3, *size):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    masks = box(3, *size)
    out = harmonize(source, masks, output=tmp_path / "out.mkv", codec="ffv1")
    clips = [list(open_reader(path)) for path in (source, out)]
    assert [len(c) for c in clips] == [3, 3]
    for before, after in zip(*clips, strict=True):
        assert before.planes[0].shape == after.planes[0].shape == size
        np.testing.assert_array_equal(before.planes[0][~masks[0]], after.planes[0][~masks[0]])


def test_output_that_cannot_be(tmp_path, video):
    source = video("a.mp4")
    mask = box(1)[0]
    before = source.read_bytes()
    with pytest.raises(ValueError, match=r"path: .*is an input"):
        harmonize(source, mask, output=source)
    with pytest.raises(ValueError, match=r"path: .*is an input"):
        harmonize(source, mask, output=tmp_path / "." / "a.mp4")
    assert source.read_bytes() == before
    with pytest.raises(FileNotFoundError, match=r"path: the folder .* does not exist"):
        harmonize(source, mask, output=tmp_path / "none" / "b.mp4")
    with pytest.raises(ValueError, match="codec"):
        harmonize(source, mask, output=tmp_path / "b.mp4", codec="nonsense")
    with pytest.raises(ValueError, match="frame_rate: needed"):
        harmonize(clip(), mask, output=tmp_path / "b.mp4")
    assert left_over(tmp_path) == ["a.mp4"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(tmp_path, video):
    source = video("a.mp4")
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="path: cannot write in the folder"):
        harmonize(source, box(1)[0], output=folder / "b.mp4")


def test_a_folder_that_is_a_file(tmp_path, video):
    source = video("a.mp4")
    with pytest.raises(OSError, match="path: "):
        harmonize(source, box(1)[0], output=source / "b.mp4")


def test_a_failing_progress_leaves_nothing(tmp_path, video):
    source = video("a.mp4", clip(12))

    def stop(done, total, stage):
        if done == 5:
            raise KeyboardInterrupt

    output, looks = tmp_path / "out.mp4", tmp_path / "looks.json"
    output.write_text("what stood here before")
    with pytest.raises(KeyboardInterrupt):
        harmonize(source, box(1)[0], output=output, look_out=looks, progress=stop)
    assert left_over(tmp_path) == ["a.mp4", "out.mp4"]
    assert output.read_text() == "what stood here before"


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_leaves_nothing(tmp_path):
    pytest.importorskip("av")
    code = (
        "import itertools, sys, numpy, torch, vharm\n"
        "torch.set_num_threads(1)\n"
        "def source():\n"
        "    for i in itertools.count():\n"
        "        if i == 20: print('running', flush=True)\n"
        "        yield numpy.full((64, 64, 3), i % 200, numpy.uint8)\n"
        "mask = numpy.zeros((64, 64), bool); mask[8:32, 8:32] = True\n"
        f"vharm.harmonize(source(), mask, 'mkl', output={str(tmp_path / 'out.mp4')!r},\n"
        "                frame_rate=25, preset='ultrafast', verbose=False)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=can_be_interrupted,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "running\n", process.stderr.read()
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0
    assert time.monotonic() - begin < 15
    assert left_over(tmp_path) == []

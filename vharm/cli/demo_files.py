# SPDX-License-Identifier: Apache-2.0
"""The demo's files: writing the clip with sound, and reading results back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..media import ColorSpec, Frame, convert, make_av_frame, open_reader
from .demo_clip import DemoClip

SOUND_RATE = 48000
# Two bars of a pentatonic tune, in semitones above A3; each shot has its own bar.
_TUNES = ((0, 3, 5, 7), (12, 10, 7, 5))
_YUV = ColorSpec(
    "yuv", 8, (1, 1), "bt709", False, matrix_tag=1, range_tag=1, transfer_tag=1, primaries_tag=1
)
_RGB = ColorSpec("rgb", 8)


Pictures = tuple[np.ndarray, np.ndarray, np.ndarray]


def write_clip(folder: Path, clip: DemoClip, frames: list[Pictures]) -> dict[str, Path]:
    """Writes composite.mp4 (with sound), mask.mp4 and truth.mp4 of the clip's frames."""
    paths = {name: folder / f"{name}.mp4" for name in ("composite", "mask", "truth")}
    sound = melody(clip.frame_count / clip.rate, clip.cut / clip.rate)
    for path, column in zip(paths.values(), zip(*frames, strict=True), strict=True):
        # The mask is a measure and not a picture: it is stored all but losslessly.
        name = path.stem
        write_video(
            path, column, clip.rate, crf=4 if name == "mask" else 12,
            sound=sound if name == "composite" else None,
        )  # fmt: skip
    return paths


def write_video(
    path: Path, pictures: Iterable[np.ndarray], rate: int, *, crf: int,
    sound: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Writes H.264 4:2:0 BT.709 from uint8 RGB [H,W,3] or grey [H,W], with AAC if there is sound.

    sound: float32 [samples] at `SOUND_RATE`, mono.
    """
    import av

    with av.open(str(path), "w") as container:
        stream, track = None, None
        for index, picture in enumerate(pictures):
            color = _RGB if picture.ndim == 3 else ColorSpec("gray", 8)
            frame = convert(Frame((picture,), color), _YUV)
            frame.pts, frame.time_base, frame.duration = index, Fraction(1, rate), 1
            if stream is None:
                stream = _video_stream(container, frame, rate, crf)
                # Before the first packet: a container's streams are fixed by then.
                track = None if sound is None else _sound_track(container)
            container.mux(stream.encode(make_av_frame(frame)))
        if stream is None:
            raise ValueError(f"pictures: expected at least one for {path}")
        container.mux(stream.encode())
        if sound is not None:
            _write_sound(container, track, sound)


def _video_stream(container: Any, frame: Frame, rate: int, crf: int) -> Any:
    stream = container.add_stream("libx264", rate=rate)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = frame.width, frame.height, "yuv420p"
    context.time_base = stream.time_base = Fraction(1, rate)
    context.colorspace, context.color_range = _YUV.matrix_tag, _YUV.range_tag
    context.color_trc, context.color_primaries = _YUV.transfer_tag, _YUV.primaries_tag
    context.options = {"crf": str(crf), "preset": "medium"}
    return stream


def _sound_track(container: Any) -> Any:
    return container.add_stream("aac", SOUND_RATE, layout="mono")


def _write_sound(container: Any, track: Any, sound: np.ndarray) -> None:
    import av

    for start in range(0, len(sound), 1024):
        piece = np.ascontiguousarray(sound[None, start : start + 1024])
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        container.mux(track.encode(frame))
    container.mux(track.encode())


def melody(seconds: float, cut: float) -> np.ndarray:
    """A quiet tune, float32 [samples]; it changes at the cut, so that sync can be heard."""
    time = np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
    second = time >= cut
    within = np.where(second, time - cut, time)
    note = np.floor(within * 4).astype(int) % 4
    semitones = np.where(second, np.take(_TUNES[1], note), np.take(_TUNES[0], note))
    pitch = 220.0 * 2.0 ** (semitones / 12)
    since = within * 4 % 1 / 4
    # Each note is struck, rings and is damped before the next: no clicks.
    edges = np.minimum(since / 0.01, 1) * np.minimum((0.25 - since) / 0.02, 1)
    loudness = edges * np.exp(-6 * since)
    wave = sum(np.sin(2 * np.pi * k * pitch * since) / k**2 for k in (1, 2, 3))
    return (0.25 * loudness * wave).astype(np.float32)


def pictures_of(path: Path) -> Iterator[np.ndarray]:
    """The video's frames as uint8 RGB [H,W,3]."""
    with open_reader(path) as reader:
        for frame in reader:
            yield np.array(convert(frame, _RGB).planes[0])

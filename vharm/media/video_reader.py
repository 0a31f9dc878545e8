# SPDX-License-Identifier: Apache-2.0
"""Reading video files: frames in the stream's own samples, with exact time stamps."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from .errors import MediaError, require_av
from .exif import matrix_of_rotation
from .formats import frame_from_av
from .frame import Frame
from .reader import Reader, Template
from .standalone import PacketsByTime
from .threads import decoder_threads

_HALF_A_MILLISECOND = Fraction(1, 2000)


class VideoReader(Reader):
    """Frames of the best video stream of a file; see ``open_reader``."""

    gives_away = True

    def __init__(
        self, path: Path, start: float | None = None, end: float | None = None,
        threads: int | None = None,
    ) -> None:  # fmt: skip
        self._start = None if start is None else Fraction(start).limit_denominator(10**6)
        self._end = None if end is None else Fraction(end).limit_denominator(10**6)
        self._threads = threads
        self._closed = False
        self._waiting: tuple[Any, Iterator[Frame], Frame] | None = None
        container, stream = _open(path, threads)
        try:
            rate = stream.average_rate or stream.guessed_rate
            self._origin = Fraction(stream.start_time or 0) * stream.time_base
            self._rate = rate
            self._shift = 0
            template = _template(path, container, stream)
            whole = _duration(container, stream)
            frames = self._decode(container, stream)
            first = next(frames, None)
            if first is None:
                raise self._nothing(path, start, whole)
        except BaseException:
            container.close()
            raise
        if start is None:
            # Headers are not always right about where a stream begins.
            self._origin = first.pts * first.time_base
        super().__init__(first.width, first.height, first.color, template)
        if start is not None or end is not None:
            # The cut is the first kept frame's time, so that all streams move by the same amount.
            self._shift = 0 if start is None else first.pts
            stop = None if end is None else self._origin + self._end
            template.cut = (self._shift * first.time_base, stop)
        self._waiting = (container, frames, self._place(first, 0))
        template.display_matrix, self.rotation, template.interlaced = self._seen
        self.has_alpha = first.alpha is not None
        self.has_audio = bool(container.streams.audio)
        self.streams = [f"{kept.type}: {kept.name or 'unknown'}" for kept in container.streams]
        self._measure(whole, stream, start, end)

    def _measure(self, whole: float | None, stream: Any, start: Any, end: Any) -> None:
        total = stream.frames or None
        if start is not None or end is not None:
            stop = min(x for x in (end, whole) if x is not None) if end or whole else None
            whole = None if stop is None else max(stop - (start or 0), 0.0)
            total = None
        if total is None and whole is not None and self._rate:
            total = max(round(whole * self._rate), 1)
        self.duration, self.frame_count = whole, total

    def _nothing(self, path: Path, start: float | None, whole: float | None) -> Exception:
        if start is not None:
            length = "of unknown length" if whole is None else f"{whole:.3f} s long"
            return ValueError(f"start: no frame of {path} at or after {start} s; it is {length}")
        return MediaError(f"{path}: no frame could be decoded", frames=0, time=0.0)

    def __iter__(self) -> Iterator[Frame]:
        if self._closed:
            raise ValueError(f"{self.path}: the reader is closed")
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            container, stream = _open(self.path, self._threads)
            frames = self._decode(container, stream)
            first = next(frames, None)
            if first is None:
                raise MediaError(f"{self.path}: changed while it was being read")
            waiting = (container, frames, self._place(first, 0))
        return self._run(*waiting)

    def _run(self, container: Any, frames: Iterator[Frame], first: Frame) -> Iterator[Frame]:
        try:
            # No name may keep a frame while the next is decoded: buffers are large.
            yield first
            del first
            for index, frame in enumerate(frames, 1):
                yield self._place(frame, index)
                del frame
        finally:
            frames.close()
            container.close()

    def _place(self, frame: Frame, index: int) -> Frame:
        frame.index = index
        frame.pts -= self._shift
        origin = 0 if self._shift else self._origin
        frame.time = _seconds(frame.pts, frame.time_base, origin)
        return frame

    def _decode(self, container: Any, stream: Any) -> Iterator[Frame]:
        """Decode from start to end; pts are the stream's own, made up where it has none."""
        av = require_av()
        count, kept, last = 0, None, None  # the time stamps of the last one kept, and decoded
        cut = self._start is not None or self._end is not None

        def at(pts: int | None) -> float:
            return 0.0 if pts is None else _seconds(pts, stream.time_base, self._origin)

        packets = PacketsByTime(stream.codec_context.name)
        try:
            if self._start:
                offset = int((self._start + self._origin) / stream.time_base)
                container.seek(offset, stream=stream, backward=True)
            for packet in container.demux(stream):
                packets.keep(packet)
                for picture in packet.decode():
                    came_in = packets.take(picture)
                    if picture.pts is None:
                        self._make_up_time(picture, stream, count)
                    last = picture.pts
                    if cut:
                        moment = picture.pts * picture.time_base - self._origin
                        if self._start is not None and moment < self._start - _HALF_A_MILLISECOND:
                            continue
                        if self._end is not None and moment >= self._end - _HALF_A_MILLISECOND:
                            return
                    if picture.is_corrupt:
                        raise _broken(container.name, count, at(kept), "the next frame is damaged")
                    if count == 0:
                        self._seen = _side_information(picture)
                    count, kept = count + 1, last
                    frame = frame_from_av(picture, count - 1)
                    frame.packet = came_in
                    del picture
                    yield frame
                    del frame
        except av.FFmpegError as error:
            raise _broken(container.name, count, at(kept), f"{error.strerror}") from error
        if at(last) or not self._start:
            self._check_end(stream, container.name, count, at(last))

    def _make_up_time(self, picture: Any, stream: Any, count: int) -> None:
        """A time stamp for a picture that has none."""
        if not self._rate:
            raise MediaError(f"{stream.container.name}: neither time stamps nor a frame rate")
        picture.time_base = stream.time_base
        picture.pts = round(Fraction(count) / self._rate / stream.time_base)

    def _check_end(self, stream: Any, name: str, count: int, time: float) -> None:
        """Raise where a file simply ends before what its header promised."""
        promised = _stated_end(stream)
        if promised is None or not self._rate or self._end is not None:
            return
        missing = promised - float(self._origin) - time - float(1 / self._rate)
        if missing > max(0.25, 3 / float(self._rate)):
            raise _broken(name, count, time, f"about {missing:.2f} s are missing at the end")

    def close(self) -> None:
        self._closed = True
        if self._waiting is not None:
            container, frames, _ = self._waiting
            self._waiting = None
            frames.close()
            container.close()


def _seconds(pts: int, time_base: Fraction, origin: Fraction | int) -> float:
    """`pts * time_base - origin`, rounded once; fractions of their own would cost more."""
    scale, below = time_base.denominator, origin.denominator
    return (pts * time_base.numerator * below - origin.numerator * scale) / (scale * below)


def _broken(name: str, count: int, time: float, why: str) -> MediaError:
    text = f"{name}: broken or cut off: {count} frames decoded"
    if count:
        text += f", up to {time:.3f} s"
    return MediaError(f"{text}; {why}", frames=count, time=time)


def _open(path: Path, threads: int | None) -> tuple[Any, Any]:
    av = require_av()
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except av.FFmpegError as error:
        raise MediaError(
            f"{path}: not a readable media file, or cut off before its index: {error.strerror}",
            frames=0,
            time=0.0,
        ) from error
    stream = _main_stream(container)
    if stream is None:
        kinds = ", ".join(sorted({kept.type for kept in container.streams})) or "nothing"
        container.close()
        raise MediaError(f"{path}: no video stream (found: {kinds})", frames=0)
    if stream.codec_context is None:
        container.close()
        raise MediaError(f"{path}: no decoder for its video stream", frames=0)
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = threads or decoder_threads()
    return container, stream


def _main_stream(container: Any) -> Any:
    covers = _disposition("attached_pic")
    streams = [s for s in container.streams.video if not s.disposition.value & covers]
    if not streams:
        return None
    best = container.streams.best("video")
    return best if best is not None and any(s.index == best.index for s in streams) else streams[0]


def _disposition(name: str) -> int:
    from av.stream import Disposition

    return Disposition[name].value


def _duration(container: Any, stream: Any) -> float | None:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    stated = _stated_end(stream)
    if stated is not None:
        return stated - float((stream.start_time or 0) * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _stated_end(stream: Any) -> float | None:
    """Where the header says that the video ends, in the container's seconds."""
    text = stream.metadata.get("DURATION")  # Matroska keeps it as 00:00:01.200000000
    if text and text.count(":") == 2:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if stream.duration and stream.frames:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    return None


def _side_information(picture: Any) -> tuple[tuple[int, ...] | None, int, bool]:
    """Display matrix, rotation in degrees, and whether the picture is interlaced."""
    from av.sidedata.sidedata import SideDataContainer

    rotation = int(picture.rotation)
    try:
        # `picture.side_data` would be kept by the picture it keeps: both wait for the collector.
        data = SideDataContainer(picture).get("DISPLAYMATRIX")
        matrix = None if data is None else struct.unpack("=9i", bytes(data)[:36])
    except ValueError:
        # PyAV lists no side data at all where one kind is newer than it knows.
        matrix = matrix_of_rotation(rotation)
    return matrix, rotation, bool(picture.interlaced_frame)


def _template(path: Path, container: Any, stream: Any) -> Template:
    context = stream.codec_context
    return Template(
        path=path,
        codec=context.name,
        profile=context.profile,
        pixel_format=context.pix_fmt,
        time_base=stream.time_base,
        frame_rate=stream.average_rate or stream.guessed_rate,
        sample_aspect_ratio=stream.sample_aspect_ratio or None,
        metadata=dict(container.metadata),
        stream_metadata=dict(stream.metadata),
        chapters=list(container.chapters()),
        stream_index=stream.index,
    )

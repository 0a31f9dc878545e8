# SPDX-License-Identifier: Apache-2.0
"""Writing video files: exact time stamps and tags, other streams copied along."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from .codecs import choose_encoding
from .errors import MediaError, require_av
from .formats import make_av_frame, to_format
from .frame import MATRIX_TAGS, ColorSpec, Frame
from .pixel_formats import color_of_format
from .reader import Template
from .remux import PacketCopier, copy_chapters, portable_metadata
from .standalone import PacketOrder, may_copy, packet_of
from .threads import x264_threads
from .writer import Writer

_CONTAINER_OPTIONS = ("movflags", "brand", "write_tmcd", "use_editlist", "video_track_timescale")


class VideoWriter(Writer):
    """Encodes frames into a container; see ``open_writer``."""

    def __init__(
        self,
        path: Path,
        partial: Path,
        template: Template,
        rate: Fraction | None,
        settings: dict[str, Any],
        audio: bool,
    ) -> None:
        super().__init__(path, partial)
        self._template = template
        self._forced_rate = rate
        self._settings = settings
        self._audio = audio
        self._stream: Any = None
        self._copier: PacketCopier | None = None
        self._last_pts: int | None = None
        self._order: PacketOrder | None = None
        self._container: Any = None
        options = settings["options"]
        moved = {key: str(options.pop(key)) for key in _CONTAINER_OPTIONS if key in options}
        av = require_av()
        try:
            self._container = av.open(str(partial), "w", container_options=moved)
        except (av.FFmpegError, ValueError) as error:
            self.abort()
            raise ValueError(
                f"path: no container for the suffix {path.suffix!r}: {error}"
            ) from error

    def configure(self, width: int, height: int, color: ColorSpec, has_alpha: bool) -> None:
        """Open the encoder for frames of that size and color. Raises ValueError."""
        template = self._template
        encoding = choose_encoding(
            self.path.suffix.lower(), color, has_alpha, template, **self._settings
        )
        self.warnings += encoding.warnings
        rate = self._forced_rate or template.frame_rate
        own_clock = self._forced_rate is None and template.time_base is not None
        if rate is None and not own_clock:
            raise ValueError("frame_rate: needed, as the frames carry no time stamps")
        try:
            stream = self._container.add_stream(encoding.codec, rate=rate)
        except ValueError as error:
            raise ValueError(f"codec: {error}") from None
        context = stream.codec_context
        context.width, context.height = width, height
        context.pix_fmt = encoding.pixel_format
        # AVI knows a constant rate only, and no order of display.
        avi = self._container.format.name == "avi"
        if avi:
            encoding.options.setdefault("bf", "0")
        if encoding.codec == "libx264":
            encoding.options.setdefault("threads", str(x264_threads(height)))
        clock = template.time_base if own_clock and not (avi and rate) else 1 / rate
        context.time_base = stream.time_base = clock
        if self._container.format.name in ("mp4", "mov", "ipod"):
            # Where a stream does not begin at 0, MP4 rounds its beginning to this clock.
            fine = clock.denominator
            while fine < 10000:
                fine *= 2
            self._container.container_options.setdefault("movie_timescale", str(fine))
        self._stream, self._clock = stream, clock
        self._size = (width, height)
        self._color = _written_color(encoding.pixel_format, width, height, color)
        self._format = encoding.pixel_format
        if may_copy(encoding, template, self.path.suffix.lower(), self._settings):
            self._order = PacketOrder(self._mux)
        context.colorspace = self._color.matrix_tag
        context.color_range = self._color.range_tag
        context.color_trc = self._color.transfer_tag
        context.color_primaries = self._color.primaries_tag
        if template.sample_aspect_ratio:
            context.sample_aspect_ratio = template.sample_aspect_ratio
        self._carry_over(stream, has_alpha, encoding.pixel_format)
        self._open_encoder(context, encoding.codec, encoding.options)

    def _carry_over(self, stream: Any, has_alpha: bool, pixel_format: str) -> None:
        template = self._template
        if has_alpha and not pixel_format.startswith(("yuva", "rgba", "gbrap", "ya", "bgra")):
            self.warnings.append(f"the alpha channel is not kept: {pixel_format} has none")
        if template.interlaced:
            self.warnings.append("the source is interlaced; its fields are written as whole frames")
        if template.display_matrix is not None:
            stream.set_display_matrix(template.display_matrix)
        stream.metadata.update(portable_metadata(template.stream_metadata))
        self._container.metadata.update(portable_metadata(template.metadata))
        if template.path is not None and template.stream_index is not None:
            copy_chapters(template, self._container)
            self._copier = PacketCopier(template, self._container, self._audio, self.warnings)

    def _open_encoder(self, context: Any, codec: str, options: dict[str, str]) -> None:
        av = require_av()
        context.thread_type = "AUTO"
        context.options = options
        try:
            context.open()
        except av.FFmpegError as error:
            text = ", ".join(f"{key}={value}" for key, value in options.items())
            across, down = self._color.subsampling
            hint = ""
            if self._size[0] % (1 << across) or self._size[1] % (1 << down):
                hint = (
                    "; with this chroma subsampling the size must be even: crop or pad the clip, "
                    'or give pixel_format="yuv444p", or codec="ffv1" in a .mkv file'
                )
            raise ValueError(
                f"options: {codec} does not open with {text or 'its defaults'} for "
                f"{self._size[0]}x{self._size[1]} {self._format}: {error.strerror}{hint}"
            ) from error
        # FFmpeg takes out what it knows and leaves the rest.
        left = sorted(context.options)
        if left:
            raise ValueError(f"options: {codec} does not accept {', '.join(left)}")

    def _write(self, frame: Frame) -> None:
        if self._stream is None:
            self.configure(frame.width, frame.height, frame.color, frame.alpha is not None)
        if (frame.width, frame.height) != self._size:
            raise ValueError(
                f"frame: expected {self._size[0]}x{self._size[1]}, got {frame.width}x{frame.height}"
            )
        pts, duration = self._times(frame)
        if self._order is not None:
            packet = packet_of(frame)
            if packet is not None:
                self._order.copied(self._copy_of(packet, pts, duration))
                self.copied_count += 1
                return
            self._order.expect()
        picture = make_av_frame(frame)
        picture = to_format(picture, self._format, frame.color, self._color)
        picture.time_base, picture.pts, picture.duration = self._clock, pts, duration
        self._take(self._stream.encode(picture))

    def _copy_of(self, packet: Any, pts: int, duration: int) -> Any:
        copy = require_av().Packet(bytes(packet))
        copy.time_base, copy.pts, copy.dts, copy.duration = self._clock, pts, pts, duration
        copy.stream, copy.is_keyframe = self._stream, True
        return copy

    def _take(self, packets: Iterable[Any]) -> None:
        """What the encoder has given."""
        for packet in packets:
            if self._order is None:
                self._mux(packet)
            else:
                self._order.encoded(packet)

    def _times(self, frame: Frame) -> tuple[int, int]:
        """Time stamp and duration in units of the stream's clock."""
        count = self.frame_count
        if self._forced_rate is not None or frame.pts is None or frame.time_base is None:
            rate = self._forced_rate or self._template.frame_rate
            if rate is None:
                raise ValueError("frame_rate: needed, as the frames carry no time stamps")
            pts, duration = round(count / rate / self._clock), round(1 / rate / self._clock)
        else:
            factor = frame.time_base / self._clock
            pts, duration = frame.pts, frame.duration or 0
            if factor != 1:
                pts, duration = round(pts * factor), round(duration * factor)
        if self._last_pts is not None and pts <= self._last_pts:
            self.warnings.append(
                f"frame {count} is not later than the one before it; its time stamp was moved"
            )
            pts = self._last_pts + 1
        self._last_pts = pts
        return pts, duration

    def _mux(self, packet: Any) -> None:
        if self._copier is not None and packet.dts is not None:
            self._copier.advance(packet.dts * packet.time_base)
        self._container.mux(packet)

    def _finish(self) -> None:
        self._take(self._stream.encode(None))
        if self._copier is not None:
            self._copier.advance(None)
            self._copier.close()
        self._container.close()
        if self._partial.stat().st_size == 0:
            raise MediaError(f"{self.path}: the encoder gave nothing")
        os.replace(self._partial, self.path)

    def _discard(self) -> None:
        if self._copier is not None:
            self._copier.close()
        if self._container is not None:
            self._container.close()


def _written_color(name: str, width: int, height: int, color: ColorSpec) -> ColorSpec:
    """Describe the samples that are encoded: the frames' own tags, or ours where RGB became YUV."""
    matrix, value_range = color.matrix_tag, color.range_tag
    written = color_of_format(name, width, height)
    if color.layout != written.layout:
        if written.layout == "yuv":
            guess = color_of_format("yuv420p", width, height).matrix
            matrix, value_range = MATRIX_TAGS[guess], 1
        elif written.layout == "rgb":
            matrix, value_range = 0, 2
    return color_of_format(
        name,
        width,
        height,
        matrix_tag=matrix,
        range_tag=value_range,
        transfer_tag=color.transfer_tag,
        primaries_tag=color.primaries_tag,
    )

# SPDX-License-Identifier: Apache-2.0
"""Writing pictures and image sequences."""

from __future__ import annotations

import os
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any

from .errors import MediaError, require_av
from .formats import make_av_frame, to_format
from .frame import ColorSpec, Frame
from .pixel_formats import color_of_format, format_of_color
from .reader import Template
from .writer import Writer

_ENCODERS = {
    ".png": "png", ".jpg": "mjpeg", ".jpeg": "mjpeg", ".jpe": "mjpeg", ".tif": "tiff",
    ".tiff": "tiff", ".exr": "exr", ".bmp": "bmp", ".webp": "libwebp", ".dpx": "dpx",
    ".tga": "targa", ".ppm": "ppm", ".jp2": "jpeg2000",
}  # fmt: skip
# Plain formats under the names the encoders know them by.
_RENAMED = {
    "png": {"rgb48le": "rgb48be", "rgba64le": "rgba64be", "gray16le": "gray16be",
            "ya16le": "ya16be"},
    "bmp": {"rgb24": "bgr24", "rgba": "bgra"},
    "libwebp": {"rgb24": "bgra", "rgba": "bgra"},
    "targa": {"rgb24": "bgr24", "rgba": "bgra"},
}  # fmt: skip


class ImageWriter(Writer):
    """Writes one picture, or one for each frame; see ``open_writer``."""

    def __init__(
        self,
        path: Path,
        partial: Path,
        kind: str,
        suffix: str,
        template: Template,
        pixel_format: str | None,
        options: dict[str, Any],
        overwrite: bool,
        inputs: list[Path],
    ) -> None:
        super().__init__(path, partial)
        self._kind, self._suffix = kind, suffix
        self._names = template.names
        self._pixel_format = pixel_format
        self._options = {key: str(value) for key, value in options.items()}
        self._overwrite = overwrite
        self._inputs = {os.path.realpath(entry) for entry in inputs}
        self._context: Any = None
        self._pending: deque[str] = deque()
        self._written: list[str] = []
        if suffix not in _ENCODERS:
            self.abort()
            raise ValueError(f"path: pictures cannot be written as {suffix}")
        if kind == "image":
            self._check_free(path)
        if template.display_matrix is not None:
            self.warnings.append("the rotation is not kept: pictures are written as stored")

    def _check_free(self, target: Path) -> None:
        if os.path.realpath(target) in self._inputs:
            self.abort()
            raise ValueError(f"path: {target} is an input; it would be overwritten")
        if not self._overwrite and target.exists():
            self.abort()
            raise FileExistsError(f"path: {target} exists already")

    def _name(self, index: int) -> str:
        if self._kind == "image":
            if index > 0:
                raise ValueError(
                    f"path: {self.path} is one picture; for more frames give a folder or a "
                    f"pattern such as {self.path.stem}_%05d{self._suffix}"
                )
            return self.path.name
        if self._kind == "pattern":
            return self.path.name % index
        if self._names and index < len(self._names):
            return Path(self._names[index]).stem + self._suffix
        return f"frame_{index:05d}{self._suffix}"

    def _folder(self) -> Path:
        return self.path if self._kind == "folder" else self.path.parent

    def _write(self, frame: Frame) -> None:
        name = self._name(self.frame_count)
        self._check_free(self._folder() / name)
        key = (frame.color, frame.width, frame.height, frame.alpha is not None)
        if self._context is None or key != self._key:
            self._flush()
            self._configure(frame)
            self._key = key
        picture = to_format(make_av_frame(frame), self._format, frame.color, self._color)
        picture.pts, picture.time_base = self.frame_count, Fraction(1, 25)
        self._pending.append(name)
        self._save(self._context.encode(picture))

    def _configure(self, frame: Frame) -> None:
        av = require_av()
        codec = _ENCODERS[self._suffix]
        context = av.CodecContext.create(codec, "w")
        name, color = self._choose(codec, frame)
        context.width, context.height, context.pix_fmt = frame.width, frame.height, name
        context.time_base = Fraction(1, 25)
        context.color_range = color.range_tag
        context.colorspace = color.matrix_tag
        context.color_trc, context.color_primaries = color.transfer_tag, color.primaries_tag
        options = dict(self._options)
        if codec == "mjpeg":
            # A fixed quantiser of 2: FFmpeg's default aims at a bit rate instead.
            context.flags |= 0x2
            context.global_quality = 2 * 118
            context.qmin = 1
        if codec == "png" and "compression_level" not in options:
            options["pred"] = options.get("pred", "mixed")
        context.thread_type, context.thread_count = "AUTO", 0
        context.options = options
        try:
            context.open()
        except av.FFmpegError as error:
            raise ValueError(f"options: {codec} does not open for {name}: {error}") from error
        left = sorted(context.options)
        if left:
            raise ValueError(f"options: {codec} does not accept {', '.join(left)}")
        self._context, self._format, self._color = context, name, color

    def _choose(self, codec: str, frame: Frame) -> tuple[str, ColorSpec]:
        """Pixel format for the encoder: RGB of the frame's depth, grey where the frame is grey."""
        have, alpha = frame.color, frame.alpha is not None
        tags = {"transfer_tag": have.transfer_tag, "primaries_tag": have.primaries_tag}
        if codec == "exr" and have.depth != 32:
            raise ValueError(
                "frame: EXR takes float32 frames; convert integer frames to linear first"
            )
        if codec != "exr" and have.depth == 32:
            raise ValueError(f"frame: {self._suffix} takes uint8 or uint16 frames, not float")
        if codec == "mjpeg":
            if alpha:
                self._warn_once("the alpha channel is not kept: JPEG has none")
            name = self._pixel_format or ("gray" if have.layout == "gray" else "yuv444p")
            tag = 5 if name.startswith("yuv") else 2
            color = color_of_format(name, 0, 0, matrix_tag=tag, range_tag=2, image=True, **tags)
            return name, color
        depth = 8 if have.depth == 8 else have.depth if have.depth == 32 else 16
        layout = "gray" if have.layout == "gray" and not (alpha and depth == 32) else "rgb"
        if codec in ("bmp", "libwebp", "targa"):
            layout, depth = "rgb", 8
        plain = format_of_color(ColorSpec(layout, depth), alpha)
        name = self._pixel_format or _RENAMED.get(codec, {}).get(plain, plain)
        takes = [entry.name for entry in require_av().Codec(codec, "w").video_formats or [name]]
        if name not in takes:
            raise ValueError(
                f"frame: {self._suffix} cannot hold {plain}; it takes {', '.join(takes)}"
            )
        color = color_of_format(
            name, 0, 0, matrix_tag=0 if layout == "rgb" else 2, range_tag=2, image=True, **tags
        )
        return name, color

    def _warn_once(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def _save(self, packets: list[Any]) -> None:
        for packet in packets:
            name = self._pending.popleft()
            (self._partial / name).write_bytes(bytes(packet))
            self._written.append(name)

    def _flush(self) -> None:
        if self._context is not None:
            self._save(self._context.encode(None))
            self._context = None

    def _finish(self) -> None:
        self._flush()
        if self._pending:
            raise MediaError(f"{self.path}: {len(self._pending)} pictures were not encoded")
        folder = self._folder()
        folder.mkdir(exist_ok=True)
        for name in self._written:
            os.replace(self._partial / name, folder / name)
        self._partial.rmdir()

    def _discard(self) -> None:
        self._context = None

# SPDX-License-Identifier: Apache-2.0
"""Copying sound, subtitles and attachments from one container to another, packet by packet."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from .errors import require_av
from .reader import Template

_COPIED = ("audio", "subtitle", "attachment")
# Written afresh by every muxer; a copy would be wrong.
_OWN_METADATA = frozenset(
    {"encoder", "major_brand", "minor_version", "compatible_brands", "duration", "rotate"}
    | {"number_of_frames", "number_of_bytes", "bps", "vendor_id"}
)


def portable_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Drop the entries that describe a file's own encoding from container or stream metadata."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _OWN_METADATA and not key.startswith("_STATISTICS")
    }


class PacketCopier:
    """Copies every stream but the main video of ``template.path`` into ``output``.

    Make it before the output's header is written; then ``advance`` as the video grows. Packets
    are read as they are needed, so memory does not grow with the clip.
    """

    def __init__(self, template: Template, output: Any, audio: bool, warnings: list[str]) -> None:
        av = require_av()
        self._output = output
        self._cut = template.cut or (Fraction(0), None)
        self._input = av.open(str(template.path), metadata_errors="replace")
        # MP4 can trim sound that lies before time 0 (an encoder's delay); Matroska can where its
        # own header gave the delay; with others the muxer would move all streams.
        trims = output.format.name in ("mp4", "mov", "ipod") or (
            output.format.name in ("matroska", "webm") and "matroska" in self._input.format.name
        )
        self._keeps_priming = self._cut[0] == 0 and trims
        self._streams: dict[int, Any] = {}
        self._covers: set[int] = set()
        kept = []
        for stream in self._input.streams:
            unwanted = stream.type == "audio" and not audio
            main = stream.index == template.stream_index
            if not main and not unwanted and self._add(stream, warnings):
                kept.append(stream)
            else:
                self._discard(stream)
        self._packets = self._read(kept) if kept else iter(())
        self._next: Any = None

    def _discard(self, stream: Any) -> None:
        from av.stream import Discard

        # Spares the demuxer reading the video a second time.
        stream.discard = Discard.all

    def _add(self, stream: Any, warnings: list[str]) -> bool:
        cover = stream.type == "video" and bool(stream.disposition.value & 0x400)
        label = f"{stream.type} stream {stream.index} ({stream.name or 'unknown codec'})"
        if stream.type not in _COPIED and not cover:
            # A time code is in the metadata too, of which the muxer makes a new track.
            if "timecode" not in stream.metadata:
                warnings.append(f"{label} is not copied")
            return False
        if stream.type == "attachment" and self._output.format.name != "matroska":
            warnings.append(f"{label} is not copied: {self._output.format.name} holds none")
            return False
        if stream.type != "attachment":
            reason = _refusal(stream, self._output.format.name)
            if reason:
                warnings.append(
                    f"{label} is not copied: {self._output.format.name} does not take it ({reason})"
                )
                return False
        copy = self._output.add_stream_from_template(stream, opaque=True)
        copy.metadata.update(portable_metadata(stream.metadata))
        with contextlib.suppress(AttributeError, TypeError):
            copy.disposition = stream.disposition
        self._streams[stream.index] = copy
        if cover:
            self._covers.add(stream.index)
        return True

    def _read(self, streams: list[Any]) -> Iterator[Any]:
        begin, end = self._cut
        if begin > 0:
            # A little early, for subtitles and sound that begin before the picture.
            self._input.seek(int(max(begin - 1, 0) * 1_000_000), backward=True)
        ended: set[int] = set()
        for packet in self._input.demux(streams):
            if packet.stream_index in self._covers and packet.size:
                packet.pts = packet.dts = 0
                packet.stream = self._streams[packet.stream_index]
                yield packet
                continue
            if packet.dts is None and packet.pts is None:
                continue
            base = packet.time_base
            shift = round(begin / base)
            stamp = packet.pts if packet.pts is not None else packet.dts
            if end is not None and stamp * base >= end:
                ended.add(packet.stream_index)
                if len(ended) == len(streams):
                    return
                continue
            if stamp < shift and not self._keeps_priming:
                continue
            if packet.pts is not None:
                packet.pts -= shift
            if packet.dts is not None:
                packet.dts -= shift
            packet.stream = self._streams[packet.stream_index]
            yield packet

    def advance(self, time: Fraction | None) -> None:
        """Copy all packets up to ``time`` seconds of the output; None copies the rest."""
        while True:
            if self._next is None:
                self._next = next(self._packets, None)
            packet = self._next
            if packet is None:
                return
            stamp = packet.dts if packet.dts is not None else packet.pts
            if time is not None and stamp * packet.time_base > time:
                return
            self._next = None
            self._output.mux(packet)

    def close(self) -> None:
        """Close the second handle on the source."""
        self._packets = iter(())
        self._next = None
        self._input.close()


def copy_chapters(template: Template, output: Any) -> None:
    """Carry chapters over, moved and clipped by the cut."""
    begin, end = template.cut or (Fraction(0), None)
    chapters = []
    for chapter in template.chapters:
        base = chapter["time_base"]
        first = round(max(chapter["start"] * base - begin, Fraction(0)) / base)
        stop = chapter["end"] * base
        stop = round(((stop if end is None else min(stop, end)) - begin) / base)
        if stop > first:
            chapters.append({**chapter, "start": first, "end": stop})
    if chapters:
        output.set_chapters(chapters)


def _refusal(stream: Any, format_name: str) -> str | None:
    """Why a container does not take a stream: found out by writing a header in memory."""
    av = require_av()
    try:
        with av.open(io.BytesIO(), "w", format=format_name) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.FFmpegError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error)
    return None

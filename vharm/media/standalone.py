# SPDX-License-Identifier: Apache-2.0
"""Packets of frames that nothing has changed, handed on as they came.

That is right only where every picture of a codec stands alone, and the packets of the source and
of the encoder are of one kind. In H.264 and its like pictures refer to each other and to parameter
sets, of which a file has one for the whole track, and no encoder reproduces another one's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from .codecs import Encoding
from .errors import require_av
from .formats import unchanged_picture
from .frame import Frame
from .reader import Template

CODECS = ("prores", "mjpeg")
"""Those whose packets may be copied, as FFmpeg calls their decoders."""


class PacketsByTime:
    """Packets of a stream that is being decoded, to be found again by their pictures."""

    def __init__(self, codec: str) -> None:
        self._wanted = codec in CODECS
        self._packets: dict[int, Any] = {}

    def keep(self, packet: Any) -> None:
        """Before the packet is decoded."""
        if self._wanted and packet.pts is not None:
            self._packets[packet.pts] = packet

    def take(self, picture: Any) -> tuple[Any, Any] | None:
        """A picture with the packet it was in, for `Frame.packet`; None where it is not known."""
        packet = self._packets.pop(picture.pts, None)
        return None if packet is None else (picture, packet)


def may_copy(
    encoding: Encoding, template: Template, suffix: str, settings: Mapping[str, Any]
) -> bool:
    """Whether packets of the source may stand among those of the encoder.

    Args:
        encoding: the encoder that was chosen.
        template: the source.
        suffix: of what is written, in lower case.
        settings: what was asked for; whoever asks for a quality wants it throughout.
    """
    asked = settings.get("crf") is not None or settings.get("preset") or settings.get("options")
    if asked or template.codec not in CODECS or template.interlaced or not template.profile:
        return False
    encoder = require_av().Codec(encoding.codec, "w")
    # The yuvj names are the same samples, and say once more that their range is full.
    came_as = (template.pixel_format or "").replace("yuvj", "yuv")
    return (
        encoder.canonical_name == template.codec
        and encoding.pixel_format.replace("yuvj", "yuv") == came_as
        and template.path is not None
        and template.path.suffix.lower() == suffix
    )


def packet_of(frame: Frame) -> Any:
    """The packet that a frame came in, if it is still what that held; else None."""
    picture, packet = frame.packet or (None, None)
    return packet if picture is not None and unchanged_picture(frame) is picture else None


class PacketOrder:
    """Hands packets on in the order of the frames; encoders have several in work at a time.

    Args:
        mux: is given the packets.
    """

    def __init__(self, mux: Callable[[Any], None]) -> None:
        self._mux = mux
        # None for a packet that the encoder still has to give.
        self._waiting: deque[Any] = deque()

    def copied(self, packet: Any) -> None:
        """The next frame's packet, which is there."""
        self._waiting.append(packet)
        self._hand_on()

    def expect(self) -> None:
        """The next frame's packet will come from the encoder."""
        self._waiting.append(None)

    def encoded(self, packet: Any) -> None:
        """What the encoder gave: the first one expected."""
        self._waiting[self._waiting.index(None)] = packet
        self._hand_on()

    def _hand_on(self) -> None:
        while self._waiting and self._waiting[0] is not None:
            self._mux(self._waiting.popleft())

# SPDX-License-Identifier: Apache-2.0
"""Takes a clip each of the ways that are measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cases import CRF, Case, Clip


@dataclass
class Ran:
    """What a case did: frames written, and seconds by stage where it knows them."""

    frames: int
    stages: dict[str, float]


class Runner:
    """A case, made ready: networks are loaded once, clips run as often as wanted."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._session: Any = None
        self._eager: Any = None
        if case.kind == "harmonize":
            from ..session import Session

            self._session = Session(case.method, estimate_every=case.every)
        elif case.kind == "eager":
            from .eager import EagerPeer

            self._eager = EagerPeer()

    def run(self, clip: Clip, out: Path, trace: Any = None) -> Ran:
        """From file to file.

        Raises:
            ValueError, vharm.media.MediaError: a file that cannot be read or written.
        """
        if self._eager is not None:
            return Ran(self._eager.run(clip, out), {})
        from ..media import open_writer
        from ..session.resources import return_freed_frames

        reader, masks = clip.open()
        return_freed_frames(reader, self._session and self._session.method)
        with reader:
            writer = open_writer(out, reader, codec="libx264", crf=CRF, preset=self.case.preset)
            if self._session is None:
                return Ran(_copy(reader, writer), {})
            report = self._session.run(reader, masks, writer, trace=trace)
        return Ran(report.frames, report.stages)


def _copy(reader: Iterable[Any], writer: Any) -> int:
    """As a Session does it: decoded in a thread, encoded in the caller's."""
    from ..media import threaded
    from ..session.resources import ahead, frame_bytes

    with writer, threaded(reader, ahead(frame_bytes(reader)), "vharm-read") as frames:
        for frame in frames:
            writer.write(frame)
            del frame
    return writer.frame_count

# SPDX-License-Identifier: Apache-2.0
"""A comparison in a file of its own, written beside the result in the same run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from ..media import Frame, Reader, Writer
from ..session.compare import join


@dataclasses.dataclass(eq=False)
class KeptFrame(Frame):
    """A frame that remembers how it was read; the copy with other planes still does."""

    before: Frame | None = dataclasses.field(default=None, repr=False)


class KeepingReader(Reader):
    """A reader whose frames are `KeptFrame`s."""

    def __init__(self, reader: Reader) -> None:
        self.__dict__.update(reader.__dict__)
        self._kept = reader

    def __iter__(self) -> Iterator[Frame]:
        names = [field.name for field in dataclasses.fields(Frame) if field.init]
        for frame in self._kept:
            values = {name: getattr(frame, name) for name in names}
            yield KeptFrame(**values, before=frame)
            del frame, values

    def close(self) -> None:
        self._kept.close()


class ComparingWriter:
    """Writes each frame to one writer, and beside it what it was before to another.

    Frames must come from a `KeepingReader`. warnings: those of the first writer.
    """

    def __init__(self, result: Writer, comparison: Writer, kind: str) -> None:
        self._result, self._comparison, self._kind = result, comparison, kind
        self.warnings = result.warnings

    def write(self, frame: Frame) -> None:
        """Encodes the frame twice."""
        before = getattr(frame, "before", None)
        if before is None:
            raise RuntimeError(f"frame {frame.index} has lost the frame it was made of")
        self._result.write(frame)
        self._comparison.write(join(before, frame, self._kind))

    def close(self) -> None:
        """Finishes both files."""
        self._result.close()
        self._comparison.close()

    def abort(self) -> None:
        """Removes both files."""
        self._result.abort()
        self._comparison.abort()


def comparison_path(output: str, kind: str) -> str:
    """Where a comparison goes by itself: `out.mp4` gives `out.wipe.mp4`."""
    path = Path(output)
    if output.endswith("/") or path.is_dir():
        return f"{path.with_name(f'{path.name}.{kind}')}/"
    return str(path.with_name(f"{path.stem}.{kind}{path.suffix}"))

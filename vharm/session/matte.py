# SPDX-License-Identifier: Apache-2.0
"""Saving the masks that were used, as a matte video or pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..media.frame import ColorSpec, Frame
from ..media.reader import Reader

if TYPE_CHECKING:
    from ..media import Writer
    from ..media.mask import Mask

MATTE = ColorSpec("gray", 8)


def open_matte(path: str | Path, reader: Any) -> Writer:
    """A writer of grey frames, white the foreground, with the clip's own time stamps.

    Args:
        path: as for `media.open_writer`.
        reader: the clip's.

    Raises:
        ValueError, FileNotFoundError, vharm.media.MediaError: as `open_writer` does; a path that
            is read from is refused.
    """
    from ..media import open_writer

    if not isinstance(reader, Reader):
        return open_writer(path)
    # Time stamps and shape are the clip's; its sound, title and codec are not the matte's.
    template = dataclasses.replace(
        reader.template, path=None, stream_index=None, codec=None, profile=None,
        pixel_format=None, metadata={}, stream_metadata={}, chapters=[],
    )  # fmt: skip
    like = Reader(reader.width, reader.height, MATTE, template)
    return open_writer(path, like, inputs=reader.inputs)


def matte_frame(frame: Frame, mask: Mask) -> Frame:
    """The mask of a frame as a grey frame of the same time."""
    data = mask.data
    if not isinstance(data, np.ndarray):
        data = data.cpu().numpy()
    if not (data.dtype == np.uint8 and mask.black == 0 and mask.white == 255):
        from ..media.mask import Mask

        unit = Mask(data, mask.black, mask.white).unit()
        data = np.rint(unit * 255).astype(np.uint8)
    return Frame(
        (data,), MATTE, frame.index, frame.pts, frame.time_base, frame.duration, frame.time
    )

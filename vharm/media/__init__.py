# SPDX-License-Identifier: Apache-2.0
"""Reading and writing clips: planes, colour tags and time stamps, nothing of harmonization."""

from .composite import composite, composite_reader
from .errors import MediaError
from .formats import blank_like, convert, make_av_frame
from .frame import ColorSpec, Frame
from .image_reader import read_image
from .mask import Mask, MaskReader, open_mask
from .open import open_reader, open_writer
from .pipe import threaded
from .reader import Reader, Template
from .writer import Writer

__all__ = [
    "ColorSpec",
    "Frame",
    "Mask",
    "MaskReader",
    "MediaError",
    "Reader",
    "Template",
    "Writer",
    "blank_like",
    "composite",
    "composite_reader",
    "convert",
    "make_av_frame",
    "open_mask",
    "open_reader",
    "open_writer",
    "read_image",
    "threaded",
]

# SPDX-License-Identifier: Apache-2.0
"""FFmpeg's pixel formats by name: which ones frames are carried in, and what they mean."""

from __future__ import annotations

import re
from functools import lru_cache

from .errors import MediaError, require_av
from .frame import UNSPECIFIED, ColorSpec, matrix_of_tag

PLANAR_YUV = re.compile(r"yuv(a?)(j?)(420|422|444)p(?:(10|12|16)le)?$")
PLAIN = {  # name: (layout, depth, has alpha)
    "rgb24": ("rgb", 8, False), "rgba": ("rgb", 8, True),
    "rgb48le": ("rgb", 16, False), "rgba64le": ("rgb", 16, True),
    "gray": ("gray", 8, False), "ya8": ("gray", 8, True),
    "gray10le": ("gray", 10, False), "gray12le": ("gray", 12, False),
    "gray16le": ("gray", 16, False), "ya16le": ("gray", 16, True),
}  # fmt: skip
SUBSAMPLING = {"420": (1, 1), "422": (1, 0), "444": (0, 0)}
_CHROMA_NAME = {shift: name for name, shift in SUBSAMPLING.items()}
# A chroma grid vharm does not carry becomes the nearest one that loses nothing.
_NEAREST_CHROMA = {(0, 1): "444", (2, 0): "422", (2, 2): "420", (2, 1): "420"}

# FFmpeg's numbers for the range of YUV samples.
LIMITED_RANGE, FULL_RANGE = 1, 2


@lru_cache(maxsize=256)
def native_format(name: str) -> str:
    """Name the pixel format that vharm carries frames of FFmpeg's format ``name`` in.

    Formats carried as they are come back unchanged; others (nv12, yuyv422, gbrp, pal8, ...) give
    the nearest one with the same bit depth, or the next greater where that depth is not carried.
    """
    if PLANAR_YUV.match(name) or name in PLAIN or float_kind(name):
        return name
    little = re.sub(r"be$", "le", name)
    if float_kind(little):
        return little
    pixel = require_av().VideoFormat(name, 64, 64)
    components = pixel.components
    if not components:
        raise MediaError(f"frames of format {name} live on a device; decode without acceleration")
    bits = max(component.bits for component in components)
    alpha = any(component.is_alpha for component in components)
    if pixel.has_palette:
        return "rgba"
    if pixel.is_rgb or pixel.is_bayer or name.startswith("xyz"):
        wide = "rgba64le" if alpha else "rgb48le"
        return wide if bits > 8 else ("rgba" if alpha else "rgb24")
    depth = next((d for d in (8, 10, 12, 16) if bits <= d), 16)
    suffix = "" if depth == 8 else f"{depth}le"
    if len(components) - alpha == 1:
        if alpha:
            return "ya8" if depth == 8 else "ya16le"
        return f"gray{suffix}"
    # 64 pixels wide, so the reduction is how far 64 was shifted.
    shift = (7 - pixel.chroma_width().bit_length(), 7 - pixel.chroma_height().bit_length())
    chroma = _CHROMA_NAME.get(shift) or _NEAREST_CHROMA.get(shift, "444")
    if alpha and chroma == "420" and depth == 12:
        depth, suffix = 16, "16le"
    return f"yuv{'a' if alpha else ''}{chroma}p{suffix}"


@lru_cache(maxsize=256)
def color_of_format(
    name: str,
    width: int,
    height: int,
    *,
    matrix_tag: int = UNSPECIFIED,
    range_tag: int = 0,
    transfer_tag: int = UNSPECIFIED,
    primaries_tag: int = UNSPECIFIED,
    image: bool = False,
) -> ColorSpec:
    """Describe what samples of FFmpeg's pixel format ``name`` become in a Frame.

    image: the frame comes from a still, where grey is full range unless tagged otherwise.
    """
    native = native_format(name)
    tags = {
        "matrix_tag": matrix_tag,
        "range_tag": range_tag,
        "transfer_tag": transfer_tag,
        "primaries_tag": primaries_tag,
    }
    full = range_tag == FULL_RANGE or "yuvj" in name
    planar = PLANAR_YUV.match(native)
    if planar:
        matrix = matrix_of_tag(matrix_tag, width, height)
        if matrix is None:
            raise MediaError(
                f"YUV with FFmpeg colour matrix {matrix_tag} (YCgCo, ICtCp or the like) is not "
                "supported; expected BT.601, BT.709 or BT.2020"
            )
        if full:
            tags["range_tag"] = FULL_RANGE
        return ColorSpec("yuv", int(planar[4] or 8), SUBSAMPLING[planar[3]], matrix, full, **tags)
    kind = float_kind(native)
    if kind:
        return ColorSpec("gray" if "gray" in kind or "ya" in kind else "rgb", 32, **tags)
    layout, depth, _ = PLAIN[native]
    if layout == "gray":
        full = full or (image and range_tag != LIMITED_RANGE)
    return ColorSpec(layout, depth, full_range=layout == "rgb" or full, **tags)


def format_of_color(color: ColorSpec, alpha: bool = False) -> str:
    """Name FFmpeg's pixel format for samples described by ``color``."""
    suffix = "" if color.depth == 8 else f"{color.depth}le"
    if color.depth == 32:
        names = {"rgb": ("gbrpf32le", "gbrapf32le"), "gray": ("grayf32le", None)}
        name = names[color.layout][alpha]
    elif color.layout == "yuv":
        chroma = _CHROMA_NAME[color.subsampling]
        name = f"yuv{'a' if alpha else ''}{chroma}p{suffix}"
    elif color.layout == "rgb":
        name = (
            ("rgba" if alpha else "rgb24")
            if color.depth == 8
            else ("rgba64le" if alpha else "rgb48le")
        )
    else:
        name = ("ya8" if color.depth == 8 else "ya16le") if alpha else f"gray{suffix}"
    if name is None:
        raise ValueError(f"no pixel format holds {color.describe()} with an alpha channel")
    return name


def float_kind(name: str) -> str | None:
    """Return the name if it is a little-endian floating-point format, else None."""
    match = re.match(r"(gbrap|gbrp|gray|ya|rgba|rgb)f(16|32)le$", name)
    return match[0] if match else None

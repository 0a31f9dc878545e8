# SPDX-License-Identifier: Apache-2.0
"""Frames as they travel through vharm: sample planes, colour description, time stamp."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

    from ..ops import YuvFormat

UNSPECIFIED = 2  # FFmpeg's number for "unspecified" matrix, transfer and primaries

# ITU-T H.273 code points, which FFmpeg uses as they stand.
_TRANSFERS = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear",
    9: "log", 10: "log_sqrt", 11: "xvycc", 12: "bt1361", 13: "srgb", 14: "bt2020_10",
    15: "bt2020_12", 16: "pq", 17: "smpte428", 18: "hlg",
}  # fmt: skip
_PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film",
    9: "bt2020", 10: "smpte428", 11: "p3_dci", 12: "p3_d65", 22: "ebu3213",
}  # fmt: skip
# FCC (4) differs from BT.601 in the third digit, SMPTE 240M (7) from BT.709 likewise.
_MATRICES = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt709", 9: "bt2020", 10: "bt2020"}
# Where a YUV stream must be tagged by us: the code points of our three matrices.
MATRIX_TAGS = {"bt709": 1, "bt601": 6, "bt2020": 9}


def matrix_of_tag(tag: int, width: int, height: int) -> str | None:
    """Name the YUV matrix of an FFmpeg tag; None where vharm does not know that matrix.

    An unspecified matrix is BT.709 from 1280x720 up and BT.601 below, as players assume.
    """
    if tag in (UNSPECIFIED, 3, 0):
        return "bt709" if height >= 720 and width >= 1280 else "bt601"
    return _MATRICES.get(tag)


@dataclass(frozen=True)
class ColorSpec:
    """What the samples of a frame mean.

    layout: "yuv", "rgb" or "gray". depth: 8, 10, 12 or 16 bits, 32 for float.
    subsampling: log2 of the chroma reduction, (horizontal, vertical); (1, 1) is 4:2:0.
    matrix: "bt601", "bt709" or "bt2020", the one to compute with. full_range: luma spans the
    whole scale (RGB always does). The ``*_tag`` integers are FFmpeg's own, kept as they came
    (matrix_tag may be "unspecified" while matrix is a choice) and written back unchanged.
    """

    layout: Literal["yuv", "rgb", "gray"]
    depth: int = 8
    subsampling: tuple[int, int] = (0, 0)
    matrix: Literal["bt601", "bt709", "bt2020"] = "bt709"
    full_range: bool = True
    matrix_tag: int = UNSPECIFIED
    range_tag: int = 0
    transfer_tag: int = UNSPECIFIED
    primaries_tag: int = UNSPECIFIED

    @property
    def transfer(self) -> str:
        """Name of the transfer function, such as "bt709", "srgb", "pq", "hlg", "linear"."""
        return _TRANSFERS.get(self.transfer_tag, "unspecified")

    @property
    def primaries(self) -> str:
        """Name of the primaries, such as "bt709", "bt2020", "p3_d65"."""
        return _PRIMARIES.get(self.primaries_tag, "unspecified")

    @property
    def dtype(self) -> np.dtype:
        """Type of the samples: uint8, uint16 (10 bits are 0..1023) or float32."""
        return np.dtype({8: np.uint8, 32: np.float32}.get(self.depth, np.uint16))

    @property
    def black(self) -> float:
        """Sample value of black luma (or R, G, B)."""
        return 0.0 if self.full_range or self.depth == 32 else float(16 << (self.depth - 8))

    @property
    def white(self) -> float:
        """Sample value of white luma (or R, G, B)."""
        if self.depth == 32:
            return 1.0
        return float((1 << self.depth) - 1 if self.full_range else 235 << (self.depth - 8))

    @property
    def neutral(self) -> float:
        """Sample value of colourless chroma."""
        return float(1 << (self.depth - 1))

    def plane_shapes(self, width: int, height: int) -> tuple[tuple[int, ...], ...]:
        """Shapes of the planes of a frame of that size; chroma sizes are rounded up."""
        if self.layout == "rgb":
            return ((height, width, 3),)
        if self.layout == "gray":
            return ((height, width),)
        across, down = self.subsampling
        chroma = (-(-height >> down), -(-width >> across))
        return ((height, width), chroma, chroma)

    def describe(self) -> str:
        """One line for people, such as "yuv 4:2:0, 8 bit, bt709, limited"."""
        names = {(1, 1): " 4:2:0", (1, 0): " 4:2:2", (0, 0): " 4:4:4"}
        chroma = names.get(self.subsampling, "") if self.layout == "yuv" else ""
        depth = "float" if self.depth == 32 else f"{self.depth} bit"
        text = f"{self.layout}{chroma}, {depth}"
        if self.layout != "rgb":
            matrix = f", {self.matrix}" if self.layout == "yuv" else ""
            assumed = " (assumed)" if matrix and self.matrix_tag == UNSPECIFIED else ""
            text += f"{matrix}{assumed}, {'full' if self.full_range else 'limited'} range"
        return text if self.transfer == "unspecified" else f"{text}, {self.transfer}"


@functools.lru_cache(maxsize=64)
def yuv_format(color: ColorSpec) -> YuvFormat:
    """What ``vharm.ops`` calls a YUV format."""
    from ..ops import YuvFormat

    return YuvFormat(color.matrix, color.full_range, color.depth, color.subsampling)


@dataclass(eq=False)
class Frame:
    """One picture of a clip.

    planes: YUV gives (Y, U, V) arrays [H,W], [h,w], [h,w] in the stream's own sample values,
    gray gives (Y,), RGB one [H,W,3] array at full scale. They may be read-only views on memory
    that a decoder still uses: never write into them, make new ones and ``replace_planes``.
    alpha: [H,W] at the full scale of its type (uint8, uint16, float32 in [0,1]) or None.
    index counts frames from 0. pts and duration are in units of time_base; time is in seconds
    from the clip's start. matte is the Mask a composite was made with, if it was made here.
    """

    planes: tuple[np.ndarray, ...]
    color: ColorSpec
    index: int = 0
    pts: int | None = None
    time_base: Fraction | None = None
    duration: int | None = None
    time: float = 0.0
    alpha: np.ndarray | None = None
    matte: Any = None
    # The decoder's picture and the packet it came in, where packets stand alone (``standalone``).
    packet: tuple | None = field(default=None, repr=False)
    # The decoder's picture with the planes, alpha and color that were made of it.
    source: tuple | None = field(default=None, repr=False)
    # What ``tensors`` made, and the planes it was made of.
    _tensors: tuple | None = field(default=None, init=False, repr=False)

    @property
    def height(self) -> int:
        """Rows of the picture."""
        return int(self.planes[0].shape[0])

    @property
    def width(self) -> int:
        """Columns of the picture."""
        return int(self.planes[0].shape[1])

    def replace_planes(
        self, planes: Sequence[np.ndarray], *, alpha: np.ndarray | None = None
    ) -> Frame:
        """Return this frame with other samples of the same format; alpha None keeps the alpha.

        Raises TypeError for another dtype, ValueError for another number or shape of planes.
        """
        planes = tuple(planes)
        if len(planes) != len(self.planes):
            raise ValueError(f"planes: expected {len(self.planes)} arrays, got {len(planes)}")
        for number, (new, old) in enumerate(zip(planes, self.planes, strict=True)):
            if new.dtype != old.dtype:
                raise TypeError(f"planes[{number}]: expected dtype {old.dtype}, got {new.dtype}")
            if new.shape != old.shape:
                raise ValueError(f"planes[{number}]: expected shape {old.shape}, got {new.shape}")
        if alpha is not None and alpha.shape != (self.height, self.width):
            expected = (self.height, self.width)
            raise ValueError(f"alpha: expected shape {expected}, got {alpha.shape}")
        kept = self.alpha if alpha is None else alpha
        return replace(self, planes=planes, alpha=kept, source=None)

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Return the planes as torch tensors that share their memory: read them, never write."""
        if self._tensors is None or self._tensors[0] is not self.planes:
            made = tuple(shared_tensor(plane) for plane in self.planes)
            self._tensors = (self.planes, made)
        return self._tensors[1]


def shared_tensor(array: np.ndarray) -> torch.Tensor:
    """Return a tensor over the array's memory, read-only arrays included: read it, never write."""
    import torch

    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Shared(array)))


class _Shared:
    """Shows a read-only array as writable, for torch, which otherwise warns at every session."""

    def __init__(self, array: np.ndarray) -> None:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self.array = array

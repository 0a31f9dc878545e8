# SPDX-License-Identifier: Apache-2.0
"""What travels through a Session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ..looks import Look

if TYPE_CHECKING:
    from ..media import Frame
    from ..media.mask import Mask


@dataclass
class Item:
    """A frame on its way; `thumb` [3,h,w] and `mask_thumb` [1,h,w] where they are needed."""

    frame: Frame
    mask: Mask
    number: int = 0
    empty: bool = False
    cut: bool = False
    thumb: Tensor | None = None
    mask_thumb: Tensor | None = None
    counts: Mask | None = None
    weight: Tensor | None = None
    look: Look | None = None

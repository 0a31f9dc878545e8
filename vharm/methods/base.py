# SPDX-License-Identifier: Apache-2.0
"""What a method is, and the checks all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vharm.finite import all_finite
from vharm.looks import Look

WORKING_SIDE = 256


@dataclass(frozen=True)
class Request:
    """Checked inputs of `Method.estimate`, background defaults filled in.

    Attributes:
        frames: `[B,3,h,w]` float.
        masks: `[B,1,h,w]` float, the foreground.
        background: `[B,3,h',w']` float, what to match; the frames themselves by default.
        background_weight: `[B,1,h',w']` float, how much each of its pixels counts.
        external: whether `background` is another picture than the frames.
        weighted: whether some of the background was asked to count less.
    """

    frames: Tensor
    masks: Tensor
    background: Tensor
    background_weight: Tensor
    external: bool
    weighted: bool = True

    def seen(self) -> Tensor:
        """What a network is shown, `[B,3,h,w]`: the foreground before the background to match.

        What does not count is painted in the mean colour of what does.
        """
        if not (self.external or self.weighted):
            return self.frames
        weight, behind = self.background_weight, self.background
        total = weight.sum((2, 3), keepdim=True).clamp(min=1e-6)
        mean = (behind * weight).sum((2, 3), keepdim=True) / total
        if self.external:
            behind = weight * behind + (1 - weight) * mean
            size = self.frames.shape[2:]
            if behind.shape[2:] != size:
                behind = F.interpolate(behind, size, mode="bilinear", antialias=True)
        else:
            # The default weight is 1 - M: what of the background does not count is what is
            # missing from it.
            counts = weight + self.masks
            behind = counts * behind + (1 - counts) * mean
        return self.masks * self.frames + (1 - self.masks) * behind

    def usable(self) -> Tensor:
        """Which frames have both a foreground and a background that counts, bool `[B]`."""
        foreground = self.masks.amax((1, 2, 3)) > 0
        return foreground & (self.background_weight.amax((1, 2, 3)) > 0)


class Shot(ABC):
    """The frames of one shot, given in order, a few at a time; Looks come as they can be known.

    How many are given at a time does not matter to the Looks.
    """

    @abstractmethod
    def push(
        self,
        frames: Tensor,
        masks: Tensor,
        *,
        background: Tensor | None = None,
        background_weight: Tensor | None = None,
    ) -> list[Look]:
        """Takes the next frames; arguments as those of `Method.estimate`.

        Returns:
            Looks of the frames that follow those whose Looks were returned before, in order: one
            for each frame that has `look_ahead` frames after it.
        """

    @abstractmethod
    def finish(self) -> list[Look]:
        """The Looks of all frames that have none yet; the shot has ended."""


class Method(ABC):
    """Estimates Looks.

    Attributes:
        name: how users ask for it.
        summary: one line on what it does.
        when_to_use: a sentence for a list of methods.
        source: the work it comes from.
        licence: of the method's code.
        weights_licence: of the weights that come with vharm; "" where none do.
        needs_weights: whether it is of use only with trained weights.
        look_ahead: how many later frames must be known before a frame's Look; 0 for all
            frame-wise methods. Methods that keep what they know of earlier frames have a `shot`.
        batch: how many frames are best given at once.
        predicts_masks: whether `predict_masks` works, so that a clip needs no mask.
        runs_in_torch: whether estimates are the work of a network in PyTorch. It makes and frees
            tensors of megabytes all the time, which is slow where freed memory goes back to the
            system, and its kernels get all threads.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    when_to_use: ClassVar[str]
    source: ClassVar[str]
    licence: ClassVar[str] = "Apache-2.0"
    weights_licence: ClassVar[str] = ""
    needs_weights: ClassVar[bool] = False
    look_ahead: ClassVar[int] = 0
    batch: int = 8
    predicts_masks: bool = False
    runs_in_torch: bool = True

    @classmethod
    def why_not(cls) -> str | None:
        """None if the method can be made without further options, else the reason."""
        return None

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """The size (h, w) frames should have for `estimate`; never larger than the frame.

        The longer side becomes 256 pixels and the aspect is kept; networks override this.
        """
        for name, value in (("height", height), ("width", width)):
            if value < 1:
                raise ValueError(f"working_size: {name} must be positive, got {value}")
        scale = min(1.0, WORKING_SIDE / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    @abstractmethod
    def estimate(
        self,
        frames: Tensor,
        masks: Tensor,
        *,
        background: Tensor | None = None,
        background_weight: Tensor | None = None,
    ) -> list[Look]:
        """One Look for each frame.

        Args:
            frames: `[B,3,h,w]` float composites, RGB in [0,1], of `working_size`.
            masks: `[B,1,h,w]` float foreground in [0,1], soft edges allowed.
            background: `[B,3,h',w']` or `[1,3,h',w']` float: another picture to match instead of
                the frame's own background.
            background_weight: `[B,1,...]` or `[1,1,...]` float in [0,1], of `background`'s size
                where that is given and of the frames' otherwise: which background counts. The
                frame's own foreground never does. Default: all of it.

        Returns:
            B Looks, on the CPU. A frame with an empty mask, or with no background that counts,
            gets a Look that changes nothing.

        Raises:
            TypeError, ValueError: naming the argument; values that are not finite are refused.
        """

    def shot(self) -> Shot | None:
        """For methods whose Looks depend on neighbouring frames: what takes one shot's frames.

        None, as here, where `estimate` is all there is.
        """
        return None

    def predict_masks(self, frames: Tensor) -> Tensor:
        """Where a foreground is, for clips without masks.

        Args:
            frames: `[B,3,h,w]` float composites, RGB in [0,1], of `working_size`.

        Returns:
            `[B,1,h,w]` float32 in [0,1]: how much each pixel looks pasted in.

        Raises:
            ValueError: this method (or its weights) cannot tell; see `predicts_masks`.
        """
        raise ValueError(f"masks: the method {self.name!r} cannot find the foreground by itself")

    def request(
        self,
        frames: Tensor,
        masks: Tensor,
        background: Tensor | None,
        background_weight: Tensor | None,
    ) -> Request:
        """Checks the arguments of `estimate` and fills in the defaults."""
        owner = self.name
        _check_picture(owner, "frames", frames, 3)
        _check_picture(owner, "masks", masks, 1)
        count, _, height, width = frames.shape
        _expect(owner, "masks", masks, {(count, 1, height, width)})
        own = background is None
        if background is None:
            background = frames
        else:
            _check_picture(owner, "background", background, 3)
            size = tuple(background.shape[2:])
            _expect(owner, "background", background, {(count, 3, *size), (1, 3, *size)})
        size = tuple(background.shape[2:])
        weighted = background_weight is not None
        if background_weight is None:
            background_weight = background.new_ones(1, 1, *size)
        else:
            _check_picture(owner, "background_weight", background_weight, 1)
            allowed = {(count, 1, *size), (1, 1, *size)}
            _expect(owner, "background_weight", background_weight, allowed)
        weight = background_weight.float().expand(count, -1, -1, -1)
        if own:
            weight = weight * (1 - masks.float())
        return Request(
            frames.float(),
            masks.float(),
            background.float().expand(count, -1, -1, -1),
            weight,
            not own,
            weighted,
        )


def _check_picture(owner: str, name: str, tensor: object, channels: int) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{owner}: {name} must be a torch.Tensor, got {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(f"{owner}: {name} must be floating point in [0, 1], got {tensor.dtype}")
    shape = tuple(tensor.shape)
    if len(shape) != 4 or shape[1] != channels or 0 in shape[1:]:
        raise ValueError(
            f"{owner}: {name} must have shape [B, {channels}, h, w], got {list(shape)}"
        )
    if not all_finite(tensor):
        raise ValueError(f"{owner}: {name} must be finite, got NaN or infinity")
    if channels == 1 and tensor.numel():
        low, high = (float(bound) for bound in torch.aminmax(tensor))
        if low < 0 or high > 1:
            raise ValueError(f"{owner}: {name} must be in [0, 1], got {low} to {high}")


def _expect(owner: str, name: str, tensor: Tensor, shapes: set[tuple[int, ...]]) -> None:
    if tuple(tensor.shape) not in shapes:
        wanted = " or ".join(str(list(s)) for s in sorted(shapes))
        raise ValueError(f"{owner}: {name} must have shape {wanted}, got {list(tensor.shape)}")

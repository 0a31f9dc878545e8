# SPDX-License-Identifier: Apache-2.0
"""Composites from photographs: the colours of what the mask marks are changed.

The photograph is then the true answer. Three ways to change colours: white-box filters run in
reverse (with the arguments that undo them known, and every stage between), look-up tables, and the
transfer of another foreground's colour statistics.

Shapes use N pictures, K filters, H height, W width; colours are RGB in [0,1].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vharm import ops
from vharm.color import lab_to_rgb, rgb_to_lab
from vharm.ops.filters import DEFAULT_FILTERS

from . import seeding
from .joined import names_of
from .luts import Lut
from .types import DataSet, Sample, Scene

KINDS = ("filters", "lut", "transfer")

# How far each filter is turned, both ways. The first six are those of the released Harmonizer.
RANGES: dict[str, float] = {
    "temperature": 0.3, "brightness": 0.5, "contrast": 0.5, "saturation": 0.6, "highlight": 0.4,
    "shadow": 0.4, "exposure": 0.4, "hue": 0.06,
}  # fmt: skip
APPEARANCE_FILTERS = ("exposure", "hue", "saturation", "temperature", "contrast", "highlight",
                      "shadow")  # fmt: skip
JITTER_FILTERS = ("brightness", "contrast", "saturation")

# Regions of fewer pixels have no colour statistics worth transferring.
TRANSFER_PIXELS = 16
# A flat region stretched to a lively one's deviation would be noise.
TRANSFER_GAIN = 2.0


def draw_arguments(
    source: torch.Generator, filters: Sequence[str] = DEFAULT_FILTERS,
    ranges: Mapping[str, float] = RANGES,
) -> Tensor:  # fmt: skip
    """Arguments [K] for `filters`, even over each one's range.

    The released Harmonizer draws evenly; its paper (section 4) from Gaussians it shows in a plot.
    """
    width = torch.tensor([ranges[name] for name in filters])
    return (torch.rand(len(filters), generator=source) * 2 - 1) * width


def draw_strength(source: torch.Generator, mild: float) -> float:
    """How far a change of colours is made, from 0 to 1: 1, but evenly drawn in a share `mild`.

    Full changes teach a network that every foreground is wrong, and it will then spoil those that
    were nearly right.
    """
    if mild == 0:
        return 1.0
    partly = seeding.chance(source, mild)
    return seeding.uniform(source, 0, 1) if partly else 1.0


def jittered(clips: Tensor, jitter: float, sources: Sequence[torch.Generator]) -> Tensor:
    """Whole photographs or clips with brightness, contrast and saturation turned at random.

    Args:
        clips: [N,T,3,H,W] in [0,1]; all frames of a clip are changed alike.
        jitter: how far, as a share of the filters' own ranges; 0 changes nothing.
        sources: N generators; each is drawn from whatever `jitter` is.
    """
    drawn = torch.stack([draw_arguments(source, JITTER_FILTERS) for source in sources])
    return clips if jitter == 0 else filter_clips(clips, jitter * drawn, JITTER_FILTERS)


def filter_clips(clips: Tensor, arguments: Tensor, filters: Sequence[str]) -> Tensor:
    """Filters over clips [N,T,3,H,W], arguments [N,K], or [N,T,K] for each frame.

    The means that filters need are shared by a clip's frames, so that it does not flicker.
    """
    count, frames = clips.shape[:2]
    flat = clips.flatten(0, 1)
    if arguments.ndim == 2:
        arguments = arguments[:, None].expand(-1, frames, -1)
    each = arguments.to(clips.device).flatten(0, 1)
    means = ops.filter_statistics(flat, each, filters=filters)
    means = means.unflatten(0, (count, frames)).mean(1).repeat_interleave(frames, 0)
    changed = ops.filter_chain(flat, None, each, filters=filters, statistics=means)
    return changed.unflatten(0, (count, frames))


def reverse_filters(
    image: Tensor, mask: Tensor, arguments: Tensor, filters: Sequence[str] = DEFAULT_FILTERS, *,
    one_clip: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Runs a chain backwards over the foreground, for a network that is to run it forwards.

    The last filter is applied first. Filters see the whole picture as if there were no mask; the
    mask decides at every stage what of it shows.

    Args:
        image: [N,3,H,W], the true answer.
        mask: [N,1,H,W] in [0,1].
        arguments: [N,K], of the filters as they are applied here. They are not what undoes them.
        filters: in the order the network will apply them.
        one_clip: the N pictures are frames of one clip and share the means that filters need, so
            that the foreground's change does not flicker.

    Returns:
        The composite [N,3,H,W], and [N,K,3,H,W] what each stage of the network's chain should
        give: the picture just before that filter was applied here; the last is `image`.

    Source: Ke et al., Harmonizer, ECCV 2022, eq. 8 and 9.
    """
    targets: list[Tensor] = []
    whole = composite = image
    for k in reversed(range(len(filters))):
        targets.append(composite)
        # As one clip, or each picture a clip of its own.
        axis = 0 if one_clip else 1
        turned = (tensor.unsqueeze(axis) for tensor in (whole, arguments[:, k : k + 1]))
        whole = filter_clips(*turned, filters[k : k + 1]).squeeze(axis)
        composite = torch.where(mask > 0, mask * whole + (1 - mask) * image, image)
    return composite, torch.stack(targets[::-1], 1)


@dataclass(frozen=True)
class ColourStatistics:
    """Mean and deviation [3] of a region's colours in CIELAB."""

    mean: Tensor
    deviation: Tensor


def colour_statistics(image: Tensor, mask: Tensor) -> ColourStatistics | None:
    """Statistics of `image` [3,H,W] under `mask` [1,H,W]; None for a region too small to say."""
    inside = mask[0] > 0.5
    if int(inside.sum()) < TRANSFER_PIXELS:
        return None
    lab = rgb_to_lab(image.permute(1, 2, 0)[inside])
    deviation, mean = torch.std_mean(lab, 0)
    return ColourStatistics(mean, deviation)


def transfer_colour(image: Tensor, mask: Tensor, goal: ColourStatistics) -> Tensor:
    """`image` [N,3,H,W] with the masked regions' colour statistics brought to `goal`.

    One change for all N frames of a clip. Gains stay within 1/2 and 2. A region too small to have
    statistics leaves the image as it is.

    Source: Reinhard et al., Color transfer between images, 2001, in CIELAB.
    """
    flat = image.permute(1, 0, 2, 3).flatten(2).flatten(1)[:, None]
    own = colour_statistics(flat, mask.permute(1, 0, 2, 3).flatten(2).flatten(1)[:, None])
    if own is None:
        return image
    gain = (goal.deviation / own.deviation.clamp(min=1e-3)).clamp(1 / TRANSFER_GAIN, TRANSFER_GAIN)
    lab = rgb_to_lab(image.permute(0, 2, 3, 1))
    moved = lab_to_rgb((lab - own.mean) * gain + goal.mean)
    return moved.permute(0, 3, 1, 2).clamp(0, 1)


def random_colour(image: Tensor, mask: Tensor, source: torch.Generator) -> Tensor:
    """A random change of appearance over a whole picture or clip.

    Exposure, hue, saturation, temperature, contrast and a tone curve (highlights and shadows), as
    Huang et al. (TIP 2020, section III-A) recolour foregrounds.

    Args:
        image: uint8 [3,H,W] or [T,3,H,W].
        mask: unused; other recolourings need to know where the foreground is.
        source: what is drawn from.

    Returns:
        uint8, of the shape given.
    """
    frames = image if image.ndim == 4 else image[None]
    arguments = draw_arguments(source, APPEARANCE_FILTERS)[None]
    changed = filter_clips(frames[None], arguments, APPEARANCE_FILTERS)
    return changed.reshape(image.shape)


class Recoloured:
    """Composites made from natural scenes; the same for every reader of the same seed.

    Args:
        scenes: where pictures and masks come from.
        kinds: ways to change colours, out of `KINDS`; samples take turns.
        luts: tables for "lut"; None for none.
        seed: of everything drawn.
        filters: for "filters".
        ranges: how far each is turned.
        repeats: how many composites are made of each scene, one after the other; their names end
            in "#1", "#2" and so on. By tables, each of them takes another one while there are any.

    Raises:
        TypeError, ValueError: naming the argument.
    """

    def __init__(
        self, scenes: DataSet[Scene], kinds: Sequence[str] = ("filters",), *,
        luts: Sequence[Lut] | None = None, seed: int = 0, repeats: int = 1,
        filters: Sequence[str] = DEFAULT_FILTERS, ranges: Mapping[str, float] = RANGES,
    ) -> None:  # fmt: skip
        if isinstance(kinds, str):
            raise TypeError(f"kinds: expected a sequence of names, got the string {kinds!r}")
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            found = repr(unknown[0]) if unknown else "none"
            raise ValueError(f"kinds: expected names out of {', '.join(KINDS)}, got {found}")
        if "lut" in kinds and not luts:
            raise ValueError("luts: expected at least one table for kind 'lut', got none")
        if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
            raise ValueError(f"repeats: expected a whole number from 1, got {repeats!r}")
        self.scenes = scenes
        self.repeats = repeats
        self.kinds = tuple(kinds)
        self.luts = tuple(luts or ())
        self.seed = seed
        self.filters = tuple(filters)
        self.ranges = dict(ranges)

    @property
    def description(self) -> str:
        """What the set is, in a line."""
        own = getattr(self.scenes, "description", f"{len(self.scenes)} scenes")
        tables = f" with {len(self.luts)} tables" if "lut" in self.kinds else ""
        times = f", {self.repeats} times each" if self.repeats > 1 else ""
        kinds = ", ".join(self.kinds)
        return f"{own}; foregrounds recoloured by {kinds}{tables}{times}, seed {self.seed}"

    @property
    def names(self) -> tuple[str, ...]:
        """The scenes' names, with a number where scenes are repeated."""
        return tuple(self._name(n, k) for n in names_of(self.scenes) for k in range(self.repeats))

    @property
    def subsets(self) -> tuple[str, ...]:
        """Those that occur; () where the layout has none."""
        return tuple(getattr(self.scenes, "subsets", ()))

    def __len__(self) -> int:
        return len(self.scenes) * self.repeats

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        place, turn = divmod(index, self.repeats)
        scene = self.scenes[place]
        source = seeding.generator(self.seed, place, turn)
        kind = self.kinds[index % len(self.kinds)]
        frames = scene.frames.float() / 255
        masks = scene.masks.float() / 255
        arguments = None
        if kind == "filters":
            arguments = draw_arguments(source, self.filters, self.ranges)
            each = arguments.expand(len(frames), -1)
            composite, _ = reverse_filters(frames, masks, each, self.filters, one_clip=True)
        elif kind == "lut":
            table = self._lut(place, turn, source).table
            composite = ops.apply_lut(frames, table.clamp(0, 1), masks)
        else:
            goal = self._goal(place, source)
            changed = frames if goal is None else transfer_colour(frames, masks, goal)
            composite = masks * changed + (1 - masks) * frames
        return Sample(
            name=self._name(scene.name, turn),
            composite=_bytes(composite, scene),
            masks=scene.masks,
            target=scene.frames,
            subset=scene.subset,
            arguments=arguments,
            filters=self.filters if arguments is not None else (),
        )

    def _name(self, name: str, turn: int) -> str:
        return name if self.repeats == 1 else f"{name}#{turn + 1}"

    def _lut(self, place: int, turn: int, source: torch.Generator) -> Lut:
        if self.repeats == 1:
            return self.luts[seeding.integer(source, len(self.luts))]
        order = torch.randperm(len(self.luts), generator=seeding.generator(self.seed, place))
        return self.luts[int(order[turn % len(self.luts)])]

    def _goal(self, index: int, source: torch.Generator) -> ColourStatistics | None:
        """The statistics of another scene's foreground."""
        others = len(self.scenes)
        other = self.scenes[(index + 1 + seeding.integer(source, max(others - 1, 1))) % others]
        return colour_statistics(other.frames[0].float() / 255, other.masks[0].float() / 255)


def _bytes(composite: Tensor, scene: Scene) -> Tensor:
    """Rounded to uint8, and the scene's own bytes wherever the mask is 0."""
    rounded = (composite * 255).round().clamp(0, 255).to(torch.uint8)
    return torch.where(scene.masks > 0, rounded, scene.frames)

# SPDX-License-Identifier: Apache-2.0
"""Photographs set in motion for training, and some that were held out, for validation."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vharm.data.augment import Cached
from vharm.data.clip_batches import Clips
from vharm.data.dancing_batches import DancingBatches
from vharm.data.luts import load_luts, resampled
from vharm.data.motion import MotionRange
from vharm.data.random_colours import RandomColours
from vharm.data.types import Scene

from .config import ConfigError, TrainingConfig, check_share
from .pictures import CACHE_SIDE, VALIDATION_SEED, open_pictures

# Scenes are kept larger than the frames, for crops of them to have something to show.
SPARE = 1.5
# A foreground of less than this share has too few pixels to learn from.
COVERAGE = (0.02, 1.0)
# Filters and tables in turns; see `RandomColours`.
SHARES = (1.0, 1.0, 0.0)


class MotionData(NamedTuple):
    """What a recipe of clips trains on, what it is judged by, and how the first is recoloured."""

    training: DancingBatches
    held: HeldClips
    colours: RandomColours


class HeldClips:
    """Clips that are always the same, rendered when asked for: as pictures they take little room.

    Args:
        batches: where they come from; its epoch 0.
        most: how many at most, evenly spread.
    """

    def __init__(self, batches: DancingBatches, most: int) -> None:
        self._batches = batches
        self._places = range(0, len(batches), max(len(batches) // most, 1))[:most]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Clips:
        """A batch of one."""
        return self._batches.render([self._batches[0, self._places[index]]])

    def __iter__(self) -> Iterator[Clips]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True)
class MotionConfig(TrainingConfig):
    """Settings of a training on photographs set in motion; see `TrainingConfig` for the others.

    Attributes:
        least_crop: least side of random crops, 1 for no crops.
        borrowed: whether photographs without masks join, each with the mask of a scene.
        jitter, mild: how far whole clips are changed, and how often their foregrounds only in
            part, see `open_motion`.
        hold_out: share of the training pictures kept for choosing the best checkpoint.
    """

    least_crop: float = 0.7
    borrowed: bool = False
    jitter: float = 0.0
    mild: float = 0.0
    hold_out: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self, "mild")
        check_share(self, "hold_out", zero=False, one=False)
        check_share(self, "least_crop", zero=False)

    def motion(self) -> dict[str, Any]:
        """These settings, as `open_motion` takes them."""
        names = ("least_crop", "borrowed", "jitter", "mild", "hold_out")
        return {name: getattr(self, name) for name in names}


def open_motion(
    config: TrainingConfig, frames: int, *, hold_out: float, held: int, held_frames: int = 0,
    least_crop: float = 0.7, limits: MotionRange | None = None,
    shares: Sequence[float] = SHARES, coverage: tuple[float, float] = COVERAGE,
    borrowed: bool = False, jitter: float = 0.0, mild: float = 0.0,
) -> MotionData:  # fmt: skip
    """The training clips of a data set, and those for validation from scenes held out of it.

    Args:
        config: its data, look-up tables, size and seed are used.
        frames: of a training clip.
        hold_out: share of the scenes held out.
        held: most clips in the validation.
        held_frames: of each of those; 0 for as many as `frames`. They are neither cropped nor
            mirrored.
        least_crop: of training clips, see `DancingBatches`.
        limits: how far things move.
        shares: see `motion_colours`.
        coverage: least and largest share of the picture that a mask takes.
        borrowed: whether photographs without masks join, each with the mask of a scene.
        jitter: of whole clips, in training alone, see `DancingBatches`.
        mild: how often colours are changed only in part, in training alone.

    Raises:
        ConfigError: no data, or shares that do not fit.
        vharm.data.DataError: no scene with a mask of such a size.
    """
    found, kept = open_pictures(
        config.data, config.size, seed=config.seed, hold_out=hold_out, borrowed=0.0, least_crop=1.0
    )
    scenes = motion_scenes(found.scenes, config.size)
    if borrowed:
        scenes = _with_borrowed(found.scenes, config.data, scenes.size, config.seed)
    colours = motion_colours(config.luts, shares, scenes, mild)
    full = copy.copy(colours)
    full.mild = 0.0
    common: dict[str, Any] = {
        "min_coverage": coverage[0], "max_coverage": coverage[1], "limits": limits,
    }  # fmt: skip
    training = DancingBatches(
        scenes, config.size, colours, frames=frames, seed=config.seed, least_crop=least_crop,
        jitter=jitter, **common,
    )  # fmt: skip
    still = DancingBatches(
        Cached(_Scenes(kept), config.size), config.size, full, frames=held_frames or frames,
        seed=VALIDATION_SEED, least_crop=1.0, flip=False, **common,
    )  # fmt: skip
    return MotionData(training, HeldClips(still, held), colours)


def motion_scenes(scenes: Cached, size: int) -> Cached:
    """The scenes at the side that moving frames of `size` are best read from.

    They are read without antialiasing, which twice too large a scene would need.
    """
    side = max(size, min(CACHE_SIDE, round(SPARE * size)))
    return scenes if side == scenes.size else Cached(_Scenes(scenes), side)


def motion_colours(
    luts: str, shares: Sequence[float], scenes: Cached, mild: float = 0.0
) -> RandomColours:
    """How foregrounds are recoloured in training.

    Args:
        luts: place of look-up tables, whose training part is used; "" for none.
        shares: see `RandomColours`; without `luts` that of tables counts as 0.
        scenes: whose foregrounds lend their colours.
        mild: see `RandomColours`.

    Raises:
        ConfigError: shares that do not fit.
    """
    tables = resampled(load_luts(luts, "train")) if luts else None
    if tables is None and len(shares) == len(SHARES):
        shares = (shares[0], 0.0, shares[2])
    try:
        return RandomColours(shares, tables, scenes, mild=mild)
    except ValueError as error:
        raise ConfigError(str(error)) from error


class _Scenes:
    """Scenes of one size out of several caches, one after the other; of composites the answers."""

    def __init__(self, *caches: Cached) -> None:
        self._places = [(cache, i) for cache in caches for i in range(len(cache))]
        self.names = tuple(str(i) for i in range(len(self._places)))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Scene:
        cache, place = self._places[index]
        square = cache.square(place)
        assert square.mask is not None
        return Scene(self.names[index], square.frame[None], square.mask[None])


def _with_borrowed(scenes: Cached, data: str, side: int, seed: int) -> Cached:
    """The scenes, and each photograph without a mask under one of theirs."""
    from vharm.data import BorrowedMasks, open_photos

    more = Cached(BorrowedMasks(open_photos(data), _Scenes(scenes), seed=seed), scenes.size)
    return Cached(_Scenes(scenes, more), side)

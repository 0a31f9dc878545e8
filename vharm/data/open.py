# SPDX-License-Identifier: Apache-2.0
"""The one door to every data set."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._pictures import size_of
from .archive import Archive, is_archive
from .borrowed import BorrowedMasks
from .clips import Clip, FileSamples, FileScenes, Problem, Scan, UnmaskedPhotos, spread
from .errors import DataError
from .joined import Joined
from .layouts import find
from .types import DataSet, Sample, Scene

BROKEN = ("error", "skip")


def open_data(
    path: str | os.PathLike,
    *,
    split: str | None = None,
    size: int | tuple[int, int] | None = None,
    limit: int | None = None,
    recolour: Any = None,
    luts: Any = None,
    seed: int = 0,
    repeats: int = 1,
    dancing: int | None = None,
    close_up: float | None = None,
    layout: str | None = None,
    masks: str | None = None,
    part: str | None = None,
    borrowed: bool = False,
    broken: str = "error",
) -> DataSet[Scene] | DataSet[Sample]:
    """Opens a data set: scenes where the layout has no composites, samples where it has.

    Nothing but names is read now; pictures are read when they are asked for. Sets can be pickled
    and read from many processes. All have `names`, `description` and `subsets`.

    Args:
        path: a folder in one of the layouts of `vharm.data.LAYOUTS`, or an archive of `pack`.
        split: "train", "val" or "test"; None takes all.
        size: pixels, or (height, width): all is resized to exactly that. None keeps sizes.
        limit: that many clips, evenly spread.
        recolour: kinds of random colour changes that make samples of scenes; handed to
            `vharm.data.recolour.Recoloured`. None leaves scenes as they are.
        dancing: sets each photograph in motion for so many frames, with exact flow, see
            `vharm.data.Dancing`; `recolour` then names one kind.
        close_up: crops each scene around its foreground until that takes this share of it, see
            `vharm.data.CloseUps`.
        luts, seed, repeats: for these changes; the seed also for borrowed masks.
        layout: name of the layout, where several fit or none is to be guessed.
        masks: name of the folder of masks, such as "masks_tight".
        part: of an archive with several, such as "videos".
        borrowed: adds the photographs without masks, with masks borrowed from the others.
        broken: "error" refuses a set with broken pairs; "skip" leaves them out and says so in
            the description.

    Raises:
        FileNotFoundError: no such path.
        ValueError: no layout fits, several do, or the layout has no such split.
        DataError: broken pairs, or nothing is left.
    """
    if broken not in BROKEN:
        raise ValueError(f'broken: expected "error" or "skip", got {broken!r}')
    pixels = size_of(size)
    name, found = find(path, layout=layout, masks=masks, part=part, split=split)
    _refuse_broken(Path(path).name, found.problems, broken)
    clips = in_split(found, split, name)
    if not clips:
        raise DataError(_nothing(Path(path).name, name, found))
    clips = [clips[n] for n in spread(len(clips), limit)]
    samples = clips[0].composites is not None
    told = describe(clips, name, Path(path).name, split, found, limit)
    data = (FileSamples if samples else FileScenes)(clips, size=pixels, description=told)
    if borrowed:
        data = _with_borrowed(path, data, found, samples, pixels, seed)
    if close_up is not None:
        data = _close_ups(data, close_up, samples, pixels, dancing)
    if recolour is None:
        if dancing is not None:
            raise ValueError("recolour: expected a kind of recolouring for dancing, got none")
        return data
    if samples:
        raise ValueError(f"recolour: {Path(path).name} holds composites already ({name})")
    if dancing is not None:
        return _dancing(data, dancing, recolour, luts, seed, repeats)
    from .recolour import Recoloured

    return Recoloured(data, kinds=recolour, luts=luts, seed=seed, repeats=repeats)


def open_photos(
    path: str | os.PathLike,
    *,
    size: int | tuple[int, int] | None = None,
    limit: int | None = None,
    part: str | None = None,
) -> UnmaskedPhotos:
    """Opens the photographs without masks of a folder (images/unmasked/) or an archive.

    A folder of nothing but pictures can be opened too. Arguments and errors as in `open_data`.
    """
    photos = find_photos(path, part)
    if not photos:
        raise DataError(f"{Path(path).name}: no photographs without masks in it")
    chosen = [photos[n] for n in spread(len(photos), limit)]
    told = f"{len(chosen)} photographs without masks from {Path(path).name}"
    return UnmaskedPhotos(chosen, size=size_of(size), description=told)


def find_photos(path: str | os.PathLike, part: str | None = None) -> list[Clip]:
    """The photographs without masks of a folder or an archive; perhaps none."""
    from ._sources import Stills
    from ._walk import pictures_in
    from .folders import UNMASKED

    place = Path(path)
    if is_archive(place):
        archive = Archive(place)
        parts = [n for n, kind in archive.parts.items() if kind == "photos"]
        wanted = parts if part is None else [part]
        return [clip for name in wanted for clip in archive.scan(name).photos]
    if not place.is_dir():
        raise FileNotFoundError(f"path: {place} is not a folder or an archive")
    inner = place / "images" / UNMASKED
    folder, prefix = (inner, f"{UNMASKED}/") if inner.is_dir() else (place, "")
    return [
        Clip(prefix + stem, Stills(str(folder), (file,)), None)
        for stem, file in pictures_in(folder).items()
    ]


def in_split(found: Scan, split: str | None, layout: str) -> list[Clip]:
    """The clips of a split.

    Raises:
        ValueError: the layout, here, has no such split.
    """
    if split is None:
        return list(found.clips)
    if split not in found.splits:
        there = ", ".join(found.splits) or "none"
        raise ValueError(f"split: no split {split!r} in this set ({layout}); there: {there}")
    return [clip for clip in found.clips if clip.split == split]


def describe(
    clips: Sequence[Clip], layout: str, place: str, split: str | None, found: Scan,
    limit: int | None = None,
) -> str:  # fmt: skip
    """One sentence on a set of clips."""
    what = _KINDS[clips[0].composites is not None, clips[0].frames is not None]
    subsets = Counter(clip.subset for clip in clips if clip.subset)
    parts = ", ".join(f"{name} {count}" for name, count in subsets.items())
    left = sum(problem.blocks for problem in found.problems)
    return "".join((
        f"{len(clips)} {what} from {place}",
        f", split {split}" if split else "",
        f", evenly spread ({limit} asked for)" if limit is not None else "",
        f" ({parts})" if parts and len(subsets) < 9 else "",
        f", layout {layout}",
        f", {left} broken pairs left out" if left else "",
    ))  # fmt: skip


_KINDS = {
    (False, True): "natural scenes",
    (True, True): "composites with their answers",
    (True, False): "composites without answers",
}


def _with_borrowed(path, data, found: Scan, samples: bool, pixels, seed: int):
    if samples:
        raise ValueError("borrowed: only natural scenes lend their masks, this set has composites")
    photos = list(found.photos) or find_photos(path) if Path(path).is_file() else found.photos
    if not photos:
        raise DataError(f"{Path(path).name}: no photographs without masks in it")
    bare = UnmaskedPhotos(photos, size=pixels)
    return Joined([data, BorrowedMasks(bare, data, seed=seed)])


def _close_ups(data, share: float, samples: bool, pixels, dancing: int | None):
    from .close_up import CloseUps

    if samples:
        raise ValueError("close_up: only natural scenes can be cropped, this set has composites")
    if pixels is not None or dancing is not None:
        raise ValueError("close_up: close-ups are of many sizes, expected no size and no dancing")
    return CloseUps(data, share)


def _dancing(scenes, frames: int, kinds: Any, luts: Any, seed: int, repeats: int):
    from .augment import Cached
    from .dancing import Dancing
    from .luts import resampled
    from .random_colours import RandomColours
    from .recolour import KINDS

    if len(kinds) != 1 or kinds[0] not in KINDS:
        raise ValueError(f"recolour: expected one of {', '.join(KINDS)} for dancing, got {kinds!r}")
    if repeats != 1:
        raise ValueError(f"repeats: dancing samples are not repeated, got {repeats}")
    colours = RandomColours(
        [float(kind == kinds[0]) for kind in KINDS], resampled(luts) if luts else None,
        Cached(scenes) if kinds[0] == "transfer" else None, vary=False,
    )  # fmt: skip
    return Dancing(scenes, frames=frames, seed=seed, recolour=colours.one)


def _refuse_broken(place: str, problems: Sequence[Problem], broken: str) -> None:
    blocking = [problem for problem in problems if problem.blocks]
    if blocking and broken == "error":
        first = "; ".join(f"{p.name}: {p.kind} ({p.detail})" for p in blocking[:3])
        more = f"; and {len(blocking) - 3} more" if len(blocking) > 3 else ""
        raise DataError(
            f"{place}: {len(blocking)} broken pairs: {first}{more}. `vharm data inspect` names "
            'all; broken="skip" leaves them out'
        )


def _nothing(place: str, layout: str, found: Scan) -> str:
    if found.photos:
        return (
            f"{place}: {len(found.photos)} photographs without masks and nothing else; open them "
            "with open_photos and lend them masks with BorrowedMasks"
        )
    return f"{place}: nothing is left in it (layout {layout})"

# SPDX-License-Identifier: Apache-2.0
"""What is in a data set and what is broken: every picture is read once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ._sources import Source, Stills, Video, first_label
from .clips import Clip, Problem, spread
from .errors import DataError
from .layouts import find
from .open import in_split

EDGES = (0.0, 0.01, 0.05, 0.15, 0.30, 0.50, 0.70, 1.0)
"""Coverage bins: from each to the next; those of VHMAE's table, the ends divided further."""


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found.

    Attributes:
        place, layout: the folder's name and its layout.
        kind: "scenes" or "samples".
        clips, frames: how many are whole.
        photos: photographs without masks.
        splits, subsets: clips of each.
        sizes: ("640x480", clips), the most frequent first.
        coverage: share of each frame that its mask takes: "edges", "counts", "mean", "median".
        soft_masks: frames whose mask has more than a tenth of values between black and white.
        turned: pictures whose EXIF data ask to be turned; they are read as stored.
        problems: everything that is broken.
    """

    place: str
    layout: str
    kind: str
    clips: int
    frames: int
    photos: int
    splits: dict[str, int]
    subsets: dict[str, int]
    sizes: list[tuple[str, int]]
    coverage: dict[str, Any]
    soft_masks: int
    turned: list[str]
    problems: list[Problem]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people: counts, sizes, the histogram, notes and every problem."""
        out = [
            f"{self.place}: layout {self.layout}, {_counted(self.clips, self.kind)}, "
            f"{_counted(self.frames, 'frames')}"
        ]
        for title, counts in (("splits", self.splits), ("subsets", self.subsets)):
            if counts:
                out.append(f"{title}: " + ", ".join(f"{k} {v}" for k, v in counts.items()))
        if self.photos:
            out.append(f"photographs without masks: {self.photos}")
        if self.sizes:
            shown = ", ".join(f"{size} ({count})" for size, count in self.sizes[:8])
            more = len(self.sizes) - 8
            out.append(f"sizes: {shown}" + (f" and {more} more" if more > 0 else ""))
        out += self._histogram()
        if self.soft_masks:
            out.append(f"soft masks (mattes): {self.soft_masks} frames")
        if self.turned:
            more = f" and {len(self.turned) - 3} more" if len(self.turned) > 3 else ""
            out.append(
                f"note: {len(self.turned)} pictures ask to be turned (EXIF) and are read as "
                f"stored: {', '.join(self.turned[:3])}{more}"
            )
        out.append(f"broken: {len(self.problems)}" if self.problems else "broken: nothing")
        out += [f"  {p.name}: {p.kind}: {p.detail}" for p in self.problems]
        return out

    def _histogram(self) -> list[str]:
        counts = self.coverage["counts"]
        if not sum(counts):
            return []
        mean, median = self.coverage["mean"], self.coverage["median"]
        out = [f"coverage of the masks: mean {mean:.1%}, median {median:.1%}"]
        for low, high, count in zip(EDGES[:-1], EDGES[1:], counts, strict=True):
            bar = "█" * round(40 * count / max(counts)) or ("▏" if count else "")
            out.append(f"  {low:4.0%} to {high:4.0%} {count:7d} {bar}".rstrip())
        return out


@dataclass(frozen=True)
class _Looked:
    """What one clip showed."""

    shares: list[float]
    size: str | None
    soft: int
    turned: list[str]
    problems: list[Problem]


def inspect(
    path: str | os.PathLike,
    *,
    split: str | None = None,
    layout: str | None = None,
    masks: str | None = None,
    part: str | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 4,
) -> Inspection:
    """Reads a data set through and says what is in it and what is broken.

    Args:
        path, split, layout, masks, part, limit: as in `open_data`.
        progress: called with how many clips were read, and of how many.
        workers: threads that read.

    Raises:
        FileNotFoundError, ValueError: as `open_data`; broken files are reported, not raised.
    """
    name, found = find(path, layout=layout, masks=masks, part=part, split=split)
    clips = in_split(found, split, name)
    clips = [clips[n] for n in spread(len(clips), limit)] if clips else []
    looked: list[_Looked] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, result in enumerate(pool.map(_look, clips), 1):
            looked.append(result)
            if progress is not None:
                progress(done, len(clips))
    problems = [*found.problems, *(p for one in looked for p in one.problems)]
    whole = [clip for clip, one in zip(clips, looked, strict=True)
             if not any(p.blocks for p in one.problems)]  # fmt: skip
    shares = [share for one in looked for share in one.shares]
    sizes = Counter(one.size for one in looked if one.size)
    samples = bool(clips) and clips[0].composites is not None
    return Inspection(
        place=Path(path).resolve().name,
        layout=name,
        kind="samples" if samples else "scenes",
        clips=len(whole),
        frames=len(shares),
        photos=len(found.photos),
        splits=dict(Counter(clip.split for clip in whole if clip.split)),
        subsets=dict(Counter(clip.subset for clip in whole if clip.subset)),
        sizes=sizes.most_common(),
        coverage=_coverage(shares),
        soft_masks=sum(one.soft for one in looked),
        turned=[label for one in looked for label in one.turned],
        problems=problems,
    )


def _coverage(shares: Sequence[float]) -> dict[str, Any]:
    counts, _ = np.histogram(np.asarray(shares), bins=np.asarray(EDGES))
    return {
        "edges": list(EDGES),
        "counts": [int(count) for count in counts],
        "mean": float(np.mean(shares)) if len(shares) else 0.0,
        "median": float(np.median(shares)) if len(shares) else 0.0,
    }


def _look(clip: Clip) -> _Looked:
    shares, turned, problems, soft, size = [], [], [], 0, None
    try:
        for number, shapes, mask in _frames(clip):
            told = {kind: f"{w}x{h}" for kind, (h, w) in shapes.items()}
            size = size or next(iter(told.values()))
            if len(set(told.values())) > 1 or size != next(iter(told.values())):
                sizes = ", ".join(f"{kind} {value}" for kind, value in told.items())
                detail = f"frame {number}: {sizes}" + ("" if size in sizes else f", not {size}")
                problems.append(Problem(clip.name, "sizes differ", detail))
                break
            share = float(mask.mean()) / 255
            soft += float(((mask > 8) & (mask < 247)).mean()) > 0.1 * share
            if not mask.any():
                where = _label(clip.masks, number)
                detail = f"frame {number} ({where})"
                problems.append(Problem(clip.name, "mask empty", detail, False))
            shares.append(share)
        turned = [label for source in (clip.composites, clip.frames) for label in _turned(source)]
    except DataError as error:
        kind = "sizes differ" if "sizes differ" in str(error) else "unreadable"
        problems.append(Problem(clip.name, kind, str(error)))
    return _Looked(shares, size, soft, turned, problems)


def _frames(clip: Clip) -> Iterator[tuple[int, dict[str, tuple[int, int]], np.ndarray]]:
    """Number, the sizes of all that belongs together, and the mask, one frame after the other."""
    main = clip.composites or clip.frames
    total = main.count()
    if clip.masks.count() != total:
        raise DataError(
            f"{clip.name}: {total} frames and {clip.masks.count()} masks ({first_label(main)})"
        )
    shown, masks = main.colours(0, total), clip.masks.masks(0, total)
    answers = clip.frames.colours(0, total) if clip.composites and clip.frames else None
    for number, (picture, mask) in enumerate(zip(shown, masks, strict=True)):
        shapes = {"frame": picture.shape[:2], "mask": mask.shape}
        if answers is not None:
            shapes["target"] = next(answers).shape[:2]
        yield number, shapes, mask


def _label(source: Source, number: int) -> str:
    return source.path if isinstance(source, Video) else os.path.basename(source.label(number))


def _turned(source: Source | None) -> Iterator[str]:
    if not isinstance(source, Stills):
        return
    from ..media.exif import exif_orientation

    for number, file in enumerate(source.files):
        if exif_orientation(source.data(number)) != 1:
            yield file


def _counted(count: int, what: str) -> str:
    return f"{count} {what if count != 1 else what.removesuffix('s')}"

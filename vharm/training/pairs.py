# SPDX-License-Identifier: Apache-2.0
"""Dancing pairs of a data set for training, and a validation on scenes that were held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from vharm import ops
from vharm.data.augment import Cached
from vharm.data.dancing import Dancing
from vharm.data.dancing_pairs import DancingPairs
from vharm.data.luts import load_luts, resampled
from vharm.data.pair_colours import RandomPairColours
from vharm.data.types import Scene

from .config import ConfigError
from .pictures import CACHE_SIDE, VALIDATION_SEED, open_pictures

# Scenes are kept larger than the frames, for crops of them to have something to show.
SPARE = 1.5

Paint = Callable[[Tensor, Tensor], Tensor]
Judge = Callable[[Tensor], Tensor]


def open_pairs(
    data: str, luts: str, size: int, shares: Sequence[float], *, seed: int, hold_out: float,
    coverage: tuple[float, float], least_crop: float, borrowed: bool, validation: int,
    pictures: int,
) -> tuple[DancingPairs, PairValidation]:  # fmt: skip
    """The training pairs of a data set, and the validation on scenes held out of it.

    Args:
        shares: see `RandomPairColours`; without `luts` that of "lut" counts as 0.
        coverage: least and largest share of the picture that a mask takes.
        borrowed: whether photographs without masks join, each with the mask of a scene.
        validation: most pairs in the validation.

    Raises:
        ConfigError: no data, or shares that do not fit.
        vharm.data.DataError: no scene with a mask of such a size.
    """
    found, held = open_pictures(
        data, size, seed=seed, hold_out=hold_out, borrowed=0.0, least_crop=1.0
    )
    side = max(size, min(CACHE_SIDE, round(SPARE * size)))
    if borrowed:
        scenes = _with_borrowed(found.scenes, data, side, seed)
    else:
        scenes = Cached(_Scenes(found.scenes), side)
    tables = resampled(load_luts(luts, "train")) if luts else None
    if tables is None and len(shares) == 3:
        shares = (shares[0], 0.0, shares[2])
    try:
        colours = RandomPairColours(shares, tables, scenes)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    training = DancingPairs(
        scenes, size, colours, seed=seed, min_coverage=coverage[0], max_coverage=coverage[1],
        least_crop=least_crop,
    )  # fmt: skip
    kept = Dancing(
        _Scenes(Cached(_Scenes(held), size)), seed=VALIDATION_SEED, min_coverage=coverage[0],
        max_coverage=coverage[1], recolour=colours.one,
    )  # fmt: skip
    return training, PairValidation(kept, validation, pictures)


class _Scenes:
    """Scenes of one size out of several caches, one after the other."""

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


class PairValidation:
    """PSNR, MSE and L_T1 on Dancing pairs, always the same ones.

    Args:
        pairs: samples of two frames.
        count: most pairs, evenly spread over the set.
        pictures: how many are shown.
    """

    def __init__(self, pairs: Dancing, count: int, pictures: int) -> None:
        step = max(len(pairs) // count, 1)
        self.samples = [pairs[i] for i in range(0, len(pairs), step)][:count]
        self.pictures = pictures

    def __call__(
        self, rows: Mapping[str, Paint], device: torch.device, judge: Judge | None = None
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Figures of each row as `NAME_psnr`, `NAME_mse`, `NAME_lt1`, the input's as `composite_*`.

        MSE is on 0-255 over all pixels, PSNR the mean over frames, L_T1 on [0,1] without its
        factor; outputs are scored raw, not composited, as the paper's tables do.

        Args:
            rows: by name ("" for plain `psnr`, ...): called with composites [2,3,H,W] in [-1,1]
                and masks [2,1,H,W], gives pictures in [-1,1].
            device: where.
            judge: called with composites, says where they are disharmonious, [2,1,H,W]; its means
                inside and outside the masks are `map_inside` and `map_outside`.
        """
        said: list[Tensor] = []
        sums: dict[str, list[Tensor]] = {name: [] for name in (*rows, "composite")}
        shown: dict[str, Tensor] = {}
        for number, sample in enumerate(self.samples):
            composite, mask, target, flow, valid = (
                t.to(device)
                for t in (sample.composite, sample.masks, sample.target, sample.flow, sample.valid)
            )
            frames, inside = composite.float() / 127.5 - 1, mask.float() / 255
            if judge is not None:
                found = judge(frames).float().clamp(0, 1)
                said.append(torch.stack([
                    (found * w).sum() / w.sum().clamp(min=1) for w in (inside, 1 - inside)
                ]))  # fmt: skip
            results = {"composite": composite.float()}
            for name, paint in rows.items():
                results[name] = (paint(frames, inside).float().clamp(-1, 1) + 1) * 127.5
            for name, result in results.items():
                sums[name].append(_figures(result, target.float(), inside, flow, valid))
            if number < self.pictures:
                row = [r[:1] for r in results.values()] + [target[:1].float()]
                picture = torch.cat(row, 3)[0].round().clamp(0, 255).byte().cpu()
                shown[f"validation/{number}"] = picture
        figures: dict[str, float] = {}
        for name, values in sums.items():
            means = torch.stack(values).nanmean(0).tolist()
            prefix = f"{name}_" if name else ""
            figures |= {f"{prefix}{k}": v for k, v in zip(("psnr", "mse", "lt1"), means,
                                                          strict=True)}  # fmt: skip
        if said:
            means = torch.stack(said).mean(0).tolist()
            figures |= {"map_inside": means[0], "map_outside": means[1]}
        return figures, shown


def _figures(result: Tensor, target: Tensor, mask: Tensor, flow: Tensor, valid: Tensor) -> Tensor:
    """PSNR, MSE and L_T1 of a pair, [3]; L_T1 is NaN where no foreground pixel has a partner."""
    mse = (result - target).square().mean((1, 2, 3))
    psnr = 10 * torch.log10(255**2 / mse.clamp(min=1e-3))
    unit = result / 255
    loss = 3 * ops.temporal_loss(unit[1:], unit[:1], flow, mask[1:], valid=valid)
    partner = (mask[1:] * valid).sum((1, 2, 3)) > 0
    return torch.stack((psnr.mean(), mse.mean(), torch.where(partner, loss, torch.nan).mean()))

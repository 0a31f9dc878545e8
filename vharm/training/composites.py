# SPDX-License-Identifier: Apache-2.0
"""What recipes share whose composites are made of photographs on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vharm.data.composing import Composer
from vharm.data.luts import Lut, resampled
from vharm.data.recolour import RANGES
from vharm.ops.filters import DEFAULT_FILTERS

from .config import ConfigError, TrainingConfig, check_share

SHARES = (1.0, 0.7, 0.3)
FILTERS_ONLY = (1.0, 0.0, 0.0)


@dataclass(frozen=True)
class CompositeConfig(TrainingConfig):
    """Settings of such a training; see `TrainingConfig` for the others.

    Attributes:
        shares: how often composites are made by filters, by tables, by transfer.
        own: of a set that has composites, how often its own is taken; the others are made anew.
        jitter: of whole photographs, see `vharm.data.composing.Composer`.
        grade: how often the background is recoloured instead.
        mild: how often colours are changed only in part, see `vharm.data.recolour.draw_strength`.
        least_crop: least side of random crops, 1 for no crops.
        borrowed: share of training pictures that take a photograph without a mask and borrow one.
        hold_out: share of the training pictures kept for choosing the best checkpoint.
        compress: loss of a composite above which it counts by its logarithm, see
            `vharm.training.losses.compressed`; 0, as in the papers, for none.
    """

    shares: tuple[float, ...] = SHARES
    own: float = 0.5
    jitter: float = 0.2
    grade: float = 0.1
    mild: float = 0.0
    least_crop: float = 0.6
    borrowed: float = 0.0
    hold_out: float = 0.05
    compress: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.compress >= 0:
            raise ConfigError(f"compress: expected 0 or more, got {self.compress}")
        check_share(self, "own", "mild")
        check_share(self, "borrowed", "grade", one=False)
        check_share(self, "least_crop", zero=False)
        check_share(self, "hold_out", zero=False, one=False)


def make_composer(
    config: CompositeConfig, luts: Sequence[Lut], filters: Sequence[str] = DEFAULT_FILTERS, *,
    has_composites: bool = False,
) -> Composer:  # fmt: skip
    """The composer of a training.

    Shares that were not asked for follow what is there: no tables without `luts`, and for a set
    that `has_composites` of its own filters alone, which know their stages.

    Raises:
        ConfigError: a share of tables was asked for, and there are none; an unknown filter.
    """
    unknown = [name for name in filters if name not in RANGES]
    if unknown:
        raise ConfigError(f"filters: expected names out of {', '.join(RANGES)}, got {unknown[0]!r}")
    shares = config.shares
    if shares == SHARES and has_composites:
        shares = FILTERS_ONLY
    elif not luts and len(shares) == len(SHARES):
        if shares[1] > 0 and shares != SHARES:
            raise ConfigError("luts: expected look-up tables for the share of 'lut', got none")
        shares = (shares[0], 0.0, shares[2])
    tables = resampled(luts) if luts else None
    return Composer(shares, tables, filters, config.jitter, config.grade, config.mild, config.seed)

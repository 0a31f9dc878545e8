# SPDX-License-Identifier: Apache-2.0
"""How the losses of a filter chain's stages become one number.

`stages` is [N,K], from `ops.filter_chain_loss`: stage i's own loss against what that stage should
have produced.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PAPER_FACTOR = 10.0
LEAST_LOSS = 1e-9


def dynamic_paper(stages: Tensor) -> Tensor:
    """Each stage answers for what it adds to the loss, relative to the chain's end.

    `10 * sum_i max((L_i - L_(i-1)) / L_K, 0)` with `L_0 = 0`; the subtracted loss and the
    denominator carry no gradient.

    Source: Ke et al., Harmonizer, ECCV 2022, eq. 12 and 13.
    """
    fixed = stages.detach()
    added = stages - _previous(fixed)
    share = (added / fixed[:, -1:].clamp(min=LEAST_LOSS)).clamp(min=0)
    return PAPER_FACTOR * share.sum(1).mean()


def dynamic_released(stages: Tensor) -> Tensor:
    """As the released Harmonizer: what the stages add, relative to their sum; no factor."""
    fixed = stages.detach()
    added = (stages - _previous(fixed)).clamp(min=0)
    return (added / (added.detach().sum(1, keepdim=True) + LEAST_LOSS)).sum(1).mean()


def plain(stages: Tensor) -> Tensor:
    """The stages' losses added up: the ablation without dynamic weights."""
    return stages.sum(1).mean()


def last(stages: Tensor) -> Tensor:
    """The last stage alone: for composites whose arguments are not known."""
    return stages[:, -1].mean()


def compressed(stages: Tensor, scale: float) -> Tensor:
    """`scale * log(1 + stages / scale)`: as they are below `scale`, and less and less above it.

    Composites of a set differ a hundredfold in their error, and the mean of the errors is that of
    the strongest changes. PSNR averages logarithms; so does this, above `scale`. 0 changes nothing.
    """
    return scale * torch.log1p(stages / scale) if scale else stages


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "dynamic-paper": dynamic_paper,
    "dynamic-released": dynamic_released,
    "plain": plain,
    "last": last,
}


def _previous(stages: Tensor) -> Tensor:
    """Each stage's predecessor, 0 before the first."""
    shifted = stages.roll(1, 1)
    shifted[:, 0] = 0
    return shifted

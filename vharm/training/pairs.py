# SPDX-License-Identifier: Apache-2.0
"""A validation on pairs of frames, from scenes that were held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vharm import ops

from .motion_data import HeldClips

Paint = Callable[[Tensor, Tensor], Tensor]
Judge = Callable[[Tensor], Tensor]


class PairValidation:
    """PSNR, MSE and L_T1 on Dancing pairs, always the same ones.

    Args:
        held: clips of two frames.
        pictures: how many are shown.
    """

    def __init__(self, held: HeldClips, pictures: int) -> None:
        self.held, self.pictures = held, pictures

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
        for number, clip in enumerate(self.held):
            pair = clip.to(device)
            assert pair.flow is not None
            assert pair.valid is not None
            composite, inside, target = pair.composite[0], pair.masks[0], pair.target[0] * 255
            frames, flow, valid = composite * 2 - 1, pair.flow[:, 0], pair.valid[:, 0]
            if judge is not None:
                found = judge(frames).float().clamp(0, 1)
                said.append(torch.stack([
                    (found * w).sum() / w.sum().clamp(min=1) for w in (inside, 1 - inside)
                ]))  # fmt: skip
            results = {"composite": composite * 255}
            for name, paint in rows.items():
                results[name] = (paint(frames, inside).float().clamp(-1, 1) + 1) * 127.5
            for name, result in results.items():
                sums[name].append(_figures(result, target, inside, flow, valid))
            if number < self.pictures:
                row = [r[:1] for r in results.values()] + [target[:1]]
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

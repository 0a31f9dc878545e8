# SPDX-License-Identifier: Apache-2.0
"""Collections of colour look-up tables: read, split into training and held-out parts, varied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

from . import seeding

PARTS = ("all", "train", "held-out")
HELD_OUT = 16
HELD_OUT_SEED = 0


@dataclass(frozen=True)
class Lut:
    """A named table [S,S,S,3] float32, `table[r, g, b]`, not clipped."""

    name: str
    table: Tensor


def load_luts(
    path: str | PathLike[str], part: str = "all", *, held_out: int = HELD_OUT,
    seed: int = HELD_OUT_SEED,
) -> tuple[Lut, ...]:  # fmt: skip
    """Reads a folder of `.cube` files, one such file, or an `.npz` of tables.

    An `.npz` holds, for each table size S, `luts_S` [n,S,S,S,3] in the order of `.cube` files
    (axes blue, green, red) and `names_S` [n].

    Args:
        path: where they are.
        part: "all", "held-out" (tables no training may see) or "train" (the others). The split
            depends on the names, `held_out` and `seed` alone.
        held_out: how many are held out.
        seed: of the choice.

    Returns:
        The tables in the order of their names.

    Raises:
        FileNotFoundError: nothing there. ValueError: no table in it, an unknown `part`, or fewer
            tables than `held_out` + 1 where a part is asked for.
    """
    if part not in PARTS:
        raise ValueError(f"part: expected one of {', '.join(PARTS)}, got {part!r}")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"luts: no such file or folder: {path}")
    luts = _from_npz(path) if path.suffix == ".npz" else _from_cubes(path)
    luts = sorted(luts, key=lambda lut: lut.name)
    if part == "all":
        return tuple(luts)
    if len(luts) <= held_out:
        raise ValueError(f"luts: expected more than {held_out} tables to split, got {len(luts)}")
    order = torch.randperm(len(luts), generator=seeding.generator(seed)).tolist()
    chosen = order[:held_out] if part == "held-out" else order[held_out:]
    return tuple(luts[i] for i in sorted(chosen))


def resampled(luts: Sequence[Lut], size: int = 33) -> Tensor:
    """All tables as one tensor [n,size,size,size,3], trilinear between the nodes of each."""
    return torch.stack([_resample(lut.table, size) for lut in luts])


def varied(tables: Tensor, source: torch.Generator) -> Tensor:
    """A new table [S,S,S,3] made from those given [n,S,S,S,3].

    One of them or a blend of two, at part or full strength; one time in four the colour channels
    change places (on both sides of the table, so that grey stays what the table makes of grey).
    """
    count, size = tables.shape[:2]
    table = tables[seeding.integer(source, count)]
    if seeding.chance(source, 0.5):
        other = tables[seeding.integer(source, count)]
        table = torch.lerp(table, other, seeding.uniform(source, 0, 1))
    if seeding.chance(source, 0.25):
        order = torch.randperm(3, generator=source).tolist()
        table = table.permute(*order, 3)[..., order]
    strength = 1.0 if seeding.chance(source, 0.5) else seeding.uniform(source, 0.4, 1.2)
    axis = torch.linspace(0, 1, size)
    identity = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)
    return torch.lerp(identity, table, strength).clamp(0, 1)


def _resample(table: Tensor, size: int) -> Tensor:
    if table.shape[0] == size:
        return table
    channels_first = table.permute(3, 0, 1, 2)[None]
    grid = F.interpolate(channels_first, (size,) * 3, mode="trilinear", align_corners=True)
    return grid[0].permute(1, 2, 3, 0).contiguous()


def _from_npz(path: Path) -> list[Lut]:
    luts = []
    with numpy.load(path, allow_pickle=False) as content:
        for key in content.files:
            if not key.startswith("luts_"):
                continue
            names = content[f"names_{key.removeprefix('luts_')}"]
            for name, table in zip(names, content[key], strict=True):
                values = torch.from_numpy(numpy.ascontiguousarray(table, numpy.float32))
                luts.append(Lut(str(name), values.permute(2, 1, 0, 3).contiguous()))
    if not luts:
        raise ValueError(f"luts: no array named luts_SIZE in {path}")
    return luts


def _from_cubes(path: Path) -> list[Lut]:
    from vharm.looks import load_look
    from vharm.looks.lut_look import LutLook

    files = sorted(path.glob("*.cube")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"luts: no .cube file in {path}")
    luts = []
    for file in files:
        look = load_look(file)
        if not isinstance(look, LutLook):
            raise ValueError(f"luts: expected a .cube file with a 3-D table, got {file}")
        luts.append(Lut(file.stem, look.grid))
    return luts

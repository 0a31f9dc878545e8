# SPDX-License-Identifier: Apache-2.0
"""`vharm demo`: a clip with a known truth is made, harmonized and measured."""

from __future__ import annotations

import shlex
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from . import _options as o
from ._errors import guarded
from .demo_clip import DemoClip
from .demo_figures import Figures, measure
from .demo_files import Pictures, pictures_of, write_clip
from .demo_sheet import draw_sheet
from .harmonize import harmonize

COLUMNS = ("composite", "mask", "harmonized", "truth")


@guarded
def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files go.")] = Path(
        "out/demo"
    ),
    seconds: Annotated[float, typer.Option(min=0.08, max=20.0, help="Length of the clip.")] = 4.0,
    size: Annotated[str, typer.Option(metavar="WxH", help="Pixels, even numbers.")] = "640x360",
    debug: o.Debug = False,
) -> None:
    """Make a short composite with a known truth, harmonize it, and show both.

    A person is cut out of a photograph, put under a wrong light and pasted back over her own
    background, moving, in two shots, with sound. Because the right colours are known, the result
    can be measured. Existing files of an earlier demo are replaced.

    The wrong light changes colours alone, as vharm can; the figures say how this one clip came
    out and are no benchmark.
    """
    width, height = o.size_of(size)
    out.mkdir(parents=True, exist_ok=True)
    clip = DemoClip(width, height, max(2, round(25 * seconds)))
    typer.echo(f"making {clip.frame_count} frames of {width}x{height} in {out} ...")
    frames = list(clip.frames())
    paths = write_clip(out, clip, frames)
    paths |= {
        "harmonized": out / "harmonized.mp4", "wipe": out / "wipe.mp4",
        "look": out / "look.json", "cube": out / "look.cube", "sheet": out / "sheet.png",
    }  # fmt: skip
    command = (
        f"vharm harmonize {_quoted(paths, 'composite')} --mask {_quoted(paths, 'mask')} "
        f"-o {_quoted(paths, 'harmonized')} --temporal lock --compare wipe "
        f"--compare-out {_quoted(paths, 'wipe')} --look-out {_quoted(paths, 'look')} "
        f"--cube-out {_quoted(paths, 'cube')} -y"
    )
    typer.echo(f"$ {command}")
    harmonize(
        str(paths["composite"]), mask=str(paths["mask"]), output=str(paths["harmonized"]),
        temporal=o.Temporal.lock, compare=o.Compare.wipe, compare_out=str(paths["wipe"]),
        look_out=str(paths["look"]), cube_out=str(paths["cube"]), overwrite=True, debug=debug,
    )  # fmt: skip
    before, after = (
        _figures(frames, paths[name], clip.cut) for name in ("composite", "harmonized")
    )
    _draw(clip, paths, before, after)
    _tell(before, after)
    typer.echo("one clip, with a mismatch chosen to be mendable: a demonstration, not a benchmark")
    typer.echo(f"look at it: {paths['sheet']} and {paths['wipe']}")


def _quoted(paths: dict[str, Path], name: str) -> str:
    return shlex.quote(str(paths[name]))


def _figures(frames: list[Pictures], path: Path, cut: int) -> Figures:
    truths, masks = [truth for _, _, truth in frames], [mask for _, mask, _ in frames]
    return measure(pictures_of(path), truths, masks, cut)


def _draw(clip: DemoClip, paths: dict[str, Path], before: Figures, after: Figures) -> None:
    """Rows: the first and the last third of each shot."""
    wanted = sorted(
        {start + round(part * (stop - start - 1))
         for start, stop in ((0, clip.cut), (clip.cut, clip.frame_count))
         for part in (0.2, 0.9)}
    )  # fmt: skip
    videos = [islice(pictures_of(paths[name]), clip.frame_count) for name in COLUMNS]
    rows = [
        (f"shot {1 + (index >= clip.cut)}, {index / clip.rate:.2f} s", list(pictures))
        for index, pictures in enumerate(zip(*videos, strict=True))
        if index in wanted
    ]
    footer = [
        f"foreground MSE {before.foreground_mse:.0f} before, {after.foreground_mse:.0f} after;  "
        f"PSNR {before.psnr:.1f} dB before, {after.psnr:.1f} dB after (against the truth)",
        "Photograph: Rear Admiral Grace Hopper, US Navy, public domain (from matplotlib).",
    ]
    draw_sheet(paths["sheet"], rows, list(COLUMNS), footer)


def _tell(before: Figures, after: Figures) -> None:
    typer.echo("against the truth      composite  harmonized")
    for label, name, digits in (
        ("foreground MSE", "foreground_mse", 1), ("PSNR, dB", "psnr", 2),
        ("drift within shots", "drift", 2),
    ):  # fmt: skip
        old, new = getattr(before, name), getattr(after, name)
        typer.echo(f"  {label:<20} {old:>9.{digits}f}  {new:>10.{digits}f}")

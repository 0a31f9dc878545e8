# SPDX-License-Identifier: Apache-2.0
"""The options of the commands: names, help and the panels they stand in."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated

import typer

WHAT, MASK, COLOUR, TIME = "What goes in", "The mask", "Matching", "Over time"
LOOKS, OUT, GENERAL = "Looks", "Encoding", "General"


class Temporal(str, Enum):
    """How Looks go along a clip."""

    smooth = "smooth"
    lock = "lock"
    per_frame = "per-frame"


class Compare(str, Enum):
    """Pictures of before and after."""

    wipe = "wipe"
    side_by_side = "side-by-side"


class OnShort(str, Enum):
    """What is done where the mask ends before the clip."""

    error = "error"
    loop = "loop"
    hold = "hold"


def seconds_of(text: str) -> float:
    """Seconds of "12.5", "1:30" or "0:01:30.25".

    Raises:
        typer.BadParameter: anything else.
    """
    if not re.fullmatch(r"(\d+:)?(\d+:)?\d+(\.\d*)?", text.strip()):
        raise typer.BadParameter(f"expected seconds or HH:MM:SS, such as 12.5; got {text!r}")
    value = 0.0
    for part in text.strip().split(":"):
        value = 60 * value + float(part)
    return value


def size_of(text: str) -> tuple[int, int]:
    """(width, height) of "640x360"; both even, as video encoders want them."""
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip().lower())
    if match is None:
        raise typer.BadParameter(f"expected WIDTHxHEIGHT, such as 640x360; got {text!r}")
    width, height = int(match[1]), int(match[2])
    if width % 2 or height % 2 or min(width, height) < 64:
        raise typer.BadParameter(f"width and height must be even and at least 64; got {text}")
    return width, height


def encoder_options(pairs: list[str]) -> dict[str, str]:
    """{"tune": "film"} of ["tune=film"].

    Raises:
        ValueError: an entry without "=", or a key given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key.strip():
            raise ValueError(f"options: expected NAME=VALUE, such as tune=film; got {pair!r}")
        if key.strip() in found:
            raise ValueError(f"options: {key.strip()} is given twice")
        found[key.strip()] = value
    return found


def _option(panel: str, *names: str, text: str, **more: object):
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


def _time(panel: str, name: str, text: str):
    return _option(panel, name, text=text, metavar="TIME", parser=seconds_of)


# Optional[...] and not X | None: typer evaluates these on every Python it supports.
Composite = Annotated[
    str | None,
    typer.Argument(
        metavar="COMPOSITE", show_default=False,
        help="The clip with the foreground pasted in: a video, a picture, a folder of pictures, a "
        'pattern ("frame_%05d.png") or a quoted glob ("*.png").',
    ),
]  # fmt: skip
Mask = Annotated[
    str | None,
    _option(
        WHAT, "--mask", "-m", metavar="FILE",
        text="What was pasted in, white on black, soft edges welcome: a video, a folder, a pattern "
        "or one picture for the whole clip; of the clip's size and length. Without it the alpha "
        "channel of COMPOSITE (or of --foreground) is taken.",
    ),
]  # fmt: skip
Foreground = Annotated[
    str | None,
    _option(
        WHAT, "--foreground", metavar="FILE",
        text="Instead of COMPOSITE: a clip or picture to be laid over --background by --mask.",
    ),
]  # fmt: skip
Background = Annotated[
    str | None,
    _option(
        WHAT, "--background", metavar="FILE",
        text="The clip behind --foreground; it gives size, frame rate, sound and format.",
    ),
]  # fmt: skip
Premultiplied = Annotated[
    bool,
    _option(
        WHAT, "--premultiplied",
        text="The foreground's colours are multiplied by its alpha already (renders often are).",
    ),
]  # fmt: skip
FrameRate = Annotated[
    str | None,
    _option(
        WHAT, "--frame-rate", metavar="N",
        text="Frames a second of pictures: 25, 23.976 or 30000/1001. Videos carry their own.",
    ),
]  # fmt: skip
Start = Annotated[
    float | None,
    _time(WHAT, "--start", "Begin here; seconds or HH:MM:SS. The mask is cut likewise."),
]
End = Annotated[float | None, _time(WHAT, "--end", "Stop before this time.")]
Output = Annotated[
    str,
    _option(
        WHAT, "--output", "-o", metavar="FILE",
        text="Where to write: a video (its suffix names the container), a picture, a pattern or a "
        "folder (with a trailing /).",
    ),
]  # fmt: skip
Overwrite = Annotated[
    bool,
    _option(
        WHAT, "--overwrite/--no-overwrite", "-y",
        text="Replace files that exist. Inputs are never overwritten.",
    ),
]  # fmt: skip

MaskGrow = Annotated[
    float,
    _option(MASK, "--mask-grow", metavar="PIXELS", text="Grow the mask; below 0 it shrinks."),
]
MaskFeather = Annotated[
    float,
    _option(
        MASK, "--mask-feather", metavar="PIXELS",
        text="Soften its edge by a Gaussian of this sigma, after growing.",
    ),
]  # fmt: skip
InvertMask = Annotated[
    bool, _option(MASK, "--invert-mask", text="Black is what was pasted in, white the background.")
]
MaskOnShort = Annotated[
    OnShort,
    _option(
        MASK, "--mask-on-short",
        text="Where the mask ends before the clip: stop with an error, begin again, or hold its "
        "last frame. One picture always stands for the whole clip.",
    ),
]  # fmt: skip

MaskOut = Annotated[
    str | None,
    _option(
        MASK, "--mask-out", metavar="FILE",
        text="Save the mask that the method found itself (huang, where there is no --mask and no "
        "alpha), white on black: a video, a pattern or a folder.",
    ),
]  # fmt: skip
MaskThreshold = Annotated[
    float | None,
    _option(
        MASK, "--mask-threshold", min=0.0, max=1.0, show_default=False,
        text="For such a mask: from which value of the method's map a pixel belongs to it; lower "
        "finds more, 0 takes the map as a soft mask. Default: 0.3.",
    ),
]  # fmt: skip

Method = Annotated[
    str | None,
    _option(
        COLOUR, "--method", metavar="NAME",
        text="How the Look is found; vharm methods lists them. NAME+side=192 gives it an option of "
        "its own. Default: the best that can run as it is, and it is printed which.",
    ),
]  # fmt: skip
Strength = Annotated[
    float,
    _option(
        COLOUR, "--strength", min=0.0, max=1.0,
        text="How much of the change is made: 0 leaves everything as it was, 1 is all of it.",
    ),
]  # fmt: skip
Reference = Annotated[
    str | None,
    _option(
        COLOUR, "--reference", metavar="PICTURE",
        text="Match the foreground to this picture instead of to its own background.",
    ),
]  # fmt: skip
ReferenceMask = Annotated[
    str | None,
    _option(
        COLOUR, "--reference-mask", metavar="FILE",
        text="White where the background (or the --reference picture) counts.",
    ),
]  # fmt: skip
Swap = Annotated[
    bool,
    _option(COLOUR, "--swap", text="The other way round: match the background to the foreground."),
]
Weights = Annotated[
    str | None,
    _option(COLOUR, "--weights", metavar="FILE", text="Trained weights, for networks."),
]
TemporalOption = Annotated[
    Temporal,
    _option(
        TIME, "--temporal",
        text="smooth: averaged over --time-constant, anew after each cut; follows changing light. "
        "lock: one Look for the clip (reads it twice), no flicker at all. per-frame: each frame "
        "by itself; it may flicker.",
    ),
]  # fmt: skip
TimeConstant = Annotated[
    float,
    _option(TIME, "--time-constant", metavar="SECONDS", min=0.0, text="For --temporal smooth."),
]
EstimateEvery = Annotated[
    int,
    _option(
        TIME, "--estimate-every", metavar="N", min=1,
        text="Estimate on every N-th frame of a shot only and interpolate in between: faster, and "
        "N - 1 frames wait in memory.",
    ),
]  # fmt: skip

LookIn = Annotated[
    str | None,
    _option(
        LOOKS, "--look-in", metavar="FILE",
        text="Apply these Looks (.json, edited by hand or not, or .cube); nothing is estimated.",
    ),
]  # fmt: skip
LookOut = Annotated[
    str | None,
    _option(LOOKS, "--look-out", metavar="FILE", text="Save the Looks that were applied, as JSON."),
]
CubeOut = Annotated[
    str | None,
    _option(
        LOOKS, "--cube-out", metavar="FILE",
        text="Save one Look for the clip as a .cube LUT (for Resolve, Premiere, Nuke, ffmpeg) and "
        "print the ffmpeg command. Where the Look changes along the clip, it is their mean.",
    ),
]  # fmt: skip
CompareOption = Annotated[
    Compare | None,
    _option(
        LOOKS, "--compare",
        text="Write before and after into a second file, beside the output: OUT.wipe.mp4 has a "
        "moving divider (before on its left), OUT.side-by-side.mp4 both.",
    ),
]  # fmt: skip
CompareOut = Annotated[
    str | None,
    _option(LOOKS, "--compare-out", metavar="FILE", text="Another name for that file."),
]

Codec = Annotated[
    str | None,
    _option(
        OUT, "--codec", metavar="NAME",
        text="FFmpeg's name of the encoder, such as libx264, libx265, prores_ks, ffv1. Default: "
        "H.264, or what keeps the source's pixel format.",
    ),
]  # fmt: skip
Crf = Annotated[
    float | None,
    _option(OUT, "--crf", text="Constant quality, lower is better; 18 is visually lossless H.264."),
]
Preset = Annotated[
    str | None, _option(OUT, "--preset", text="Encoder speed, such as fast, medium, slow.")
]
PixelFormat = Annotated[
    str | None,
    _option(OUT, "--pixel-format", text="Such as yuv420p or yuv422p10le. Default: the source's."),
]
EncoderOption = Annotated[
    list[str] | None,
    _option(OUT, "--encoder-option", metavar="NAME=VALUE", text="Any other; may be repeated."),
]
NoAudio = Annotated[bool, _option(OUT, "--no-audio", text="Leave the sound out.")]

Device = Annotated[
    str, _option(GENERAL, "--device", text="Where Looks are found and applied: cpu, cuda, cuda:1.")
]
Backend = Annotated[
    str | None,
    _option(
        GENERAL, "--backend", metavar="NAME",
        text="Force reference, cpp, cuda or triton; an op that cannot run there is an error. "
        "Default: the best for each op, see vharm doctor.",
    ),
]  # fmt: skip
Quiet = Annotated[
    bool, _option(GENERAL, "--quiet", "-q", text="Print nothing but warnings and errors.")
]
Json = Annotated[bool, _option(GENERAL, "--json", text="Print the report as JSON on stdout.")]
Debug = Annotated[bool, _option(GENERAL, "--debug", text="Show the whole traceback of an error.")]

# SPDX-License-Identifier: Apache-2.0
"""Which encoder and pixel format a clip is written with, and its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import require_av
from .frame import ColorSpec
from .pixel_formats import format_of_color
from .reader import Template

# Constant quality for each encoder that has it: about visually lossless.
_CRF = {"libx264": 18, "libx265": 18, "libvpx-vp9": 24, "libsvtav1": 24, "libaom-av1": 24}
# Hardware encoders call it otherwise, and without it aim at FFmpeg's low default bit rates.
_HARDWARE_CRF = 20
_HARDWARE_QUALITY = {
    "nvenc": {"rc": "vbr", "cq": "{}", "b": "0"},
    "qsv": {"global_quality": "{}"},
    "amf": {"rc": "cqp", "qp_i": "{}", "qp_p": "{}"},
}
_WEBM = (".webm",)
_PRORES_PROFILES = {"proxy": "0", "lt": "1", "standard": "2", "hq": "3", "4444": "4", "xq": "5"}


@dataclass
class Encoding:
    """An encoder's name, the pixel format it gets, its options, and what was given up for it."""

    codec: str
    pixel_format: str
    options: dict[str, str]
    warnings: list[str]


def choose_encoding(
    suffix: str,
    color: ColorSpec,
    has_alpha: bool,
    template: Template,
    *,
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    pixel_format: str | None = None,
    options: dict[str, Any] | None = None,
) -> Encoding:
    """Choose what keeps the frames' own pixel format, or comes nearest to it.

    Raises ValueError for an unknown encoder, a pixel format it does not take, or float frames.
    """
    if color.depth == 32:
        raise ValueError(
            "path: float frames cannot be written to a video file; write EXR, or convert them first"
        )
    wanted = pixel_format or _wanted_format(color, has_alpha, template)
    codec = codec or _default_codec(suffix, wanted, template, has_alpha)
    formats = encoder_formats(codec)
    if color.layout == "rgb" and pixel_format is None and wanted not in formats:
        wanted = _usual_yuv(codec, color, has_alpha)
    if pixel_format is not None and formats and pixel_format not in formats:
        raise ValueError(
            f"pixel_format: {codec} does not take {pixel_format!r}; it takes {', '.join(formats)}"
        )
    warnings: list[str] = []
    chosen = wanted
    if formats and wanted not in formats:
        chosen = _nearest(wanted, formats)
        warnings.append(f"{codec} does not take {wanted}: frames are converted to {chosen}")
    settings = {key: str(value) for key, value in (options or {}).items()}
    settings = _quality(codec, crf, settings) | settings
    if preset is None and codec in ("libx264", "libx265"):
        preset = "medium"
    if preset is not None:
        settings.setdefault("preset", str(preset))
    if codec == "libx265":
        # The encoder prints its own banner otherwise.
        given = settings.get("x265-params")
        settings["x265-params"] = f"log-level=error{':' + given if given else ''}"
    if codec == "prores_ks":
        settings.setdefault("profile", _prores_profile(chosen, template))
    return Encoding(codec, chosen, settings, warnings)


def _quality(codec: str, crf: float | None, settings: dict[str, str]) -> dict[str, str]:
    """Options that ask for constant quality; none where the settings say what is wanted."""
    if crf is None and {"crf", "cq", "qp", "qp_i", "b", "global_quality"} & set(settings):
        return {}
    hardware = _HARDWARE_QUALITY.get(codec.rpartition("_")[2])
    if hardware is not None:
        quality = f"{_HARDWARE_CRF if crf is None else crf:g}"
        return {name: value.format(quality) for name, value in hardware.items()}
    crf = _CRF.get(codec) if crf is None else crf
    if crf is None:
        return {}
    chosen = {"crf": f"{crf:g}"}
    if codec == "libvpx-vp9":
        chosen["b"] = "0"
    return chosen


def encoder_formats(codec: str) -> list[str]:
    """List the pixel formats an encoder takes; empty if it does not say. ValueError if unknown."""
    av = require_av()
    try:
        found = av.Codec(codec, "w")
    except (ValueError, av.FFmpegError):
        raise ValueError(f"codec: this build of FFmpeg has no encoder {codec!r}") from None
    if found.type != "video":
        raise ValueError(f"codec: {codec!r} encodes {found.type}, not video")
    return [entry.name for entry in found.video_formats or []]


def _wanted_format(color: ColorSpec, has_alpha: bool, template: Template) -> str:
    if color.layout == "rgb":
        if template.stream_index is not None and template.pixel_format:
            return template.pixel_format
        return _usual_yuv("libx264", color, has_alpha)
    return format_of_color(color, has_alpha)


def _usual_yuv(codec: str, color: ColorSpec, has_alpha: bool) -> str:
    """Name what RGB becomes where the encoder takes no RGB: what every player shows."""
    if codec == "prores_ks":
        return "yuva444p10le" if has_alpha else "yuv444p10le"
    if codec == "libvpx-vp9" and has_alpha:
        return "yuva420p"
    return "yuv420p10le" if color.depth == 16 else "yuv420p"


def _default_codec(suffix: str, wanted: str, template: Template, has_alpha: bool) -> str:
    if suffix in _WEBM:
        return "libvpx-vp9"
    if suffix == ".mov" and (template.codec or "").startswith("prores"):
        return "prores_ks"
    if suffix == ".mov" and has_alpha:
        return "prores_ks"
    order = ["libx264", "libx265"]
    if template.codec == "hevc":
        order.reverse()
    if suffix in (".mkv", ".avi"):
        order.append("ffv1")
    for codec in order:
        try:
            if wanted in encoder_formats(codec):
                return codec
        except ValueError:
            continue
    return order[0]


def _nearest(wanted: str, formats: list[str]) -> str:
    from av.codec.codec import find_best_pix_fmt_of_list

    # The yuvj names are the same samples under a deprecated label.
    usable = [name for name in formats if "yuvj" not in name]
    best, _ = find_best_pix_fmt_of_list(usable, wanted, "a" in wanted.split("p")[0])
    return best.name if best is not None else usable[0]


def _prores_profile(pixel_format: str, template: Template) -> str:
    if "444" in pixel_format:
        return "5" if "XQ" in (template.profile or "").upper() else "4"
    name = (template.profile or "").lower()
    return _PRORES_PROFILES.get(name, "3")

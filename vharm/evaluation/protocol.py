# SPDX-License-Identifier: Apache-2.0
"""The two ways the literature computes its tables, and which metrics there are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """How metrics are computed.

    Attributes:
        name: "vharm", "co2net" or a name of your own.
        size: (height, width) every sample is resized to first; None leaves it as it is.
        antialias: whether that resize averages what it drops; OpenCV's and PyTorch's plain
            bilinear resize does not.
        psnr_range: "255", or "prediction" for maximum minus minimum of the output frame.
        ssim_constants: (C1, C2) for values of 0 to 255.
        foreground: what counts as one. "soft": every pixel by its mask, `sum(M d^2) / (3 sum M)`.
            "ones": fMSE is the whole frame's MSE times its area over the number of pixels whose
            mask is exactly 1.
        rounded: round outputs to whole values before they are scored, as files hold them.
    """

    name: str = "vharm"
    size: tuple[int, int] | None = None
    antialias: bool = True
    psnr_range: str = "255"
    ssim_constants: tuple[float, float] = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)
    foreground: str = "soft"
    rounded: bool = False

    def __post_init__(self) -> None:
        for field, allowed in (
            ("psnr_range", ("255", "prediction")), ("foreground", ("soft", "ones")),
        ):  # fmt: skip
            value = getattr(self, field)
            if value not in allowed:
                raise ValueError(f"{field}: expected one of {', '.join(allowed)}; got {value!r}")

    def sentence(self) -> str:
        """The definitions in words, for the foot of a table."""
        size = "as they are" if self.size is None else f"resized to {self.size[1]}x{self.size[0]}"
        parts = [
            f"pictures {size}",
            "outputs rounded" if self.rounded else "outputs not rounded",
            "PSNR range 255" if self.psnr_range == "255" else "PSNR range max - min of the output",
            "fMSE inside the mask" if self.foreground == "soft"
            else "fMSE = MSE x area / pixels with mask 1",
            f"SSIM constants {self.ssim_constants[0]:g}, {self.ssim_constants[1]:g}",
        ]  # fmt: skip
        return "; ".join(parts)


VHARM = Protocol()
CO2NET = Protocol(
    "co2net", size=(256, 256), antialias=False, psnr_range="prediction",
    ssim_constants=(0.01**2, 0.03**2), foreground="ones",
)  # fmt: skip
PROTOCOLS = {"vharm": VHARM, "co2net": CO2NET}
"""vharm: the definitions as written in papers. co2net: those of the released evaluation code that
published video tables come from."""


def choose_protocol(
    protocol: str | Protocol, *, size: int | tuple[int, int] | None = None,
    rounded: bool | None = None,
) -> Protocol:  # fmt: skip
    """The protocol of that name, with another size or rounding where given.

    Args:
        protocol: a name, or a Protocol.
        size: a side in pixels for squares, or (height, width).
        rounded: as `Protocol.rounded`.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            names = ", ".join(PROTOCOLS)
            raise ValueError(f"protocol: expected one of {names}; got {protocol!r}")
        chosen = PROTOCOLS[protocol]
    elif isinstance(protocol, Protocol):
        chosen = protocol
    else:
        raise TypeError(f"protocol: expected a name or a Protocol, got {type(protocol).__name__}")
    if size is not None:
        chosen = dataclasses.replace(chosen, size=_pair(size))
    if rounded is not None:
        chosen = dataclasses.replace(chosen, rounded=bool(rounded))
    return chosen


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    whole = len(pair) == 2 and all(isinstance(v, int) and not isinstance(v, bool) for v in pair)
    if not whole or min(pair) < 16:
        raise ValueError(f"size: expected a side or (height, width), 16 or more; got {size!r}")
    return pair


@dataclass(frozen=True)
class Metric:
    """A column of a table.

    Attributes:
        name: its heading.
        better: "lower" or "higher".
        digits: behind the point, in tables.
        over: what its mean is taken over: "frame", "pair" (of consecutive frames) or "clip".
        needs_target: whether it compares with a true answer.
        meaning: one line.
    """

    name: str
    better: str
    digits: int
    over: str
    needs_target: bool
    meaning: str

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↓" if self.better == "lower" else "↑"

    @property
    def heading(self) -> str:
        """Name and arrow."""
        return f"{self.name} {self.arrow}"


METRICS = {
    metric.name: metric
    for metric in (
        Metric("MSE", "lower", 2, "frame", True, "mean squared error, all pixels, 0-255"),
        Metric("fMSE", "lower", 2, "frame", True, "mean squared error of the foreground, 0-255"),
        Metric("PSNR", "higher", 2, "frame", True, "peak signal-to-noise ratio, dB"),
        Metric("SSIM", "higher", 4, "frame", True, "structural similarity, 11x11 Gaussian"),
        Metric("fSSIM", "higher", 4, "frame", True, "structural similarity over the foreground"),
        Metric("TL", "lower", 4, "pair", False, "temporal loss along the true motion, 0-255"),
        Metric("L_T1", "lower", 5, "pair", False,
               "regional temporal loss by exact flow, values in [0,1]"),
        Metric("L_T2", "lower", 5, "pair", False,
               "regional temporal loss by estimated flow, values in [0,1]"),
        Metric("flicker", "lower", 3, "clip", False,
               "deviation over time of the mean colour change, 0-255"),
        Metric("drift", "lower", 3, "clip", False,
               "deviation over time of the mean foreground colour itself, 0-255; the composite's "
               "is what it had before"),
    )
}  # fmt: skip
"""Every metric, in the order of a table's columns."""


def choose_metrics(names: object) -> tuple[str, ...]:
    """Names in the tables' order; None for all. Case does not matter.

    Raises:
        TypeError, ValueError: not a list of names, or a name there is no metric of.
    """
    if names is None:
        return tuple(METRICS)
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise TypeError(f"metrics: expected a list of names, got {type(names).__name__}")
    known = {name.lower(): name for name in METRICS}
    wanted = set()
    for name in names:
        if str(name).lower() not in known:
            raise ValueError(f"metrics: expected some of {', '.join(METRICS)}; got {name!r}")
        wanted.add(known[str(name).lower()])
    if not wanted:
        raise ValueError("metrics: expected at least one, got none")
    return tuple(name for name in METRICS if name in wanted)

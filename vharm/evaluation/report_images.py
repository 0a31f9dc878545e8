# SPDX-License-Identifier: Apache-2.0
"""Pictures as data URIs, and the colours of error maps."""

from __future__ import annotations

import base64
import io

import numpy as np

RAMP = ((6, 6, 16), (50, 22, 98), (134, 38, 106), (206, 74, 68), (244, 146, 54), (252, 232, 168))
"""From no error to the scale's end; lightness rises all the way, so it reads in grey too."""

SCALES = (2, 4, 8, 16, 32, 64, 128, 255)
"""Ends that the scale of an error map may have."""


def error_scale(errors: list[np.ndarray]) -> int:
    """The smallest scale that holds all but 1 in 200 pixels of every map."""
    top = max(float(np.percentile(error, 99.5)) for error in errors)
    return next((scale for scale in SCALES if top <= scale), SCALES[-1])


def error_picture(error: np.ndarray, scale: int) -> np.ndarray:
    """uint8 [h,w,3] of an error map [h,w], 0 to `scale`."""
    place = np.clip(error / scale, 0, 1)
    stops = np.linspace(0, 1, len(RAMP))
    planes = [np.interp(place, stops, [colour[c] for colour in RAMP]) for c in range(3)]
    return np.stack(planes, -1).round().astype(np.uint8)


def data_uri(picture: np.ndarray, *, exact: bool = False) -> str:
    """A picture, uint8 [h,w,3] or [h,w], as JPEG (PNG where `exact`) inside a URI.

    Raises:
        ImportError: Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('a report needs Pillow: pip install "vharm[cli]"') from error
    out = io.BytesIO()
    if exact:
        Image.fromarray(picture).save(out, "PNG", optimize=True)
    else:
        # Chroma at full size: its errors are what is looked for.
        Image.fromarray(picture).save(out, "JPEG", quality=90, subsampling=0, optimize=True)
    kind = "png" if exact else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"

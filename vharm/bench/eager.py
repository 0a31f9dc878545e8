# SPDX-License-Identifier: Apache-2.0
"""The peer: the same work as one would write it with PyTorch and PyAV, in float32 RGB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .cases import CRF, EAGER_METHOD, PRESET, Clip

# swscale's names of the matrices, and the tags that streams carry.
_MATRICES = {"bt709": ("ITU709", 1), "bt601": ("ITU601", 6), "bt2020": ("BT2020", 9)}


class EagerPeer:
    """Harmonizer's network, filters and moving average on float32 RGB pictures.

    Every frame is decoded to RGB, made a tensor [1,3,H,W], resized for the network, changed by the
    six filters over the whole picture, blended by the mask and made 8-bit again. Decoder and
    encoder have threads of their own; the rest is one loop. It does as `Session` does by default:
    global means from the small picture, Looks averaged over half a second.

    Raises:
        vharm.models.weights.WeightsError: no weights.
    """

    def __init__(self) -> None:
        from ..methods import shipped
        from ..models.harmonizer import Harmonizer

        network = Harmonizer.from_weights(shipped.chosen(EAGER_METHOD, None)).eval()
        # Kept fair: in the other layout depthwise convolutions take several times as long.
        self.network = network.to(memory_format=torch.channels_last)

    def run(self, clip: Clip, out: Path) -> int:
        """Writes the clip; returns the number of frames."""
        from ..media.errors import require_av

        av = require_av()
        matrix, tag = _MATRICES[_matrix_of(clip)]
        count = 0
        with av.open(str(out), "w") as target:
            stream = None
            for picture, rate in self.pictures(clip):
                if stream is None:
                    options = {"crf": str(CRF), "preset": PRESET}
                    stream = target.add_stream("libx264", rate=rate, options=options)
                    stream.height, stream.width = picture.shape[:2]
                    stream.pix_fmt, stream.thread_type = "yuv420p", "AUTO"
                    stream.codec_context.colorspace, stream.codec_context.color_range = tag, 1
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace=matrix)
                frame.colorspace, frame.color_range = tag, 1
                target.mux(stream.encode(frame))
                count += 1
            if stream is not None:
                target.mux(stream.encode(None))
        return count

    @torch.no_grad()
    def pictures(self, clip: Clip, *, exact: bool = False) -> Iterator[tuple[np.ndarray, Any]]:
        """Harmonized pictures [H,W,3], uint8, each with the frame rate.

        FFmpeg's usual conversion to RGB is fast, and 1 to 1.5 levels too dark. `exact` has it
        rounded rightly, at several times the cost: for comparing pictures, not for timing.
        """
        from ..looks import Smoother

        matrix, _ = _MATRICES[_matrix_of(clip)]
        smoother = Smoother(0.5)
        with _Masks(clip) as masks:
            for frame, rate in _decoded(clip):
                mask = torch.from_numpy(next(masks))[None, None]
                how = {"interpolation": _exact()} if exact else {}
                rgb = frame.reformat(format="rgb24", src_colorspace=matrix, **how).to_ndarray()
                image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
                out = image
                if bool((mask > 0).any()):
                    look = smoother.update(self._look(image, mask), frame.time)
                    out = self._filtered(image, mask, look)
                picture = (out[0] * 255).round().clamp(0, 255).to(torch.uint8)
                yield picture.permute(1, 2, 0).contiguous().numpy(), rate

    def _look(self, image: Tensor, mask: Tensor) -> Any:
        from ..looks import FilterLook
        from ..ops import backend, filter_statistics

        side = self.network.input_size or 256
        small, inside = (F.interpolate(x, (side, side), mode="area") for x in (image, mask))
        arguments = self.network(small.contiguous(memory_format=torch.channels_last), inside)
        with backend("reference"):
            means = filter_statistics(small, arguments, filters=self.network.filters)
        return FilterLook(arguments[0], means[0], self.network.filters)

    def _filtered(self, image: Tensor, mask: Tensor, look: Any) -> Tensor:
        from ..ops import backend, filter_chain

        with backend("reference"):
            changed = filter_chain(
                image, None, look.arguments[None], filters=look.filters,
                statistics=look.statistics[None],
            )  # fmt: skip
        return image + mask * (changed - image)


def _decoded(clip: Clip) -> Iterator[tuple[Any, Any]]:
    from ..media.errors import require_av

    with require_av().open(str(clip.path)) as source:
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in source.decode(stream):
            if clip.end is not None and frame.time >= clip.end - 5e-4:
                return
            yield frame, stream.average_rate


def _exact() -> int:
    """Flags of swscale."""
    from av.video.reformatter import Interpolation

    flags = (Interpolation.BICUBIC, Interpolation.ACCURATE_RND, Interpolation.FULL_CHR_H_INT)
    return sum(map(int, flags))


class _Masks:
    """Masks [H,W], float32: those of the file, or the clip's alpha channel."""

    def __init__(self, clip: Clip) -> None:
        self._reader, self._masks = clip.open()

    def __enter__(self) -> Iterator[np.ndarray]:
        if self._masks is None:
            from ..session.pairs import own_mask

            return (own_mask(frame, i).unit() for i, frame in enumerate(self._reader))
        self._reader.close()
        return (mask.unit() for mask in self._masks)

    def __exit__(self, *exc_info: object) -> None:
        self._reader.close()
        if self._masks is not None:
            self._masks.close()


def _matrix_of(clip: Clip) -> str:
    from ..media import open_reader

    with open_reader(clip.path) as reader:
        return reader.color.matrix

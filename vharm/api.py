# SPDX-License-Identifier: Apache-2.0
"""The Python front door: `harmonize`, `composite`, `get_include`."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .looks import Look, LookTrack
    from .media import MaskReader, Reader
    from .methods import Method
    from .session import Session


def harmonize(
    frames: Any = None, masks: Any = None, method: str | Method | None = None, *,
    output: str | os.PathLike[str] | None = None, foreground: Any = None, background: Any = None,
    premultiplied: bool = False, strength: float = 1.0, temporal: str = "smooth",
    time_constant: float = 0.5, estimate_every: int = 1, layout: str | None = None,
    frame_rate: Any = None,
    device: Any = None, backend: str | None = None,
    weights: str | os.PathLike[str] | None = None, reference: Any = None,
    reference_mask: Any = None, swap: bool = False, mask_grow: float = 0,
    mask_feather: float = 0.0, invert_mask: bool = False, on_short: str = "error",
    look: Look | LookTrack | str | os.PathLike[str] | None = None,
    look_out: str | os.PathLike[str] | None = None,
    cube_out: str | os.PathLike[str] | None = None,
    mask_out: str | os.PathLike[str] | None = None, mask_threshold: float | None = None,
    compare: str | None = None, start: float | None = None, end: float | None = None,
    codec: str | None = None, crf: float | None = None, preset: str | None = None,
    pixel_format: str | None = None,
    encoder_options: dict[str, Any] | None = None,
    progress: Callable[[int, int | None, str], None] | None = None, verbose: bool = True,
) -> Any:  # fmt: skip
    """Matches a pasted foreground's colours to its background.

    Args:
        frames: the composite: an array [T,H,W,3] or tensor [T,3,H,W] (or one picture, [H,W,3] or
            [3,H,W]), a list or an iterator of pictures, or a path (video, picture, folder,
            pattern, list of paths). uint8 and uint16 at full scale, float in [0,1]. A fourth
            channel is alpha and comes back unchanged.
        masks: what was pasted: [T,H,W], [T,H,W,1], [T,1,H,W] or one [H,W] for all frames, bool,
            uint8 or uint16 at full scale, or float in [0,1]; or a list, an iterator, or a path.
            None takes the frames' alpha channel; where there is none, a method that can finds the
            foreground itself ("huang"). With `foreground`: the matte.
        method: a name out of `vharm.methods()`, also with options ("harmonizer+side=192"), or a
            `Method`; None takes the default. Which one it is, is printed.
        output: where to write, for frames that are paths (a video file, a picture, a pattern such
            as "out_%05d.png", or a folder). Frames from memory may be written too.
        foreground: with `background` instead of `frames`: two clips to be composed with the matte
            `masks` (None: the foreground's alpha channel).
        background: gives size, format, time stamps and sound.
        premultiplied: the foreground's colours are multiplied by its matte already.
        strength: 0 (untouched) to 1 (full effect).
        temporal: "smooth", "lock" or "per-frame"; see `Session`.
        time_constant: seconds, for "smooth".
        estimate_every: estimate on every n-th frame of a shot only and interpolate the Looks in
            between: much faster with a network; n - 1 frames wait in memory. See `Session`.
        layout: "NHWC" or "NCHW" for pictures in memory; None: arrays NHWC, tensors NCHW.
        frame_rate: frames a second of pictures without time stamps; None smooths as if it were
            25, and a video cannot be written.
        device: where Looks are estimated, and applied to RGB pictures; None: the CPU, or where
            the tensors given are.
        backend: forces a backend of `vharm.ops`.
        weights: the method's weights file.
        reference: a picture whose colours are the goal; see `Session`.
        reference_mask: which background counts; see `Session`.
        swap: harmonize the background to the foreground.
        mask_grow: pixels by which masks grow (below 0: shrink).
        mask_feather: sigma in pixels of the blur of masks.
        invert_mask: masks mark the background.
        on_short: "error", "loop" or "hold" where masks end first; see `vharm.media.open_mask`.
        look: apply this Look, LookTrack or saved file (.json, .cube) and estimate nothing.
        look_out: a file to save the Looks in; see `Session.run`.
        cube_out: a .cube file for the Look of the whole clip; see `Session.run`.
        mask_out: a file for the masks the method has found itself, white on black: a video, or a
            pattern or folder of pictures.
        mask_threshold: for those masks; see `Session`.
        compare: None, "wipe" or "side-by-side".
        start: seconds; what comes before is not read (of the masks neither).
        end: seconds; what comes from there on is not read.
        codec: for `output`, as are the following; see `vharm.media.open_writer`.
        crf: quality, lower is better.
        preset: the encoder's speed.
        pixel_format: FFmpeg's name of it.
        encoder_options: further options of the encoder.
        progress: called as progress(done, total, stage) after every frame.
        verbose: print the line about the method on stderr.

    Returns:
        What was given: an array for an array, a tensor (on its device) for a tensor, a list for a
        list, a generator (which reads a few frames ahead at most, and those that wait for the next
        estimate) for an iterator; dtype and layout are kept. With `output`, its Path. Pixels
        outside the mask are the input's own, bit for bit; in files, the samples handed to the
        encoder are.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
        vharm.media.MediaError: a file that cannot be read or written.

    Example:
        >>> import numpy, vharm
        >>> frames = numpy.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), numpy.uint8)
        >>> masks = numpy.zeros((4, 48, 64), bool)
        >>> masks[:, 10:30, 10:30] = True
        >>> result = vharm.harmonize(frames, masks, "mkl", verbose=False)
        >>> result.shape, result.dtype.name, bool((result[~masks] == frames[~masks]).all())
        ((4, 48, 64, 3), 'uint8', True)
    """
    from .session import Session
    from .session.front import Source, open_source

    source = Source(
        frames=frames, masks=masks, foreground=foreground, background=background,
        premultiplied=premultiplied, layout=layout, frame_rate=frame_rate, start=start, end=end,
        mask_grow=mask_grow, mask_feather=mask_feather, invert_mask=invert_mask,
        on_short=on_short, to_file=output is not None,
    )  # fmt: skip
    source.check()
    if None not in (output, mask_out) and Path(output).resolve() == Path(mask_out).resolve():
        raise ValueError(f"mask_out: {mask_out} is the output already")
    session = Session(
        _look(look, method) if look is not None else method, strength=strength,
        temporal=temporal, time_constant=time_constant, estimate_every=estimate_every,
        weights=weights,
        device=source.device() if device is None else device, backend=backend,
        reference=reference, reference_mask=reference_mask, swap=swap,
        **({} if mask_threshold is None else {"mask_threshold": mask_threshold}),
    )  # fmt: skip
    if verbose:
        _announce(session)
    saved = {"look_out": look_out, "cube_out": cube_out, "mask_out": mask_out}
    if output is None and source.streams:
        given = [name for name, value in {**saved, "progress": progress}.items() if value]
        if given:
            raise ValueError(f"{given[0]}: not for an iterator, which is harmonized as it is drawn")
        return _stream(session, source, compare)
    reader, mask_reader = open_source(source)
    with reader:
        if output is None:
            return _to_memory(session, reader, mask_reader, compare, progress, saved)
        encoding = {
            "codec": codec, "crf": crf, "preset": preset, "pixel_format": pixel_format,
            "options": encoder_options,
        }  # fmt: skip
        return _to_file(
            session, source, reader, mask_reader, output, compare, progress, saved, encoding
        )


def composite(
    foreground: Any, background: Any, matte: Any = None, *, premultiplied: bool = False,
    output: str | os.PathLike[str] | None = None, layout: str | None = None,
    frame_rate: Any = None, on_short: str = "error",
) -> Any:  # fmt: skip
    """Lays a foreground over a background by its matte, without harmonizing.

    Args:
        foreground: as `frames` of `harmonize`.
        background: likewise, of the same size.
        matte: as `masks` of `harmonize`; None takes the foreground's alpha channel.
        premultiplied: the foreground's colours are multiplied by its matte already.
        output: where to write; needed where the background is a path.
        layout: as for `harmonize`.
        frame_rate: as for `harmonize`.
        on_short: as for `harmonize`.

    Returns:
        `M F + (1 - M) B` (`F + (1 - M) B` where premultiplied) in the form of the background; with
        `output`, its Path. Where the matte is 0 the samples are the background's own.

    Raises:
        TypeError, ValueError, vharm.media.MediaError: as for `harmonize`.

    Example:
        >>> import numpy, vharm
        >>> black = numpy.zeros((8, 8, 3), numpy.uint8)
        >>> white = ~black
        >>> matte = numpy.eye(8, dtype=bool)
        >>> int(vharm.composite(white, black, matte).sum()) == 8 * 3 * 255
        True
    """
    from .session.front import Source, open_source
    from .session.sources import Collector

    source = Source(
        masks=matte, foreground=foreground, background=background, premultiplied=premultiplied,
        layout=layout, frame_rate=frame_rate, on_short=on_short, to_file=output is not None,
    )  # fmt: skip
    source.check()
    if output is None and source.streams:
        return _drawn(lambda: _open_composite(source))
    reader, _ = open_source(source)
    with reader:
        if output is None:
            writer: Any = Collector(reader.memory)
        else:
            from .media import open_writer

            writer = open_writer(output, reader, inputs=source.paths())
        try:
            for frame in reader:
                writer.write(frame)
                del frame
            writer.close()
        except BaseException:
            writer.abort()
            raise
    return Path(output) if output is not None else writer.result()


def get_include() -> str:
    """The folder of the C++ headers, for compilers: `-I$(python -c ...)`.

    Raises:
        FileNotFoundError: this installation has none.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "include", here.parent / "csrc" / "include"):
        if (folder / "vharm").is_dir():
            return str(folder)
    raise FileNotFoundError(f"get_include: no C++ headers in or beside {here}")


def _look(look: Any, method: Any) -> Look | LookTrack:
    from .looks import Look, LookTrack, load_look

    if method is not None:
        raise ValueError("look: a Look replaces the method; give one of both")
    if isinstance(look, str | os.PathLike):
        return load_look(look)
    if not isinstance(look, Look | LookTrack):
        raise TypeError(f"look: expected a Look, a LookTrack or a path, got {type(look).__name__}")
    return look


def _announce(session: Session) -> None:
    temporal = "" if session.given is not None else f", temporal {session.temporal}"
    if session.estimate_every > 1:
        temporal += f", estimated every {session.estimate_every} frames"
    print(f"vharm: method {session.method_name}{temporal}, on {session.device}", file=sys.stderr)


def _to_memory(
    session: Session, reader: Reader, masks: MaskReader | None, compare: str | None, progress: Any,
    saved: dict[str, Any],
) -> Any:  # fmt: skip
    from .session.sources import Collector

    writer = Collector(reader.memory)
    report = session.run(
        reader, masks, writer, progress=progress, compare=compare, threads=False, **saved
    )
    _warn(report.warnings)
    return writer.result()


def _to_file(
    session: Session, source: Any, reader: Reader, masks: MaskReader | None, output: Any,
    compare: str | None, progress: Any, saved: dict[str, Any], encoding: dict[str, Any],
) -> Path:  # fmt: skip
    from .media import open_writer
    from .session.compare import output_size

    width, height = output_size(reader.width, reader.height, compare)
    writer = open_writer(
        output, reader, inputs=source.paths(), width=width, height=height, **encoding
    )
    report = session.run(reader, masks, writer, progress=progress, compare=compare, **saved)
    _warn(report.warnings)
    return Path(output)


def _stream(session: Session, source: Any, compare: str | None) -> Iterator[Any]:
    from .session.compare import check_comparison
    from .session.front import open_source
    from .session.sources import Collector

    check_comparison(compare)

    def results() -> Iterator[Any]:
        reader, masks = open_source(source)
        form = Collector(reader.memory)
        with reader:
            for frame in session.frames(reader, masks, compare=compare):
                yield form.picture(frame)
                del frame

    return results()


def _drawn(opened: Callable[[], tuple[Reader, Any]]) -> Iterator[Any]:
    reader, form = opened()
    with reader:
        for frame in reader:
            yield form.picture(frame)
            del frame


def _open_composite(source: Any) -> tuple[Reader, Any]:
    from .session.front import open_source
    from .session.sources import Collector

    reader, _ = open_source(source)
    return reader, Collector(reader.memory)


def _warn(texts: list[str]) -> None:
    for text in texts:
        warnings.warn(text, stacklevel=4)

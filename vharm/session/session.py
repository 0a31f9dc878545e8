# SPDX-License-Identifier: Apache-2.0
"""Session: one clip from decoded frames to encoded ones."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..looks import Look, LookTrack, TrackWriter, save_look
from ..media.mask import Mask, MaskReader
from ..media.pipe import threaded
from .compare import check_comparison
from .cuts import CUT_THRESHOLD
from .mask_free import MASK_THRESHOLD
from .matte import open_matte
from .options import check_options, choose_method
from .report import Progress, Report
from .resources import ahead, rest_openmp
from .run import Run
from .stages import Trace

if TYPE_CHECKING:
    from ..media import Frame, Reader, Writer
    from ..methods import Method


class Session:
    """Harmonizes clips: everything that is decided before a clip is seen.

    Args:
        method: a method's name, also with options ("harmonizer+side=192"), a `Method`, or None for
            `vharm.methods.default_name()`. A `Look` or `LookTrack` is applied as it is, and nothing
            is estimated: the fast way.
        strength: 0 (frames come out as they went in) to 1 (full effect).
        temporal: "smooth" (Looks averaged over the last `time_constant` seconds, anew after each
            cut; follows a background whose light changes), "lock" (one Look for the clip, in two
            passes; needs frames and masks that can be read twice) or "per-frame" (flickers).
        time_constant: seconds, for "smooth"; 0 does not smooth.
        cut_threshold: score from which a frame begins a new shot, see `CutDetector`;
            `math.inf` finds no cuts.
        weights: the method's weights file, for methods that need one.
        device: where Looks are estimated and applied, such as "cpu" or "cuda".
        backend: forces a backend of `vharm.ops`; an op that has none of that name, or cannot run
            on it, raises RuntimeError.
        reference: a picture (path, array [H,W,3] or tensor [3,H,W]) whose colours are the goal
            instead of the frame's own background.
        reference_mask: which background counts: of the reference picture where there is one (a
            path or array [H,W]), else of the clip's frames (anything `open_mask` takes).
        swap: harmonize the background to the foreground: the mask is inverted for everything.
        estimate_every: estimate on every n-th frame of a shot only, which saves most of a network's
            time. The Looks of the frames between are interpolated in time, so up to n - 1 frames
            (n more for each one the method looks ahead) wait in memory for the next estimate; the
            last frames of a shot, and those before a frame without foreground whose turn it would
            be, hold the last one. Cuts are looked for on every frame, and each shot begins with an
            estimate. For "lock": frames that are estimated are at least n apart.
        batch: frames given to the method at once; None takes the method's own wish, or fewer
            where frames are very large.
        mask_threshold: for clips without masks and a method that finds the foreground itself
            ("huang"): from which value of its map, 0 to 1, a pixel belongs to it; 0 takes the map
            as a soft mask. See `vharm.session.mask_free`.
        method_options: further options of the method's constructor, such as
            {"lightness": 0.5} for "mkl".

    Attributes:
        method: the Method, or None where Looks were given.
        method_name: its name; "look" or "look track" where Looks were given.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    Example:
        >>> import numpy, vharm
        >>> frames = numpy.random.default_rng(0).random((3, 32, 48, 3), dtype=numpy.float32)
        >>> masks = numpy.zeros((3, 32, 48), bool); masks[:, 8:24, 8:24] = True
        >>> session = vharm.Session("mkl", temporal="smooth")
        >>> reader = vharm.media.open_reader(frames)
        >>> mask = vharm.media.open_mask(masks, width=48, height=32)
        >>> out = [frame.planes[0] for frame in session.frames(reader, mask)]
    """

    def __init__(
        self, method: str | Method | Look | LookTrack | None = None, *, strength: float = 1.0,
        temporal: str = "smooth", time_constant: float = 0.5,
        cut_threshold: float = CUT_THRESHOLD, weights: str | Path | None = None,
        device: str | torch.device = "cpu", backend: str | None = None, reference: Any = None,
        reference_mask: Any = None, swap: bool = False, estimate_every: int = 1,
        batch: int | None = None, mask_threshold: float = MASK_THRESHOLD,
        method_options: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        check_options(
            strength=strength, temporal=temporal, time_constant=time_constant,
            cut_threshold=cut_threshold, estimate_every=estimate_every, batch=batch,
            backend=backend, device=device, mask_threshold=mask_threshold,
        )  # fmt: skip
        self.device = torch.device(device)
        self.strength, self.temporal, self.time_constant = float(strength), temporal, time_constant
        self.cut_threshold, self.backend = cut_threshold, backend
        self.reference, self.reference_mask = reference, reference_mask
        self.swap, self.estimate_every = bool(swap), int(estimate_every)
        self.given: Look | LookTrack | None = None
        self.method: Method | None = None
        if isinstance(method, Look | LookTrack):
            if estimate_every != 1:
                raise ValueError(
                    "estimate_every: a Look was given, so nothing is estimated; expected 1, got "
                    f"{estimate_every}"
                )
            if weights is not None or reference is not None or reference_mask is not None:
                raise ValueError(
                    "method: a Look was given, so nothing is estimated; weights, reference and "
                    "reference_mask must be None"
                )
            self.given = method
            self.method_name = "look" if isinstance(method, Look) else "look track"
        else:
            self.method = choose_method(method, weights, self.device, method_options or {})
            self.method_name = self.method.name
        self.batch, self.mask_threshold = batch, float(mask_threshold)

    def frames(
        self, reader: Reader | Iterable[Frame], masks: MaskReader | Iterable[Mask] | None = None,
        *, compare: str | None = None, report: Report | None = None,
    ) -> Iterator[Frame]:  # fmt: skip
        """Harmonized frames, one for each that is read, as they are asked for.

        Args:
            reader: the composite's frames.
            masks: the masks that go with them; None takes each frame's matte (see
                `media.composite_reader`) or its alpha channel, or, where there is neither, what
                the method finds itself, if it can (`Method.predicts_masks`).
            compare: None, "wipe" or "side-by-side": before and after in one picture.
            report: filled in while frames are drawn.

        Yields:
            Frames of the same format and time stamps. Samples outside the mask are the input's
            own; a frame with an empty mask is the very object that was read.

        Raises:
            ValueError: masks that are missing or do not fit the frames in size or number, a
                method that was to find them and found nothing (after the last frame),
                temporal="lock" with a source that can be read only once, or an `estimate_every`
                for which more than 2 GiB of frames would wait in memory.
        """
        check_comparison(compare)
        return Run(self, reader, masks, report or Report(), compare).frames()

    def run(
        self, reader: Reader | Iterable[Frame], masks: MaskReader | Iterable[Mask] | None,
        writer: Writer, *, progress: Progress | None = None, compare: str | None = None,
        look_out: str | Path | None = None, cube_out: str | Path | None = None,
        mask_out: str | Path | None = None, threads: bool = True, trace: Trace | None = None,
    ) -> Report:  # fmt: skip
        """Harmonizes a clip and writes it.

        Args:
            reader: as for `frames`.
            masks: as for `frames`.
            compare: as for `frames`.
            writer: an open writer; it is closed at the end. Any exception, Ctrl-C included,
                aborts it, so that nothing stands under its name, and is raised again.
            progress: called as progress(done, total, stage) after every frame, stage "estimate"
                (the first pass of "lock", from another thread) or "harmonize", total None if
                unknown.
            look_out: a JSON file for the Looks that were applied (without `strength`).
            cube_out: a .cube file; needs one Look for the clip (temporal="lock", or a Look).
            mask_out: a video, picture, pattern or folder for the masks the method has found,
                white on black; only where masks were not given.
            threads: decode and encode in threads of their own; False does all in the caller's.
            trace: what notes when each thread was in which stage.

        Returns:
            What was done; see `Report`.

        Raises:
            ValueError: as for `frames`, or where there is no single Look for `cube_out`.
            RuntimeError: more or fewer frames were written than read.
            vharm.media.MediaError: a file cannot be read or written to its end.
        """
        report = Report()
        begin = time.perf_counter()
        try:
            check_comparison(compare)
            self._check_cube(cube_out)
            self._check_mask_out(mask_out, masks)
            if threads:
                rest_openmp()
            run = Run(self, reader, masks, report, compare, progress, threads=threads, trace=trace)
            with contextlib.ExitStack() as stack:
                if look_out is not None and not self._one_look:
                    run.track = stack.enter_context(TrackWriter(look_out))
                if mask_out is not None:
                    run.matte = stack.enter_context(open_matte(mask_out, reader))
                frames = run.frames()
                if threads:
                    frames = threaded(frames, ahead(run.frame_bytes), "vharm-change")
                stack.enter_context(contextlib.closing(frames))
                for frame in frames:
                    run.encode(writer, frame)
                    del frame
                run.finish()
                self._save(report, look_out, cube_out)
                if run.matte is not None:
                    run.matte.close()
                writer.close()
        except BaseException:
            writer.abort()
            raise
        report.seconds = time.perf_counter() - begin
        report.copied = getattr(writer, "copied_count", 0)
        report.warnings += [w for w in getattr(writer, "warnings", []) if w not in report.warnings]
        return report

    @property
    def _one_look(self) -> bool:
        """Whether the whole clip gets one Look."""
        return self.temporal == "lock" if self.given is None else isinstance(self.given, Look)

    def _check_cube(self, cube_out: str | Path | None) -> None:
        if cube_out is not None and not self._one_look:
            raise ValueError(
                'cube_out: a .cube file holds one Look for the whole clip; use temporal="lock"'
            )

    def _check_mask_out(self, mask_out: str | Path | None, masks: Any) -> None:
        if mask_out is None:
            return
        if masks is not None:
            raise ValueError("mask_out: saves the masks a method has found, and masks were given")
        if self.method is None or not self.method.predicts_masks:
            raise ValueError(
                f"mask_out: saves the masks a method has found, and {self.method_name} finds none; "
                'use method="huang"'
            )

    def _save(self, report: Report, look_out: Any, cube_out: Any) -> None:
        if not self._one_look:
            return
        look = report.look
        if look is None and (cube_out or look_out):
            name = "cube_out" if cube_out else "look_out"
            raise ValueError(f"{name}: no frame has a foreground, so there is no Look to save")
        if cube_out is not None:
            save_look(cube_out, look.with_strength(look.strength * self.strength))
        if look_out is not None:
            save_look(look_out, look)

# SPDX-License-Identifier: Apache-2.0
"""One clip on its way through a Session: pairing, thumbnails, Looks, planes."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch

from ..looks import FilterLook, Look, TrackWriter
from ..media.formats import blank_like, overwritable
from ..media.frame import Frame
from ..media.mask import Mask
from ..media.pipe import threaded
from ..ops import _backends, _native
from .apply import (
    TensorFrame,
    apply_look,
    inverted,
    is_empty,
    mask_tensor,
    mask_thumbnail,
    thumbnail,
    with_tensors,
)  # fmt: skip
from .between import check_waiting
from .compare import join
from .cuts import CutDetector
from .estimate import Estimator, given, smoothed
from .flicker import FlickerMeter, foreground_mean
from .goal import ClipWeights, Goal, open_goal
from .items import Item
from .mask_free import MaskFinder
from .matte import matte_frame
from .pairs import check_readable_twice, pair_up
from .report import Progress, Report
from .resources import HELD_BYTES, ahead, batch_room, frame_bytes, kernel_threads
from .stages import Stages, Trace

if TYPE_CHECKING:
    from ..media import Writer
    from ..methods import Shot
    from .session import Session


class _Scope:
    """Contexts that are entered together, with less ado than an ExitStack's."""

    def __init__(self, contexts: list[AbstractContextManager[Any]]) -> None:
        self._contexts = contexts

    def __enter__(self) -> None:
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        for context in reversed(self._contexts):
            context.__exit__(*error)


class Run:
    """One clip on its way through a Session.

    `frames()` gives the results; `encode` and `finish` are called by the loop that writes them.
    """

    def __init__(
        self, session: Session, reader: Any, masks: Any, report: Report, compare: str | None,
        progress: Progress | None = None, *, threads: bool = False, trace: Trace | None = None,
    ) -> None:  # fmt: skip
        self.session, self.reader, self.masks = session, reader, masks
        self.report, self.compare, self.progress = report, compare, progress
        self.threads = threads
        # "Before" of a comparison is read after the Look was applied.
        self._overwrites = compare is None and getattr(reader, "gives_away", False)
        self.track: TrackWriter | None = None
        self.matte: Writer | None = None
        self.read = 0
        self.total: int | None = getattr(reader, "frame_count", None)
        self._stages = Stages(report.stages, trace)
        self._kernel_threads = kernel_threads(beside_others=threads)
        heavy = session.method is not None and session.method.runs_in_torch
        self._estimate_threads = kernel_threads(beside_others=threads and not heavy)
        # Threads and suspended generators do not see the caller's context.
        self._backend = session.backend or _backends.forced()
        self._flicker = FlickerMeter()
        self._looks: dict[str, int] = {}
        self._scaled: tuple[Look, Look] | None = None
        self._opened: tuple[Goal, ClipWeights | None] | None = None
        self._covered = 0
        self._cut_pending = False
        self._size = (0, 0)
        self.frame_bytes = frame_bytes(reader)
        self.finder = self._finder()
        report.method = session.method_name
        report.temporal = "given" if session.given is not None else session.temporal
        self._estimates = session.given is None and session.strength > 0
        self._estimator = self._make_estimator() if self._estimates else None
        if self._estimates and session.temporal == "lock":
            check_readable_twice("frames", reader)
            check_readable_twice("masks", masks)
        elif self._estimates:
            check_waiting(
                session.estimate_every, session.method.look_ahead, self.frame_bytes, self.total
            )

    def frames(self) -> Iterator[Frame]:
        """The harmonized frames, in order."""
        session = self.session
        with contextlib.ExitStack() as stack:
            if not self._estimates:
                items = self._ahead(stack, self._items(None))
                if session.given is not None:
                    self.report.look = session.given if isinstance(session.given, Look) else None
                    items = given(items, session.given)
            elif session.temporal == "lock":
                self.report.look = self._lock()
                items = self._ahead(stack, self._items(None))
                if self.report.look is not None:
                    items = given(items, self.report.look)
            else:
                items = self._estimator.looks(self._ahead(stack, self._items(1)))
                if session.temporal == "smooth":
                    items = smoothed(items, session.time_constant)
            for item in items:
                yield self._finished(item)
                del item
        if self.read == 0:
            raise ValueError("frames: expected at least one frame, got none")
        self._conclude()

    def encode(self, writer: Any, frame: Frame) -> None:
        """Hands a frame to the writer."""
        with self.scope("encode"):
            if isinstance(frame, TensorFrame) and not getattr(writer, "takes_tensors", False):
                frame = frame.plain()
            writer.write(frame)
        self.report.frames += 1
        if self.progress is not None:
            self.progress(self.report.frames, self.total, "harmonize")

    def finish(self) -> None:
        """Checks that nothing was lost on the way, and completes the file of Looks."""
        if self.report.frames != self.read:
            raise RuntimeError(f"{self.read} frames were read, {self.report.frames} written")
        if self.track is not None and self.track.count == 0:
            self.report.warnings.append("no frame has a foreground: no Looks were saved")
            self.track.abort()
        elif self.track is not None:
            self.track.close()

    def scope(self, stage: str) -> _Scope:
        """A stage, timed and marked, with the forced backend and the threads it may use."""
        most = self._estimate_threads if stage == "estimate" else self._kernel_threads
        around = [self._stages(stage), _native.AtMost(most)]
        if self._backend is not None:
            around.append(_backends.backend(self._backend))
        return _Scope(around)

    def _ahead(self, stack: contextlib.ExitStack, items: Iterator[Item]) -> Iterator[Item]:
        if self.threads:
            items = threaded(items, ahead(self.frame_bytes), "vharm-read")
        return stack.enter_context(contextlib.closing(items))

    def _items(self, every: int | None) -> Iterator[Item]:
        """Every frame with its mask; thumbnails of every n-th, cuts where all have one."""
        detector = CutDetector(self.session.cut_threshold) if every == 1 else None
        self.read = 0
        finder = self.finder
        pairs = pair_up(self.reader, self.masks, finder, every, lambda: self._stages("mask"))
        with contextlib.closing(pairs):
            while True:
                found = finder.seconds if finder else 0.0
                with self.scope("decode"):
                    pair = next(pairs, None)
                    if finder is not None:
                        self._stages.leave_out(finder.seconds - found)
                if pair is None:
                    break
                item = self._item(*pair, self.read)
                del pair
                if detector is not None:
                    self._find_cut(item, detector)
                # Where few frames are estimated, most need none.
                later = every == 1 and self.session.estimate_every > 1
                if every is not None and self.read % every == 0 and not later:
                    self._add_thumbnails(item)
                self.read += 1
                yield item
                del item

    def _item(self, frame: Frame, mask: Mask, number: int) -> Item:
        height, width = mask.data.shape
        if (height, width) != (frame.height, frame.width):
            raise ValueError(
                f"masks: number {number} is {width}x{height}, its frame "
                f"{frame.width}x{frame.height}"
            )
        if self._opened is None:
            self._opened = open_goal(self.session, frame.width, frame.height)
            if self.session.method is not None:
                self._size = self.session.method.working_size(frame.height, frame.width)
        if self.session.swap:
            mask = inverted(mask)
        item = Item(frame, mask, number, is_empty(mask))
        weights = self._opened[1]
        if weights is not None:
            if number == 0:
                weights.restart()
            item.counts = weights.take(number)
        return item

    def _find_cut(self, item: Item, detector: CutDetector) -> None:
        with self.scope("thumbnails"):
            item.cut = detector.see(item.frame, self.session.device)

    def _add_thumbnails(self, item: Item) -> None:
        device = self.session.device
        with self.scope("thumbnails"):
            item.thumb = thumbnail(item.frame, self._size, device)
            if not item.empty:
                item.mask_thumb = mask_thumbnail(item.mask, self._size, device)
            if item.counts is not None:
                item.weight = mask_thumbnail(item.counts, self._size, device)

    def _finder(self) -> MaskFinder | None:
        """What makes masks where there are none and the method can."""
        session = self.session
        method = session.method
        if self.masks is not None or method is None or not method.predicts_masks:
            return None
        # On the CPU a batch saves nothing, and its frames are held beside those to be estimated.
        room = max(1, HELD_BYTES // 2 // self.frame_bytes)
        batch = 1 if session.device.type == "cpu" else min(method.batch, room)
        return MaskFinder(method, session.device, session.mask_threshold, batch)

    def _make_estimator(self) -> Estimator:
        session = self.session
        method, room = session.method, batch_room(self.frame_bytes, session.device)
        batch = session.batch or min(method.batch, room)
        streams = method.shot() is not None
        return Estimator(
            self._estimate, method.look_ahead, batch, session.estimate_every,
            (lambda: _Feed(self, method.shot())) if streams else None,
        )  # fmt: skip

    def _estimate(self, items: list[Item]) -> list[Look]:
        """One Look for each item, from the method."""
        return self.asked(items, self.session.method.estimate)

    def asked(self, items: list[Item], estimate: Callable[..., list[Look]]) -> list[Look]:
        """The Looks that a method's `estimate`, or the `push` of its shot, gives for items."""
        for item in items:
            if item.thumb is None:
                self._add_thumbnails(item)
        goal = self._opened[0]
        weight = goal.weight
        if items[0].weight is not None:
            weight = torch.stack([item.weight for item in items])
        masks = torch.stack([item.mask_thumb for item in items])
        if goal.picture is None:
            self._covered += int((masks.amin((1, 2, 3)) > 0.99).sum())
        frames = torch.stack([item.thumb for item in items])
        goals = {"background": goal.picture, "background_weight": weight}
        moved = {name: _moved(tensor, masks) for name, tensor in goals.items()}
        return self.timed(lambda: estimate(frames, masks, **moved))

    def timed(self, estimate: Callable[[], list[Look]]) -> list[Look]:
        """What `estimate` gives, counted as the stage of that name."""
        with self.scope("estimate"):
            return estimate()

    def _lock(self) -> Look | None:
        """The first pass: one Look for the clip, None where no mask is set."""
        with contextlib.ExitStack() as stack:

            def samples(step: int) -> Iterator[Item]:
                for item in self._ahead(stack, self._items(step)):
                    yield item
                    if self.progress is not None:
                        self.progress(item.number + 1, self.total, "estimate")
                    del item

            return self._estimator.lock(samples, self.total)

    def _finished(self, item: Item) -> Frame:
        report, frame = self.report, item.frame
        if item.cut:
            report.cuts.append(item.number)
            self._flicker.cut()
            self._cut_pending = True
        report.empty_masks += item.empty
        if self.matte is not None:
            self._save_matte(item)
        out = frame
        if item.look is not None and not item.empty and self.session.strength > 0:
            out = self._applied(item)
            self._keep(item)
        return out if self.compare is None else join(frame, out, self.compare)

    def _save_matte(self, item: Item) -> None:
        if self.finder is None or not self.finder.used:
            raise ValueError(
                "mask_out: saves the masks a method has found, and the frames carry their own"
            )
        mask = inverted(item.mask) if self.session.swap else item.mask
        with self.scope("encode"):
            self.matte.write(matte_frame(item.frame, mask))

    def _applied(self, item: Item) -> Frame:
        frame = item.frame
        with self.scope("apply"):
            before = self._foreground(item, frame)
            source, target = self._room(frame)
            look, device = self._weakened(item.look), self.session.device
            if target is None:
                out = with_tensors(frame, apply_look(source, item.mask, look, device))
            else:
                apply_look(source, item.mask, look, device, target.tensors())
                out = target
            after = self._foreground(item, out)
            if before is not None:
                self._flicker.update(tuple(map(operator.sub, after, before)))
            return out

    def _room(self, frame: Frame) -> tuple[Frame, Frame | None]:
        """The frame to read, and where the result is to be written if not to new tensors.

        That is memory which is handed to the encoder: the frame's own, where nobody else has it.
        """
        if isinstance(frame, TensorFrame):
            return frame, None
        own = overwritable(frame) if self._overwrites else None
        return (own, own) if own is not None else (frame, blank_like(frame))

    def _foreground(self, item: Item, frame: Frame) -> tuple[float, float, float] | None:
        mask = item.mask
        return foreground_mean(frame.tensors(), mask_tensor(mask), mask.black, frame.color)

    def _weakened(self, look: Look) -> Look:
        """The Look at the Session's strength; the last one is kept, as a clip may have only one."""
        if self.session.strength == 1:
            return look
        if self._scaled is None or self._scaled[0] is not look:
            self._scaled = (look, look.with_strength(look.strength * self.session.strength))
        return self._scaled[1]

    def _keep(self, item: Item) -> None:
        self._looks[item.look.kind] = self._looks.get(item.look.kind, 0) + 1
        if self.track is None:
            return
        try:
            self.track.append(item.look, item.frame.time, cut=self._cut_pending)
            self._cut_pending = False
        except ValueError as error:
            # Time stamps that go back: the clip goes on, the file of Looks lacks one.
            self._warn(f"look_out: the Look of frame {item.number} was not saved: {error}")

    def _warn(self, text: str) -> None:
        if text not in self.report.warnings:
            self.report.warnings.append(text)

    def _conclude(self) -> None:
        report = self.report
        report.flicker = self._flicker.value()
        if self._estimator is not None:
            report.estimated = self._estimator.estimated
        if isinstance(report.look, FilterLook):
            pairs = zip(report.look.filters, report.look.arguments.tolist(), strict=True)
            report.looks = "one Look: " + ", ".join(f"{name} {x:+.3f}" for name, x in pairs)
        elif report.look is not None:
            report.looks = f"one Look ({report.look.kind})"
        else:
            report.looks = ", ".join(f"{n} {kind} Looks" for kind, n in self._looks.items())
        if self.finder is not None and self.finder.used:
            self.finder.tell(report)
        if self._covered:
            self._warn(
                f"the mask covers the whole of {self._covered} frames: there is no background to "
                "match; give a reference picture"
            )
        if report.empty_masks == self.read:
            self._warn("every mask is empty: nothing was changed")


class _Feed:
    """A method's shot, given Items."""

    def __init__(self, run: Run, shot: Shot) -> None:
        self._run, self._shot = run, shot

    def push(self, items: list[Item]) -> list[Look]:
        return self._run.asked(items, self._shot.push)

    def finish(self) -> list[Look]:
        return self._run.timed(self._shot.finish)


def _moved(tensor: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
    return None if tensor is None else tensor.to(like.device)

# SPDX-License-Identifier: Apache-2.0
"""`vharm harmonize`: one clip."""

from __future__ import annotations

from types import SimpleNamespace

from . import _options as o
from ._errors import guarded
from ._job import run_job


@guarded
def harmonize(
    composite: o.Composite = None,
    *,
    output: o.Output,
    mask: o.Mask = None,
    foreground: o.Foreground = None,
    background: o.Background = None,
    premultiplied: o.Premultiplied = False,
    frame_rate: o.FrameRate = None,
    start: o.Start = None,
    end: o.End = None,
    overwrite: o.Overwrite = False,
    mask_grow: o.MaskGrow = 0.0,
    mask_feather: o.MaskFeather = 0.0,
    invert_mask: o.InvertMask = False,
    mask_on_short: o.MaskOnShort = o.OnShort.error,
    mask_out: o.MaskOut = None,
    mask_threshold: o.MaskThreshold = None,
    method: o.Method = None,
    strength: o.Strength = 1.0,
    reference: o.Reference = None,
    reference_mask: o.ReferenceMask = None,
    swap: o.Swap = False,
    weights: o.Weights = None,
    temporal: o.TemporalOption = o.Temporal.smooth,
    time_constant: o.TimeConstant = 0.5,
    estimate_every: o.EstimateEvery = 1,
    look_in: o.LookIn = None,
    look_out: o.LookOut = None,
    cube_out: o.CubeOut = None,
    compare: o.CompareOption = None,
    compare_out: o.CompareOut = None,
    codec: o.Codec = None,
    crf: o.Crf = None,
    preset: o.Preset = None,
    pixel_format: o.PixelFormat = None,
    encoder_option: o.EncoderOption = None,
    no_audio: o.NoAudio = False,
    device: o.Device = "cpu",
    backend: o.Backend = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
    debug: o.Debug = False,
) -> None:
    """Match what was pasted into a clip to its background.

    Sound, time stamps, rotation and colour tags are kept; what lies outside
    the mask is not changed.

    [bold]Examples[/bold]

    A video and its matte:
      vharm harmonize clip.mp4 --mask matte.mp4 -o out.mp4

    A cut-out over a background, one Look for the clip, a wipe to judge it by:
      vharm harmonize --foreground actor.mov --background street.mp4
          -o out.mp4 --temporal lock --compare wipe

    Half the effect; and Looks that are kept, edited and applied again:
      vharm harmonize clip.mp4 -m matte.mp4 -o half.mp4 --strength 0.5
      vharm harmonize clip.mp4 -m matte.mp4 -o out.mp4 --look-out look.json
      vharm harmonize clip.mp4 -m matte.mp4 -o out.mp4 -y --look-in look.json

    Without any mask, found by the method, and looked at:
      vharm harmonize clip.mp4 --method huang -o out.mp4 --mask-out found.mp4

    [bold]No mask?[/bold] If you still have the cut-out, use --foreground and
    --background: its alpha (ProRes 4444, PNG) is the mask. If only the
    finished clip is left, make one with a rotoscoping or matting tool
    (Natron, Blender, Resolve, After Effects, a matting network): white on
    black, of the clip's size and length. --mask-feather softens a hard one.
    """
    run_job(SimpleNamespace(**locals()))

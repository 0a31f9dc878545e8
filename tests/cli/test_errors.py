# SPDX-License-Identifier: Apache-2.0
"""Errors: one line, the right exit code, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from clips import can_be_interrupted

from vharm.cli._errors import code_of, told, translated
from vharm.looks import FilterLook, save_look
from vharm.media import MediaError

from .conftest import composite_pictures, write_clip


def fails(result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("vharm: error:")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in result.output


def test_missing_files(vharm, clip, tmp_path):
    out = tmp_path / "out.mp4"
    fails(vharm("harmonize", tmp_path / "no.mp4", "-m", clip[1], "-o", out), 2, "no.mp4")
    fails(vharm("harmonize", clip[0], "-m", tmp_path / "no.mp4", "-o", out), 2, "no.mp4")
    fails(
        vharm("harmonize", clip[0], "-m", clip[1], "-o", out, "--look-in", "no.json"), 2, "no.json"
    )
    fails(vharm("harmonize", clip[0], "-m", clip[1], "-o", tmp_path / "no/out.mp4"), 2, "folder")
    assert not out.exists()


def test_no_mask_says_where_to_get_one(vharm, clip, tmp_path):
    fails(vharm("harmonize", clip[0], "-o", tmp_path / "out.mp4"), 2, "--mask", "--help")


def test_nothing_given(vharm, tmp_path):
    fails(vharm("harmonize", "-o", tmp_path / "out.mp4"), 2, "COMPOSITE")
    fails(vharm("harmonize", "--foreground", "a.png", "-o", tmp_path / "o.mp4"), 2, "--background")


def test_existing_files_are_kept_unless_asked(vharm, clip, tmp_path):
    out = tmp_path / "out.mp4"
    out.write_bytes(b"precious")
    fails(vharm("harmonize", clip[0], "-m", clip[1], "-o", out), 2, "exists", "-y")
    assert out.read_bytes() == b"precious"
    assert vharm("harmonize", clip[0], "-m", clip[1], "-o", out, "-y").exit_code == 0
    assert out.read_bytes() != b"precious"
    wipe = tmp_path / "out.wipe.mp4"
    wipe.write_bytes(b"too")
    base = ("harmonize", clip[0], "-m", clip[1], "-o", tmp_path / "new.mp4")
    fails(vharm(*base, "--compare", "wipe", "--compare-out", wipe), 2, "--compare-out")
    assert not (tmp_path / "new.mp4").exists()


def test_inputs_are_never_overwritten(vharm, clip, tmp_path):
    before = clip[0].read_bytes()
    fails(vharm("harmonize", clip[0], "-m", clip[1], "-o", clip[0], "-y"), 2, "in use")
    fails(vharm("harmonize", clip[0], "-m", clip[1], "-o", clip[1], "-y"), 2, "in use")
    fails(vharm("harmonize", clip[0], "-m", clip[1], "-o", tmp_path / "o.mp4", "--compare", "wipe",
                "--compare-out", tmp_path / "o.mp4"), 2, "in use")  # fmt: skip
    assert clip[0].read_bytes() == before


def test_options_that_do_not_go_together(vharm, clip, tmp_path):
    out = tmp_path / "out.mp4"
    base = ("harmonize", clip[0], "-m", clip[1], "-o", out)
    look = tmp_path / "x.json"
    look.write_text("{}")
    fails(vharm(*base, "--look-in", look, "--method", "mkl"), 2, "--look-in")
    fails(vharm(*base, "--look-in", look), 2, "x.json")
    good = tmp_path / "good.json"
    save_look(good, FilterLook.identity())
    fails(vharm(*base, "--look-in", good, "--estimate-every", "2"), 2, "--estimate-every")
    fails(vharm(*base, "--compare-out", "w.mp4"), 2, "--compare")
    fails(vharm(*base, "--method", "mkl", "--weights", "w.safetensors"), 2, "--weights")
    fails(vharm(*base, "--cube-out", "look.json"), 2, ".cube")
    fails(vharm(*base, "--encoder-option", "film"), 2, "NAME=VALUE")
    fails(vharm(*base, "--method", "mkll"), 2, "'mkl'")
    fails(vharm(*base, "--backend", "fast"), 2, "--backend")
    fails(vharm(*base, "--codec", "nonesuch"), 2, "nonesuch")
    assert not out.exists()


def test_typer_refuses_what_it_can(vharm, clip, tmp_path):
    base = ("harmonize", clip[0], "-m", clip[1], "-o", tmp_path / "out.mp4")
    for wrong in (
        ("--strength", "2"), ("--temporal", "sometimes"), ("--start", "soon"),
        ("--estimate-every", "0"), ("--estimate-every", "-2"), ("--estimate-every", "2.5"),
    ):  # fmt: skip
        result = vharm(*base, *wrong)
        assert result.exit_code == 2
        assert wrong[0] in result.output
    assert vharm("harmonise").exit_code == 2


def test_a_short_mask(vharm, clip, tmp_path):
    short = write_clip(tmp_path / "short.mp4", composite_pictures(3)[1])
    out = tmp_path / "out.mp4"
    result = vharm("harmonize", clip[0], "-m", short, "-o", out)
    fails(result, 2, "3 frames", "--mask-on-short loop")
    assert not out.exists()
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []
    assert (
        vharm("harmonize", clip[0], "-m", short, "-o", out, "--mask-on-short", "hold").exit_code
        == 0
    )


def test_a_picture_that_is_no_video(vharm, clip, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no video" * 100)
    fails(vharm("harmonize", broken, "-m", clip[1], "-o", tmp_path / "out.mp4"), 2, "broken.mp4")


def test_debug_shows_where(vharm, clip, tmp_path):
    result = vharm("harmonize", clip[0], "-o", tmp_path / "out.mp4", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.output
    assert "vharm: error:" in result.stderr


def test_codes_and_words():
    assert code_of(KeyboardInterrupt()) == 130
    assert code_of(ValueError("x")) == 2
    assert code_of(RuntimeError("x")) == 1
    assert code_of(OSError(28, "No space left")) == 1
    assert code_of(MediaError("x", frames=0)) == 2
    assert code_of(MediaError("x", frames=7)) == 1
    assert translated('mask: give on_short="loop"') == "--mask: give --mask-on-short loop"
    assert translated("whatever: a=b") == "whatever: a=b"
    assert told(FileNotFoundError(2, "No such file", "a.mp4")) == "No such file: a.mp4"
    assert "--debug" in told(KeyError("x"))


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_interrupt_leaves_nothing_half_written(tmp_path):
    pictures, masks = composite_pictures(2)
    clip = write_clip(tmp_path / "c.mp4", pictures * 400)
    mask = write_clip(tmp_path / "m.mp4", masks * 400)
    out = tmp_path / "out.mp4"
    command = [sys.executable, "-m", "vharm", "harmonize", str(clip), "-m", str(mask), "-o",
               str(out), "--temporal", "per-frame", "--preset", "veryslow"]  # fmt: skip
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=can_be_interrupted
    )
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".*partial*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    # A shell reports 130 for both: Python ends by the signal itself where Ctrl-C met an `exec` of
    # some library's import, although the interrupt was handled.
    assert process.returncode in (130, -signal.SIGINT), errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert not out.exists()
    assert not list(tmp_path.glob(".*partial*"))

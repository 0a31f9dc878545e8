# SPDX-License-Identifier: Apache-2.0
"""A whole clip, decode and encode included, beside the same decode and encode with nothing between.

pytest benchmarks/test_clip.py -s
"""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from common import Subject, compare, publish

from vharm.bench import make_clip

av = pytest.importorskip("av")
pytest.importorskip("cv2")

ENCODE = {"preset": "veryfast", "crf": "23"}
COVERAGE = 0.2


def nothing_between(clip: Path, out: Path) -> int:
    """Decode and encode by PyAV alone."""
    count = 0
    with av.open(str(clip)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        encoder = target.add_stream(
            "libx264", rate=Fraction(stream.average_rate), options=dict(ENCODE)
        )
        encoder.width, encoder.height, encoder.pix_fmt = stream.width, stream.height, "yuv420p"
        for frame in source.decode(stream):
            frame.pict_type = 0
            target.mux(encoder.encode(frame))
            count += 1
        target.mux(encoder.encode(None))
    return count


def harmonized(clip: Path, mask: Path, out: Path, look) -> int:
    from vharm.media import open_mask, open_reader, open_writer
    from vharm.session import Session

    with open_reader(clip) as reader:
        masks = open_mask(mask, width=reader.width, height=reader.height)
        with open_writer(out, reader, crf=23, preset="veryfast") as writer:
            return Session(look).run(reader, masks, writer).frames


def looks():
    from vharm.looks import FilterLook

    look = FilterLook(torch.tensor([0.1, -0.1, 0.1, 0.2, 0.1, -0.1]), torch.full((6, 3), 0.4))
    return look, look.to_lut()


@pytest.mark.benchmark
def test_a_given_look_end_to_end(device, quick, tmp_path):
    size, frames = ((180, 320), 12) if quick else ((1080, 1920), 100)
    still, out = tmp_path / "mask.png", tmp_path / "out.mp4"
    clip, mask = make_clip(tmp_path, size[1], size[0], frames, coverage=COVERAGE)
    with av.open(str(mask)) as source:
        next(source.decode(video=0)).to_image().convert("L").save(still)
    filters, lut = looks()

    def whole(count: int) -> None:
        assert count == frames

    subjects = [
        Subject("decode + encode, nothing between", lambda: nothing_between(clip, out), whole),
        Subject("FilterLook, mask video", lambda: harmonized(clip, mask, out, filters), whole),
        Subject("LutLook, mask video", lambda: harmonized(clip, mask, out, lut), whole),
        Subject("FilterLook, mask picture", lambda: harmonized(clip, still, out, filters), whole),
    ]
    table = compare(
        f"{frames} frames of {size[1]}x{size[0]} H.264 in and out (x264 veryfast, crf 23)",
        subjects, rounds=1 if quick else 5, device=device,
    )  # fmt: skip
    for row in table.rows:
        table.notes[row.name] = (
            f"{frames / row.median_ms * 1e3:.1f} fps, {100 / row.ratio:.0f} % of nothing between"
        )
    publish("clip", [table], device, keep=not quick)
    if not quick:
        assert table.ratio("FilterLook, mask picture") <= 1 / 0.8
        assert table.ratio("FilterLook, mask video") <= 1 / 0.8
        assert table.ratio("LutLook, mask video") <= 1 / 0.8


MEMORY = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from test_clip import harmonized, looks
from vharm.bench import peak_memory
harmonized(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), looks()[0])
print(peak_memory())
"""


@pytest.mark.benchmark
def test_memory_does_not_grow_with_the_clip(quick, tmp_path):
    size, lengths = ((180, 320), (20, 60)) if quick else ((1080, 1920), (100, 1000))
    peaks = []
    for frames in lengths:
        out = tmp_path / "out.mp4"
        clip, mask = make_clip(tmp_path, size[1], size[0], frames, coverage=COVERAGE)
        code = MEMORY.format(folder=str(Path(__file__).parent))
        result = subprocess.run(
            [sys.executable, "-c", code, str(clip), str(mask), str(out)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(int(result.stdout) / 2**20)
        clip.unlink(), mask.unlink(), out.unlink()
    text = ", ".join(f"{n} frames: {p:.0f} MiB" for n, p in zip(lengths, peaks, strict=True))
    print(f"\npeak memory of the process at {size[1]}x{size[0]}: {text}")
    assert peaks[1] <= peaks[0] * 1.1 + 20

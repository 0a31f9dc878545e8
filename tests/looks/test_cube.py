# SPDX-License-Identifier: Apache-2.0
"""`.cube` files: round trip, foreign dialects, errors, and ffmpeg as outside judge."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from vharm.looks import CubeError, LutLook, read_cube, write_cube
from vharm.looks.lut_look import identity_grid

torch.manual_seed(0)


def test_red_runs_fastest(tmp_path):
    write_cube(tmp_path / "a.cube", identity_grid(3), "grey")
    rows = [line for line in (tmp_path / "a.cube").read_text().splitlines() if line[0].isdigit()]
    assert [float(v) for v in rows[1].split()] == [0.5, 0, 0]
    assert [float(v) for v in rows[3].split()] == [0, 0.5, 0]
    assert [float(v) for v in rows[9].split()] == [0, 0, 0.5]


def test_round_trip(tmp_path):
    grid = torch.rand(7, 7, 7, 3) * 1.4 - 0.2
    write_cube(tmp_path / "a.cube", grid, "a title", (-1, 0, 0.5), (1, 2, 3))
    back, low, high, title = read_cube(tmp_path / "a.cube")
    torch.testing.assert_close(back, grid, atol=1e-7, rtol=0)
    assert (low, high, title) == ((-1, 0, 0.5), (1, 2, 3), "a title")


def test_lut_look_writes_its_strength(tmp_path):
    given = LutLook(identity_grid(5) ** 2, "sq", strength=0.5)
    given.save_cube(tmp_path / "a.cube")
    back = LutLook.from_cube(tmp_path / "a.cube")
    assert back.title == "sq"
    expected = (identity_grid(5) + identity_grid(5) ** 2) / 2
    torch.testing.assert_close(back.grid, expected, atol=1e-6, rtol=0)


ROWS = "\n".join(" ".join(f"{v:g}" for v in row) for row in
                 identity_grid(2).permute(2, 1, 0, 3).reshape(-1, 3).tolist())  # fmt: skip


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        (f"# note\n\nLUT_3D_SIZE 2\n# more\n{ROWS}\n", (0, 0, 0), (1, 1, 1)),
        (f"\ufeffTITLE x\r\nLUT_3D_SIZE 2\r\n{ROWS}", (0, 0, 0), (1, 1, 1)),
        (f"LUT_3D_SIZE 2\nLUT_3D_INPUT_RANGE 0.0 2.0\n{ROWS}\n# end\n", (0, 0, 0), (2, 2, 2)),
        (f"DOMAIN_MAX 2 3 4\nLUT_3D_SIZE 2\n{ROWS}", (0, 0, 0), (2, 3, 4)),
        (f"LUT_IN_VIDEO_RANGE\nLUT_3D_SIZE\t2\n{ROWS}", (0, 0, 0), (1, 1, 1)),
        (f"LUT_3D_SIZE 2\n{ROWS.replace('1', '1e0')}", (0, 0, 0), (1, 1, 1)),
    ],
)
def test_dialects(tmp_path, text, low, high):
    path = tmp_path / "a.cube"
    path.write_bytes(text.encode())
    grid, domain_min, domain_max, _ = read_cube(path)
    assert torch.equal(grid, identity_grid(2))
    assert (domain_min, domain_max) == (low, high)


def test_one_dimensional_tables_are_expanded(tmp_path):
    path = tmp_path / "a.cube"
    curve = [(0.0, 0.0, 1.0), (0.2, 0.5, 0.5), (1.0, 1.0, 0.0)]
    path.write_text("LUT_1D_SIZE 3\n" + "\n".join(f"{r} {g} {b}" for r, g, b in curve))
    given = LutLook.from_cube(path)
    out = given.apply(torch.tensor([0.25, 0.75, 0.25]).reshape(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(out, torch.tensor([0.1, 0.75, 0.75]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no LUT_3D_SIZE"),
        ("<html>\n", "line 1: .*three finite numbers|line 1"),
        ("0 0 0\n", "line 1: the table begins before LUT_3D_SIZE"),
        ("LUT_3D_SIZE two\n", "line 1: LUT_3D_SIZE must be a whole number"),
        ("LUT_3D_SIZE 9999\n", r"line 1: .*2\.\.256"),
        ("LUT_3D_SIZE 2\nLUT_1D_SIZE 2\n", "line 2: a second size"),
        ("LUT_3D_SIZE 2\n0 0\n", "line 2: a row must be 3 finite numbers, got '0 0'"),
        ("LUT_3D_SIZE 2\n0 0 x\n", "line 2: a row"),
        ("LUT_3D_SIZE 2\n0 nan 0\n", "line 2: a row"),
        ("LUT_3D_SIZE 2\nnan 0 0\n", "line 2: a row"),
        (f"LUT_3D_SIZE 2\n{ROWS}\n0 0 0\n", "line 10: more than the 8 rows"),
        ("LUT_3D_SIZE 2\n0 0 0\n", "1 rows, but LUT_3D_SIZE 2 needs 8"),
        (f"LUT_3D_SIZE 2\nDOMAIN_MIN 0 0\n{ROWS}", "line 2: DOMAIN_MIN must be 3"),
        (f"LUT_3D_SIZE 2\nDOMAIN_MIN 1 1 1\n{ROWS}", "must lie below"),
        ("LUT_3D_SIZE 2\n0 0 0\nTITLE late\n", "line 3: the keyword TITLE"),
        ("LUT_3D_SIZE 2\nhello there\n", "line 2: expected a keyword"),
    ],
)
def test_errors_name_the_file_and_the_line(tmp_path, text, message):
    path = tmp_path / "broken.cube"
    path.write_text(text)
    with pytest.raises(CubeError, match=message) as caught:
        read_cube(path)
    assert "broken.cube" in str(caught.value)


def test_writing_refuses_by_name(tmp_path):
    path = tmp_path / "a.cube"
    with pytest.raises(ValueError, match=r"grid must have shape .* got \[2, 2, 3\]"):
        write_cube(path, torch.zeros(2, 2, 3))
    with pytest.raises(ValueError, match="finite"):
        write_cube(path, torch.full((2, 2, 2, 3), torch.nan))
    with pytest.raises(ValueError, match="title"):
        write_cube(path, identity_grid(2), 'say "cheese"')
    with pytest.raises(TypeError, match=r"grid must be a torch[.]Tensor"):
        write_cube(path, [[0]])
    assert not list(tmp_path.iterdir())


def through_ffmpeg(path, frame: np.ndarray) -> np.ndarray:
    """The picture after ffmpeg's own lut3d filter, rgb24."""
    av = pytest.importorskip("av")
    graph = av.filter.Graph()
    graph.threads = 1
    height, width, _ = frame.shape
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base="1/25")
    filters = [
        source,
        graph.add("lut3d", f"file={path.name}:interp=tetrahedral"),
        graph.add("buffersink"),
    ]
    for first, second in itertools.pairwise(filters):
        first.link_to(second)
    graph.configure()
    picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
    picture.pts = 0
    graph.push(picture)
    return graph.pull().to_ndarray(format="rgb24")


@pytest.mark.parametrize("size", [2, 17, 33])
def test_ffmpeg_reads_the_same_table(tmp_path, monkeypatch, size):
    pytest.importorskip("av")
    nodes = identity_grid(size)
    smooth = nodes**1.3 * 0.9 + 0.1 * nodes.flip(-1)
    given = LutLook(smooth if size > 2 else torch.rand(2, 2, 2, 3))
    given.save_cube(tmp_path / "look.cube")
    monkeypatch.chdir(tmp_path)  # the filter's argument needs no escaping then
    frame = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    theirs = through_ffmpeg(tmp_path / "look.cube", frame)
    ours = given.apply(torch.from_numpy(frame)[None], layout="NHWC")[0].numpy()
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert difference.max() <= 1
    # Negative control: a table with red and blue exchanged is another one.
    swapped = LutLook(given.grid.transpose(0, 2)).apply(
        torch.from_numpy(frame)[None], layout="NHWC"
    )[0].numpy()  # fmt: skip
    assert np.abs(swapped.astype(int) - theirs.astype(int)).max() > 1

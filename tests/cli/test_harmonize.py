# SPDX-License-Identifier: Apache-2.0
"""`vharm harmonize` on tiny clips."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from vharm.looks import FilterLook, LookTrack, load_look, save_look
from vharm.media import open_reader


def frames_of(path) -> list:
    with open_reader(path) as reader:
        return [frame.tensors() for frame in reader]


def luma(path) -> np.ndarray:
    return np.stack([planes[0].numpy() for planes in frames_of(path)]).astype(int)


def test_writes_the_output_and_a_summary(vharm, clip, tmp_path):
    out = tmp_path / "out.mp4"
    result = vharm("harmonize", clip[0], "--mask", clip[1], "-o", out)
    assert result.exit_code == 0, result.output
    assert "method harmonizer (the default" in result.stderr
    assert "6 frames" in result.stdout
    assert "flicker" in result.stdout
    assert str(out) in result.stdout
    before, after = luma(clip[0]), luma(out)
    assert before.shape == after.shape
    assert np.abs(before[:, 14:34, 22:32] - after[:, 14:34, 22:32]).mean() > 2
    # Far from the square nothing but the encoder's noise.
    assert np.abs(before[:, :8] - after[:, :8]).mean() < 1.5


def test_quiet_prints_nothing(vharm, clip, tmp_path):
    result = vharm("harmonize", clip[0], "-m", clip[1], "-o", tmp_path / "out.mp4", "-q")
    assert result.exit_code == 0
    assert result.output == ""


def test_json_is_the_whole_of_stdout(vharm, clip, tmp_path):
    out = tmp_path / "out.mp4"
    result = vharm("harmonize", clip[0], "-m", clip[1], "-o", out, "--json", "--temporal", "lock")
    report = json.loads(result.stdout)
    assert report["frames"] == 6
    assert report["method"] == "harmonizer"
    assert report["temporal"] == "lock"
    assert report["files"] == {"output": str(out)}
    assert report["fps"] > 0
    assert report["warnings"] == []


def test_estimating_fewer_frames(vharm, clip, tmp_path):
    look = tmp_path / "look.json"
    options = ("-m", clip[1], "--look-out", look, "--temporal", "per-frame", "-y",
               "--estimate-every", "3")  # fmt: skip
    result = vharm("harmonize", clip[0], *options, "-o", tmp_path / "out.mp4")
    assert result.exit_code == 0, result.output
    assert "each frame by itself, estimated every 3 frames" in result.stderr
    assert "estimated on 2 of 6 frames" in result.stdout
    values = [track.arguments for track in load_look(look)]
    np.testing.assert_allclose(values[1], (2 * values[0] + values[3]) / 3, atol=2e-6)
    np.testing.assert_array_equal(values[5], values[3])
    assert (values[0] != values[3]).any()
    result = vharm("harmonize", clip[0], *options, "-o", tmp_path / "out.mp4", "--json")
    assert json.loads(result.stdout)["estimated"] == 2


def test_strength_zero_changes_nothing(vharm, clip, tmp_path):
    out = tmp_path / "out.mkv"
    result = vharm("harmonize", clip[0], "-m", clip[1], "-o", out, "--strength", "0",
                   "--codec", "ffv1")  # fmt: skip
    assert result.exit_code == 0, result.output
    for before, after in zip(frames_of(clip[0]), frames_of(out), strict=True):
        assert all((a == b).all() for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("temporal", ["smooth", "lock"])
def test_looks_go_out_and_in_again(vharm, clip, tmp_path, temporal):
    first, second, look = tmp_path / "a.mkv", tmp_path / "b.mkv", tmp_path / "look.json"
    common = ("-m", clip[1], "--codec", "ffv1")
    result = vharm("harmonize", clip[0], *common, "-o", first, "--look-out", look,
                   "--temporal", temporal)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert isinstance(load_look(look), LookTrack) == (temporal == "smooth")
    result = vharm("harmonize", clip[0], *common, "-o", second, "--look-in", look)
    assert result.exit_code == 0, result.output
    assert str(look) in result.stderr
    difference = luma(first) - luma(second)
    # A track's LUTs are stored with 16 bits.
    assert np.abs(difference).max() <= (1 if temporal == "smooth" else 0)
    assert np.abs(luma(first) - luma(clip[0])).max() > 5


def test_a_look_edited_by_hand_is_applied(vharm, clip, tmp_path):
    look = tmp_path / "look.json"
    save_look(look, FilterLook.identity(("brightness",)))
    text = re.sub(r'("brightness": )[-0-9.]+', r"\g<1>-0.5", look.read_text())
    look.write_text(text)
    out = tmp_path / "out.mp4"
    result = vharm("harmonize", clip[0], "-m", clip[1], "-o", out, "--look-in", look)
    assert result.exit_code == 0, result.output
    assert luma(out)[:, 14:34, 22:32].mean() < luma(clip[0])[:, 14:34, 22:32].mean() - 10


@pytest.mark.parametrize("temporal", ["per-frame", "lock"])
def test_cube_out_prints_the_ffmpeg_line(vharm, clip, tmp_path, temporal):
    cube = tmp_path / "my look.cube"
    result = vharm("harmonize", clip[0], "-m", clip[1], "-o", tmp_path / "out.mp4",
                   "--cube-out", cube, "--temporal", temporal)  # fmt: skip
    assert result.exit_code == 0, result.output
    look = load_look(cube)
    assert look.size == 33
    line = next(x for x in result.stdout.splitlines() if x.strip().startswith("ffmpeg -i"))
    words = shlex.split(line)
    value = words[words.index("-vf") + 1]
    assert value.startswith("lut3d=file=")
    assert value.endswith(":interp=tetrahedral")
    assert ("mean of 6 Looks" in result.stdout) == (temporal == "per-frame")


def test_the_ffmpeg_line_runs(vharm, clip, tmp_path):
    """What is printed is a filter FFmpeg takes, with awkward characters in the name."""
    import av

    cube = tmp_path / "it's, [1];a.cube"
    vharm("harmonize", clip[0], "-m", clip[1], "-o", tmp_path / "out.mp4", "--cube-out", cube,
          "--temporal", "lock")  # fmt: skip
    from vharm.cli._cube import ffmpeg_line

    words = shlex.split(ffmpeg_line(str(cube), str(clip[0])))
    description = words[words.index("-vf") + 1]
    name, _, arguments = description.partition("=")
    graph = av.filter.Graph()
    # The graph parser removes one level of quoting before the filter sees its arguments.
    source = graph.add("buffer", "video_size=64x48:pix_fmt=rgb24:time_base=1/25")
    lut = graph.add(name, re.sub(r"\\([\\'\[\],;])", r"\1", arguments))
    source.link_to(lut)
    lut.link_to(graph.add("buffersink"))
    graph.configure()


def test_the_cube_has_the_strength_in_it(vharm, clip, tmp_path):
    cubes = []
    for strength in ("1", "0.25"):
        cubes.append(tmp_path / f"{strength}.cube")
        vharm("harmonize", clip[0], "-m", clip[1], "-o", tmp_path / "out.mp4", "-y",
              "--cube-out", cubes[-1], "--strength", strength)  # fmt: skip
    full, weak = (load_look(cube) for cube in cubes)
    identity = type(full).identity(33).grid
    change = (full.grid - identity).abs().mean()
    assert change > 0.01
    assert float((weak.grid - identity).abs().mean() / change) == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize(("kind", "width"), [("wipe", 64), ("side-by-side", 128)])
@pytest.mark.parametrize("temporal", ["smooth", "lock"])
def test_compare_writes_a_second_file(vharm, clip, tmp_path, kind, width, temporal):
    out = tmp_path / "out.mp4"
    result = vharm("harmonize", clip[0], "-m", clip[1], "-o", out, "--compare", kind,
                   "--temporal", temporal, "--crf", "2")  # fmt: skip
    assert result.exit_code == 0, result.output
    compared, plain, source = luma(tmp_path / f"out.{kind}.mp4"), luma(out), luma(clip[0])
    assert compared.shape == (6, 48, width)
    assert plain.shape == source.shape
    # Left of the middle the composite, at the right end the result.
    assert np.abs(compared[:, :, :8] - source[:, :, :8]).mean() < 1
    assert np.abs(compared[:, :, -8:] - plain[:, :, -8:]).mean() < 1
    if kind == "side-by-side":
        assert np.abs(compared[:, :, :64] - source).mean() < 1
        assert np.abs(compared[:, :, 64:] - plain).mean() < 1


def test_foreground_over_background(vharm, clip, tmp_path):
    from .conftest import composite_pictures

    pictures, masks = composite_pictures(1)
    cut_out = tmp_path / "cut.png"
    Image.fromarray(np.dstack([pictures[0], masks[0]])).save(cut_out)
    out = tmp_path / "out.mp4"
    result = vharm("harmonize", "--foreground", cut_out, "--background", clip[0], "-o", out,
                   "--cube-out", tmp_path / "x.cube")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert luma(out).shape == (6, 48, 64)
    assert f"ffmpeg -i {cut_out}" in result.stdout


def test_one_picture(vharm, tmp_path):
    from .conftest import composite_pictures

    pictures, masks = composite_pictures(1)
    paths = tmp_path / "a.png", tmp_path / "m.png", tmp_path / "out.png"
    Image.fromarray(pictures[0]).save(paths[0])
    Image.fromarray(masks[0]).save(paths[1])
    result = vharm("harmonize", paths[0], "-m", paths[1], "-o", paths[2])
    assert result.exit_code == 0, result.output
    assert "1 frame in" in result.stdout
    after = np.asarray(Image.open(paths[2]))
    assert (after[masks[0] == 0] == pictures[0][masks[0] == 0]).all()
    assert (after != pictures[0]).any()


def test_start_and_end_cut_clip_and_mask(vharm, clip, tmp_path):
    out = tmp_path / "out.mp4"
    result = vharm("harmonize", clip[0], "-m", clip[1], "-o", out, "--start", "0:00:00.08",
                   "--end", "0.16")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert len(luma(out)) == 2


def test_encoding_options_reach_the_encoder(vharm, clip, tmp_path):
    import av

    out = tmp_path / "out.mkv"
    result = vharm("harmonize", clip[0], "-m", clip[1], "-o", out, "--codec", "ffv1",
                   "--pixel-format", "yuv444p", "--encoder-option", "level=3")  # fmt: skip
    assert result.exit_code == 0, result.output
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.name == "ffv1"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv444p"


def test_swap_and_invert_are_two_ways_to_the_same(vharm, clip, tmp_path):
    outs = []
    for flag in ("--swap", "--invert-mask"):
        outs.append(tmp_path / f"{flag}.mkv")
        result = vharm("harmonize", clip[0], "-m", clip[1], "-o", outs[-1], flag, "--codec", "ffv1")
        assert result.exit_code == 0, result.output
    assert (luma(outs[0]) == luma(outs[1])).all()
    assert np.abs(luma(outs[0]) - luma(clip[0]))[:, :8].mean() > 1


def test_sound_is_kept_unless_refused(vharm, clip, tmp_path):
    from vharm.cli.demo_files import melody, write_video

    from .conftest import composite_pictures

    sounding = tmp_path / "sounding.mp4"
    write_video(sounding, composite_pictures()[0], 25, crf=6, sound=melody(0.24, 0.12))
    for flags, kept in (((), True), (("--no-audio",), False)):
        out = tmp_path / f"{kept}.mp4"
        result = vharm("harmonize", sounding, "-m", clip[1], "-o", out, *flags)
        assert result.exit_code == 0, result.output
        with open_reader(out) as reader:
            assert reader.has_audio == kept


def test_a_folder_of_pictures(vharm, tmp_path):
    from .conftest import composite_pictures

    folders = [tmp_path / name for name in ("frames", "masks", "out")]
    for folder, pictures in zip(folders, composite_pictures(3), strict=False):
        folder.mkdir()
        for index, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / f"{index:03}.png")
    result = vharm("harmonize", folders[0], "-m", folders[1], "-o", f"{folders[2]}/",
                   "--compare", "wipe")  # fmt: skip
    assert result.exit_code == 0, result.output
    names = [f"{index:03}.png" for index in range(3)]
    assert sorted(path.name for path in folders[2].iterdir()) == names
    assert sorted(path.name for path in (tmp_path / "out.wipe").iterdir()) == names

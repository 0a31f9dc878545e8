# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from vharm.media import ColorSpec, Frame, MediaError, open_reader, open_writer, read_image

av = pytest.importorskip("av")


def rgb_frames(dtype, count=3, alpha=False, width=33, height=17):
    rng = np.random.default_rng(7)
    depth = {np.uint8: 8, np.uint16: 16, np.float32: 32}[dtype]
    for index in range(count):
        values = rng.random((height, width, 4))
        values = values * 3 if depth == 32 else values * ((1 << depth) - 1)
        values = values.astype(dtype)
        matte = values[..., 3] / 3 if depth == 32 else values[..., 3]
        yield Frame(
            (values[..., :3],), ColorSpec("rgb", depth), index, alpha=matte if alpha else None
        )


def write(path, frames, like=None, **settings):
    frames = list(frames)
    with open_writer(path, like, **settings) as writer:
        for frame in frames:
            writer.write(frame)
    return frames, writer


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [(np.uint8, "png"), (np.uint16, "png"), (np.uint8, "tiff"), (np.uint16, "tiff"),
     (np.float32, "exr"), (np.uint8, "bmp")],
)  # fmt: skip
def test_round_trip_is_exact(tmp_path, dtype, suffix, alpha):
    frames, writer = write(tmp_path / f"shot_%04d.{suffix}", rgb_frames(dtype, alpha=alpha))
    assert writer.warnings == []
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"shot_000{i}.{suffix}" for i in range(3)]
    reader = open_reader(tmp_path / f"shot_%04d.{suffix}", frame_rate=24)
    assert (reader.frame_count, reader.frame_count_exact, reader.has_alpha) == (3, True, alpha)
    for _ in range(2):
        back = list(reader)
        for ours, theirs in zip(back, frames, strict=True):
            assert ours.planes[0].dtype == dtype
            assert np.array_equal(ours.planes[0], theirs.planes[0])
            if alpha:
                assert np.array_equal(ours.alpha, theirs.alpha.astype(dtype))
    assert [frame.time for frame in back] == [0, 1 / 24, 2 / 24]


def test_exr_is_linear_and_passes_one(tmp_path):
    write(tmp_path / "a.exr", rgb_frames(np.float32, 1))
    frame = read_image(tmp_path / "a.exr")
    assert frame.planes[0].max() > 1
    assert frame.color.transfer == "linear"
    with pytest.raises(ValueError, match="EXR takes float32"):
        write(tmp_path / "b.exr", rgb_frames(np.uint8, 1))
    with pytest.raises(ValueError, match="takes uint8 or uint16"):
        write(tmp_path / "b.png", rgb_frames(np.float32, 1))


def test_sixteen_bit_png_agrees_with_opencv(tmp_path):
    cv2 = pytest.importorskip("cv2")
    frames, _ = write(tmp_path / "a.png", rgb_frames(np.uint16, 1))
    other = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(other[..., ::-1], frames[0].planes[0])


@pytest.mark.parametrize(("dtype", "depth"), [(np.uint8, 8), (np.uint16, 16)])
def test_grey_stays_grey(tmp_path, dtype, depth):
    plane = (np.arange(33 * 17).reshape(17, 33) * (1 if depth == 8 else 117)).astype(dtype)
    write(tmp_path / "g.png", [Frame((plane,), ColorSpec("gray", depth))])
    frame = read_image(tmp_path / "g.png")
    assert (frame.color.layout, frame.color.depth, frame.color.full_range) == ("gray", depth, True)
    assert np.array_equal(frame.planes[0], plane)


def test_jpeg_is_rgb_and_close(tmp_path):
    y, x = np.mgrid[0:48, 0:64]
    rgb = np.stack([x * 4, y * 5, 255 - x * 2], -1).astype(np.uint8)
    write(tmp_path / "a.jpg", [Frame((rgb,), ColorSpec("rgb"))])
    frame = read_image(tmp_path / "a.jpg")
    assert frame.color.layout == "rgb"
    assert np.abs(frame.planes[0].astype(int) - rgb).max() < 12
    assert np.abs(frame.planes[0].astype(int) - rgb).mean() < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    image = pytest.importorskip("PIL.Image")
    ops = pytest.importorskip("PIL.ImageOps")
    rgb = np.zeros((32, 48, 3), np.uint8)
    rgb[:16, :16] = 250
    rgb[16:, 32:, 0] = 200
    picture = image.fromarray(rgb)
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    upright = np.asarray(ops.exif_transpose(image.open(tmp_path / "a.jpg")))
    frame = read_image(tmp_path / "a.jpg")
    assert frame.planes[0].shape == upright.shape
    assert np.abs(frame.planes[0].astype(int) - upright).mean() < 3


def test_folder_sorts_numbers_and_keeps_names(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for number in (9, 10, 100):
        value = np.full((8, 8, 3), number, np.uint8)
        write(source / f"f{number}.png", [Frame((value,), ColorSpec("rgb"))])
    (source / "notes.txt").write_text("no picture")
    with open_reader(source) as reader:
        assert [int(f.planes[0][0, 0, 0]) for f in reader] == [9, 10, 100]
        write(f"{tmp_path}/out/", list(reader), reader)
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["f10.png", "f100.png", "f9.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]
    assert len(list(open_reader(str(source / "f1*.png")))) == 2
    some = open_reader([source / "f9.png", source / "f10.png"])
    for like in (reader, some):
        with pytest.raises(ValueError, match="is an input"):
            write(source, list(like), like)
    assert len(list(source.iterdir())) == 4
    paths = [source / "f100.png", source / "f9.png"]
    assert [int(f.planes[0][0, 0, 0]) for f in open_reader(paths)] == [100, 9]
    with pytest.raises(ValueError, match="has a gap after number 10"):
        open_reader(source / "f%d.png")
    write(source / "x.tif", [Frame((value,), ColorSpec("rgb"))])
    with pytest.raises(ValueError, match=r"mixes \.png, \.tif"):
        open_reader(source)


def test_mixed_depths_and_sizes(tmp_path):
    write(tmp_path / "a1.png", rgb_frames(np.uint16, 1))
    write(tmp_path / "a2.png", rgb_frames(np.uint8, 1))
    write(tmp_path / "a3.png", rgb_frames(np.uint16, 1, width=8))
    _, second = open_reader([tmp_path / "a1.png", tmp_path / "a2.png"])
    assert second.planes[0].dtype == np.uint16
    eight = read_image(tmp_path / "a2.png").planes[0]
    assert np.array_equal(second.planes[0], eight.astype(np.uint16) * 257)
    with pytest.raises(MediaError, match=r"a1\.png: is rgb, 16 bit"):
        list(open_reader([tmp_path / "a2.png", tmp_path / "a1.png"]))
    with pytest.raises(MediaError, match=r"a3\.png: is 8x17, the first .* 33x17"):
        list(open_reader([tmp_path / "a1.png", tmp_path / "a3.png"]))
    (tmp_path / "a4.png").write_bytes((tmp_path / "a1.png").read_bytes()[:300])
    with pytest.raises(MediaError, match=r"a4\.png"):
        list(open_reader([tmp_path / "a1.png", tmp_path / "a4.png"]))


def test_palette_png(tmp_path):
    image = pytest.importorskip("PIL.Image")
    picture = image.fromarray(np.array([[0, 1], [1, 2]], np.uint8))
    picture = picture.convert("P")
    picture.putpalette([0, 0, 0, 10, 20, 30, 200, 100, 50])
    picture.save(tmp_path / "p.png")
    frame = read_image(tmp_path / "p.png")
    assert frame.alpha is None
    assert frame.planes[0].tolist() == [[[0, 0, 0], [10, 20, 30]], [[10, 20, 30], [200, 100, 50]]]


def test_one_picture_for_one_frame(tmp_path):
    with pytest.raises(ValueError, match="is one picture; for more frames give a folder"):
        write(tmp_path / "a.png", rgb_frames(np.uint8, 2))
    assert list(tmp_path.iterdir()) == []
    reader = open_reader(tmp_path / write(tmp_path / "a.png", rgb_frames(np.uint8, 1))[1].path)
    assert reader.still
    with pytest.raises(ValueError, match="is an input"):
        open_writer(tmp_path / "a.png", reader)
    with pytest.raises(FileExistsError):
        write(tmp_path / "a.png", rgb_frames(np.uint8, 1), overwrite=False)
    with pytest.raises(ValueError, match="png does not accept crf"):
        write(tmp_path / "b.png", rgb_frames(np.uint8, 1), options={"crf": 3})


def test_interrupted_sequence_leaves_nothing(tmp_path):
    writer = open_writer(f"{tmp_path}/out/")
    for frame in rgb_frames(np.uint8, 2):
        writer.write(frame)
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_video_to_pictures(make_clip, tmp_path):
    reader = open_reader(make_clip())
    write(tmp_path / "f_%03d.png", list(reader), reader)
    back = open_reader(tmp_path / "f_%03d.png")
    assert back.color.layout == "rgb"
    assert back.frame_count == 12
    grey = next(iter(back)).planes[0].astype(float) @ [0.299, 0.587, 0.114]
    luma = (next(iter(open_reader(make_clip()))).planes[0] - 16.0) / 219 * 255
    inside = (grey > 60) & (grey < 190)
    assert np.abs(grey - luma)[inside].mean() < 3


def test_percent_in_a_name(tmp_path):
    write(tmp_path / "a.png", rgb_frames(np.uint8, 1))
    (tmp_path / "a.png").rename(tmp_path / "50%d.png")
    assert read_image(tmp_path / "50%d.png").width == 33
    assert open_reader(tmp_path / "50%d.png").frame_count == 1

# SPDX-License-Identifier: Apache-2.0
"""Recipes of iS2AM, Chen et al. and SPyNet: their data, their losses, a few steps."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from vharm import training
from vharm.data import seeding
from vharm.data.augment import Cached
from vharm.data.dancing_batches import DancingBatches
from vharm.data.random_colours import RandomColours
from vharm.data.types import Sample, Scene
from vharm.models import Chen, Harmonizer, Issam, SpyNet, save_weights
from vharm.models.color_mapping import Refinement
from vharm.models.efficientnet import EncoderConfig
from vharm.ops import flow_warp
from vharm.training.clips import Mixed, RecolouredClips, collate
from vharm.training.motion_data import SHARES, HeldClips, motion_colours, motion_scenes
from vharm.training.normalised import foreground_normalised
from vharm.training.recipes.issam import fill_base, pair_loss
from vharm.training.recipes.spynet import end_point_error, level_error

torch.set_num_threads(1)

SIZE = 32


def picture(seed, size=40):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    mask = torch.zeros(1, size, size)
    mask[:, 12:28, 10:26] = 1
    return (smooth[0].clamp(0, 1) * 255).byte(), (mask * 255).byte()


class Photographs:
    def __init__(self, count=4):
        self.scenes = [Scene(f"p{i}", *(t[None] for t in picture(i))) for i in range(count)]

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, index):
        return self.scenes[index]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of photographs with masks."""
    folder = tmp_path_factory.mktemp("data")
    for kind in ("images", "masks"):
        (folder / kind / "train").mkdir(parents=True)
    for i in range(8):
        frame, mask = picture(i)
        image = Image.fromarray(frame.permute(1, 2, 0).numpy())
        image.save(folder / "images" / "train" / f"p{i}.png")
        Image.fromarray(mask[0].numpy()).save(folder / "masks" / "train" / f"p{i}.png")
    return folder


def train(name, data, output, **settings):
    recipe = training.get_recipe(name)
    values = {
        "data": str(data), "output": str(output), "size": SIZE, "batch": 2, "steps": 3,
        "validate_every": 3, "log_every": 1, "hold_out": 0.25, "device": "cpu", "pictures": 1,
        "average": 0.0, **settings,
    }  # fmt: skip
    config = training.make_config(recipe.config_class, values=values)
    trainer = training.Trainer(recipe(config), say=None)
    return trainer, trainer.run()


def test_foreground_normalised_by_hand():
    output, target = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    output[0, :, 0, :2] = 2.0  # 2 pixels x 3 channels x 4 = 24, over the whole frame
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :2, :5] = 1  # 10 pixels, above the least area 64 * 1000 / 65536
    assert foreground_normalised(output, target, mask) == pytest.approx(24 / 30 / 2)
    mask[0] = 0
    least = 64 * 1000 / 65536
    assert foreground_normalised(output, target, mask) == pytest.approx(24 / (3 * least) / 2)


@pytest.fixture(scope="module")
def scenes():
    return Cached(Photographs(), 40)


def dances(scenes, frames=3, **options):
    colours = motion_colours("", SHARES, scenes)
    return DancingBatches(
        scenes, SIZE, colours, frames=frames, max_coverage=1.0, least_crop=0.9, **options
    )


def test_dances_move_and_their_flow_is_exact(scenes):
    found = dances(scenes)
    clips = found.render([found[0, i] for i in range(4)])
    assert clips.composite.shape == (4, 3, 3, SIZE, SIZE)
    outside = (clips.masks == 0).expand_as(clips.composite)
    assert torch.equal(clips.composite[outside], clips.target[outside])
    assert not torch.equal(clips.composite, clips.target)
    before, now = clips.target[:, :-1].flatten(0, 1), clips.target[:, 1:].flatten(0, 1)
    valid = clips.valid.flatten(0, 1)
    warped = flow_warp(before, clips.flow.flatten(0, 1))
    off = ((warped - now).abs() * valid).sum() / (3 * valid.sum())
    still = ((before - now).abs() * valid).sum() / (3 * valid.sum())
    assert off < 0.006 < still
    again, later = (found.render([found[epoch, i] for i in range(4)]) for epoch in (0, 1))
    assert torch.equal(again.composite, clips.composite)
    assert not torch.equal(later.composite, clips.composite)


def test_scenes_are_kept_a_little_larger_than_frames(scenes):
    assert motion_scenes(scenes, 64) is not scenes
    assert motion_scenes(scenes, 16).size == 24
    larger = Cached(Photographs(), 48)
    assert motion_scenes(larger, 32) is larger
    square = motion_scenes(scenes, 16).square(2)
    assert square.frame.shape == (3, 24, 24)
    assert 0 < square.mask.float().mean() < 255


def test_held_clips_are_the_same_every_time(scenes):
    held = HeldClips(dances(scenes), 2)
    assert len(held) == 2
    assert [len(HeldClips(dances(scenes), most)) for most in (1, 3, 9)] == [1, 3, 4]
    first, again = list(held), list(held)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.composite, other.composite)
    assert not torch.equal(first[0].target, first[1].target)


def test_clips_are_recoloured_inside_and_alike():
    frames = torch.stack([picture(1)[0]] * 3)
    masks = torch.stack([picture(1)[1]] * 3)
    recolour = RandomColours((1.0, 0.0, 0.0)).one
    clips = RecolouredClips([Scene("c", frames, masks)], SIZE, seed=0, recolour=recolour)
    sample = clips[0, 0]
    assert sample.composite.shape == (3, 3, SIZE, SIZE)
    outside = (sample.masks == 0).expand_as(sample.composite)
    assert torch.equal(sample.composite[outside], sample.target[outside])
    assert (sample.composite != sample.target)[~outside].float().mean() > 0.5
    assert torch.equal(sample.composite[0], sample.composite[2])
    given = Sample("s", frames.flip(1), masks, frames)
    taken = RecolouredClips([given], 40, seed=0, recolour=recolour)[0, 0]
    assert torch.equal(taken.composite, taken.target.flip(1))
    with pytest.raises(ValueError, match="s is a composite without a true answer"):
        RecolouredClips([Sample("s", frames, masks)], 40, seed=0, recolour=recolour)[0, 0]


def test_both_kinds_take_turns():
    first, second = [f"a{i}" for i in range(3)], ["b0", "b1"]

    class Keyed(list):
        def __getitem__(self, key):
            return super().__getitem__(key[1])

    mixed = Mixed(Keyed(first), Keyed(second), 2)
    drawn = [mixed[epoch, i] for epoch in range(2) for i in range(3)]
    assert drawn == ["b0", "a1", "b1", "a0", "b0", "a2"]


def test_batches_say_when_the_flow_is_not_known(scenes):
    frames, masks = torch.zeros(2, 3, 4, 4).byte(), torch.zeros(2, 1, 4, 4).byte()
    flow, valid = torch.ones(1, 2, 4, 4), torch.ones(1, 1, 4, 4).bool()
    known = Sample("a", frames, masks, frames, flow=flow, valid=valid)
    unknown = Sample("b", frames, masks, frames)
    render = dances(scenes).render
    assert collate([known, known], render).flow.shape == (2, 1, 2, 4, 4)
    assert collate([known, unknown], render).flow is None
    with pytest.raises(ValueError, match="samples: expected true answers, c has none"):
        collate([known, Sample("c", frames, masks)], render)


def test_draws_and_samples_make_one_batch(scenes):
    found = dances(scenes)
    frames = torch.stack([picture(1, SIZE)[0]] * 3)
    masks = torch.stack([picture(1, SIZE)[1]] * 3)
    sample = Sample("a", frames, masks, frames.flip(1))
    both = collate([found[0, 0], sample, found[0, 2]], found.render)
    apart = found.render([found[0, 0], found[0, 2]])
    for name in ("composite", "masks", "target"):
        assert torch.equal(getattr(both, name)[:2], getattr(apart, name)), name
    torch.testing.assert_close(both.composite[2] * 255, frames.float())
    torch.testing.assert_close(both.target[2] * 255, frames.flip(1).float())
    assert torch.equal(both.masks[2], (masks > 0).float())
    assert both.flow is both.valid is None
    assert collate([found[0, 0], found[0, 2]], found.render).flow.shape == (2, 2, 2, SIZE, SIZE)


def test_end_point_error_by_hand():
    flow = torch.zeros(1, 2, 4, 4)
    found = flow.clone()
    found[:, 0], found[:, 1] = 3, 4
    valid = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    valid[..., 0, 0] = False
    found[..., 0, 0] = 100
    assert end_point_error(found, flow, valid) == pytest.approx(5)
    # Half the size: 1.5 and 2 there are 3 and 4 here; the corner's block is left out.
    half = torch.stack((torch.full((1, 2, 2), 1.5), torch.full((1, 2, 2), 2.0)), 1)
    half[..., 0, 0] = 100
    assert level_error(half, flow, valid) == pytest.approx(5)


def test_issam_learns_a_little_and_exports(data, tmp_path):
    trainer, outcome = train("issam", data, tmp_path, width=4, steps=12, learning_rate=3e-3)
    assert outcome.finished
    assert set(outcome.figures) >= {"fmse", "psnr", "composite_fmse"}
    paths = training.export_weights(tmp_path, tmp_path / "weights")
    network = Issam.from_weights(paths[0])
    assert network.settings()["input_size"] == SIZE
    batch = trainer.recipe.collate([trainer.recipe.training_set()[0, i] for i in range(4)])
    made = trainer.recipe.composer(*batch.to(torch.device("cpu")))
    losses = []
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(25):
        loss = foreground_normalised(network(made.composite, made.mask), made.target, made.mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_composites_of_issam_are_made_by_the_filters_asked_for(data, tmp_path):
    trainer, _ = train("issam", data, tmp_path, width=4, filters=("hue",), shares=(1.0, 0.0, 0.0))
    batch = trainer.recipe.collate([trainer.recipe.training_set()[0, i] for i in range(4)])
    made = trainer.recipe.composer(*batch.to(torch.device("cpu")))
    # Of all filters that one leaves luma, unless a channel is clipped. Soft edges hide clipping.
    free = ((made.composite > 0) & (made.composite < 1)).all(1) & (made.mask[:, 0] == 1)
    before, after = (
        torch.einsum("nchw,c->nhw", picture, torch.tensor([0.2126, 0.7152, 0.0722]))[free]
        for picture in (made.target, made.composite)
    )
    torch.testing.assert_close(after, before, atol=1e-3, rtol=0)
    assert (made.composite - made.target).abs().mean() > 1e-3


def test_a_backbone_comes_along_to_the_second_stage(data, tmp_path):
    torch.manual_seed(0)
    donor, path = Harmonizer(config=EncoderConfig.lite()), tmp_path / "donor.safetensors"
    save_weights(path, donor, architecture="harmonizer", config=donor.settings())
    train("issam", data, tmp_path, width=4, backbone=str(path), steps=1, validate_every=1)
    base = training.export_weights(tmp_path, tmp_path / "weights")[0]
    lent = Issam.from_weights(base).backbone
    stem = donor.encoder.stem_foreground.conv.weight
    torch.testing.assert_close(lent.stem_foreground.conv.weight, stem, rtol=1e-3, atol=1e-3)
    settings = {"width": 4, "frames": 3, "blocks": 1, "start": str(base), "steps": 1}
    trainer, _ = train("chen", data, tmp_path / "b", frozen=0.0, **settings)
    kept = trainer.networks["chen"].base.backbone.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in lent.state_dict().items())


def test_a_pairs_error_can_be_compressed(scenes):
    found = dances(scenes, 2)
    clips, network = found.render([found[0, i] for i in range(4)]), Issam(4, input_size=SIZE)
    with torch.no_grad():
        plain, parts = pair_loss(network, clips, 0.5)
        torch.testing.assert_close(plain, parts["error"] + 0.5 * parts["temporal"])
        _, less = pair_loss(network, clips, 0.5, compress=1e-3)
    assert less["error"] < 0.5 * parts["error"]
    assert less["temporal"] == parts["temporal"]


def test_issam_on_pairs_is_another_loss(data, tmp_path):
    logs = []
    for i, weight in enumerate((0.01, 1000.0)):
        trainer, outcome = train("issam", data, tmp_path / str(i), width=4, temporal=weight)
        assert outcome.finished
        logs.append(trainer.networks["issam"].state_dict()["colour.weight"])
    assert not torch.equal(*logs)


def test_chen_freezes_its_base_for_the_first_half(data, tmp_path):
    base = Issam(4, input_size=16)
    start = tmp_path / "issam.safetensors"
    save_weights(start, base, architecture="issam", config=base.settings())
    stored = Issam.from_weights(start).state_dict()
    settings = {"width": 4, "frames": 3, "blocks": 1, "start": str(start), "steps": 4}
    trainer, _ = train("chen", data, tmp_path / "a", frozen=1.0, **settings)
    kept = trainer.networks["chen"].base.state_dict()
    assert all(torch.equal(kept[n], t) for n, t in stored.items() if "tracked" not in n)
    assert trainer.networks["chen"].output.weight.any()
    trainer, outcome = train("chen", data, tmp_path / "b", frozen=0.5, **settings)
    moved = trainer.networks["chen"].base.state_dict()
    assert not torch.equal(moved["colour.weight"], stored["colour.weight"])
    assert {"fmse", "temporal", "base_fmse", "composite_temporal"} <= set(outcome.figures)
    paths = training.export_weights(tmp_path / "b", tmp_path / "weights")
    whole, base = Chen.from_weights(paths[0]), Issam.from_weights(paths[1])
    assert whole.frames == 3
    for name, tensor in base.state_dict().items():
        torch.testing.assert_close(tensor, whole.base.state_dict()[name])
    assert [path.name for path in paths[2:]] == ["chen.md", "issam.md"]
    assert 'method="issam"' in paths[3].read_text()
    paths = training.export_weights(
        tmp_path / "b", tmp_path / "weights", settings=["input_size=64"]
    )
    assert Chen.from_weights(paths[0]).base.input_size == 64


@pytest.fixture(scope="module")
def real_clips(tmp_path_factory):
    """A folder of two clips of four frames, with masks."""
    path = tmp_path_factory.mktemp("clips")
    for clip in ("one", "two"):
        for kind in ("frames", "masks"):
            (path / clip / kind).mkdir(parents=True)
        for i in range(4):
            frame, mask = picture(i)
            folder = path / clip
            Image.fromarray(frame.permute(1, 2, 0).numpy()).save(folder / "frames" / f"{i}.png")
            Image.fromarray(mask[0].numpy()).save(folder / "masks" / f"{i}.png")
    return path


def test_chen_takes_clips_and_switches(data, real_clips, tmp_path):
    _, outcome = train(
        "chen", data, tmp_path, width=4, frames=5, directions="past", aggregator=False,
        flow="none", clips=str(real_clips), steps=2, nonlocal_levels=(2,),
    )  # fmt: skip
    assert outcome.finished


def test_workers_give_the_same_batches_of_both_kinds(data, real_clips):
    from torch.utils.data import DataLoader

    from vharm.training.order import Order

    recipe = training.get_recipe("chen")
    values = {
        "data": str(data), "size": SIZE, "hold_out": 0.25, "width": 4, "frames": 3,
        "clips": str(real_clips), "clip_every": 3,
    }  # fmt: skip
    made = recipe(training.make_config(recipe.config_class, values=values))
    whole = made.training_set()
    found = []
    for workers in (0, 2):
        loader = DataLoader(
            whole, batch_sampler=Order(len(whole), 4, seed=0, start=1), collate_fn=made.collate,
            num_workers=workers,
        )  # fmt: skip
        batches = iter(loader)
        found.append([next(batches) for _ in range(2)])
    for here, there in zip(*found, strict=True):
        assert here.composite.shape == (4, 3, 3, SIZE, SIZE)
        for name in ("composite", "target", "masks"):
            assert torch.equal(getattr(here, name), getattr(there, name)), name


def test_the_refinement_learns_over_a_fixed_base(data, tmp_path):
    base, start = Issam(4, input_size=SIZE), tmp_path / "issam.safetensors"
    save_weights(start, base, architecture="issam", config=base.settings())
    trainer, outcome = train(
        "co2net", data, tmp_path / "out", base=str(start), width=4, frames=3, channels=8
    )
    assert set(outcome.figures) == {"fmse", "table_fmse", "base_fmse", "composite_fmse"}
    recipe = trainer.recipe
    clips = recipe.collate([recipe.training_set()[0, i] for i in range(4)])
    known, network = recipe.known(clips), recipe.bare_networks()["co2net"]
    optimizer, losses = torch.optim.Adam(network.parameters(), 3e-3), []
    for _ in range(25):
        output = network(known.composite, known.base, known.features, known.mapped)
        target = recipe._base.normalise(clips.target[:, 1])
        loss = foreground_normalised(output, target, clips.masks[:, 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    stored = Issam.from_weights(start).state_dict()
    kept = trainer.recipe._base.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in stored.items())
    paths = training.export_weights(tmp_path / "out", tmp_path / "weights")
    assert Refinement.from_weights(paths[0]).settings() == {"features": 4, "channels": 8}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("issam", {"temporal": 0.01, "jitter": 0.0}),
        ("chen", {"frames": 3, "blocks": 1, "nonlocal_levels": ()}),
        ("co2net", {"frames": 3}),
    ],
)
def test_mild_and_jitter_change_training_clips_alone(name, own, data, tmp_path):
    if name == "co2net":
        base, start = Issam(4, input_size=SIZE), tmp_path / "issam.safetensors"
        save_weights(start, base, architecture="issam", config=base.settings())
        own = {**own, "base": str(start)}
    made = []
    for i, changed in enumerate(({}, {"mild": 1.0}, {"jitter": 1.0})):
        settings = {**own, **changed, "width": 4, "steps": 1, "validate_every": 1}
        trainer, outcome = train(name, data, tmp_path / str(i), **settings)
        recipe = trainer.recipe
        clips = recipe.collate([recipe.training_set()[0, k] for k in range(4)])
        made.append((outcome.figures["composite_fmse"], clips))
    assert made[0][0] == made[1][0] == made[2][0]
    plain, mild, jittered = (clips for _, clips in made)
    assert torch.equal(mild.target, plain.target)
    assert not torch.equal(jittered.target, plain.target)
    change = [(clips.composite - clips.target).abs().mean() for clips in (mild, plain)]
    assert 0 < change[0] < change[1]


def test_the_table_of_the_training_is_that_of_the_method(data, tmp_path):
    from vharm import methods

    base, start = Issam(4, input_size=SIZE), tmp_path / "issam.safetensors"
    torch.nn.init.constant_(base.colour.bias, 1)
    save_weights(start, base, architecture="issam", config=base.settings())
    trainer, _ = train(
        "co2net",
        data,
        tmp_path / "out",
        base=str(start),
        width=4,
        frames=3,
        channels=8,
        steps=1,
    )
    clips = trainer.recipe.collate([trainer.recipe.training_set()[0, 1]])
    known = trainer.recipe.known(clips)
    mapped = base.denormalise(known.mapped).clamp(0, 1)
    painted = methods.get("co2net", weights=start).render(clips.composite[0], clips.masks[0])[1:2]
    torch.testing.assert_close(mapped, painted, atol=1e-5, rtol=0)
    assert (base.denormalise(known.base) - mapped).abs().max() > 1e-3


def test_spynet_comes_closer_to_the_exact_flow(data, tmp_path):
    trainer, outcome = train(
        "spynet", data, tmp_path, channels=(8,), steps=30, learning_rate=3e-3, validate_every=30,
        shift=0.1,
    )  # fmt: skip
    figures = outcome.figures
    assert figures["epe"] < figures["still_epe"]
    assert "dis_epe" in figures
    assert len(trainer.networks["spynet"].nets) == 1
    paths = training.export_weights(tmp_path, tmp_path / "weights")
    assert SpyNet.from_weights(paths[0]).settings()["channels"] == [8]


def test_a_base_without_nonlocal_blocks_serves_one_that_has_them(tmp_path):
    plain, path = Issam(4, input_size=16), tmp_path / "issam.safetensors"
    save_weights(path, plain, architecture="issam", config=plain.settings())
    filled = Issam(4, nonlocal_levels=(1,), input_size=64)
    fill_base(filled, str(path))
    state = filled.state_dict()
    for name, tensor in plain.half().float().state_dict().items():
        torch.testing.assert_close(state[name], tensor, atol=1e-3, rtol=1e-3)
    assert not state["decoder.1.similar.g.weight"].any()
    with pytest.raises(ValueError, match="another width"):
        fill_base(Issam(8), str(path))


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("issam", {"size": 36}, "input_size: expected a multiple of 8"),
        ("issam", {"temporal": -1.0}, "temporal: expected 0 or more"),
        ("issam", {"shares": (0.0, 1.0, 0.0)}, "luts: expected look-up tables"),
        ("issam", {"filters": ("hue", "glow")}, "filters: expected names out of .*, got 'glow'"),
        ("harmonizer", {"filters": ("glow",)}, "filters: expected names out of .*, got 'glow'"),
        ("chen", {"flow": "raft"}, "flow: expected one of dis, spynet, none, got 'raft'"),
        ("chen", {"frames": 4}, "frames: expected an odd number"),
        ("co2net", {}, "base: expected the weights of an iS2AM, got none"),
        ("spynet", {"size": 40}, "size: expected a multiple of 32"),
    ],
)
def test_bad_settings(name, settings, text, data, tmp_path):
    with pytest.raises(training.ConfigError, match=text):
        train(name, data, tmp_path, **settings)


def test_tables_recolour_half_of_the_time(tmp_path, scenes):
    import numpy

    from vharm.looks import LutLook

    # Enough that one is left when those kept for the tables of results are taken away.
    tables = numpy.stack([1 - LutLook.identity(2).grid.numpy()] * 17)
    names = numpy.array([f"inverse {i}" for i in range(17)])
    path = tmp_path / "luts.npz"
    numpy.savez(path, luts_2=tables, names_2=names)
    frame, mask = picture(0)
    colours, plain = (motion_colours(luts, SHARES, scenes) for luts in (str(path), ""))
    found = [colours.one(frame, mask, seeding.generator(0, i)) for i in range(40)]
    without = [plain.one(frame, mask, seeding.generator(0, i)) for i in range(40)]
    differs = [not torch.equal(a, b) for a, b in zip(found, without, strict=True)]
    assert 10 <= sum(differs) <= 30
    with pytest.raises(training.ConfigError, match="shares: expected 3 numbers"):
        motion_colours("", (0.0, 1.0, 0.0), scenes)


def test_weights_of_trainings_can_be_averaged(data, tmp_path):
    folders = [tmp_path / name for name in ("a", "b")]
    for folder, rate in zip(folders, (1e-3, 1e-2), strict=True):
        train("issam", data, folder, width=4, learning_rate=rate)
    alone = [
        Issam.from_weights(training.export_weights(folder, folder / "out")[0]).state_dict()
        for folder in folders
    ]
    paths = training.export_weights(folders[0], tmp_path / "mean", average=[folders[1]])
    mean = Issam.from_weights(paths[0]).state_dict()
    for name, tensor in mean.items():
        if tensor.is_floating_point():
            wanted = (alone[0][name] + alone[1][name]) / 2
            torch.testing.assert_close(tensor, wanted, rtol=2e-3, atol=1e-4)
    assert not torch.equal(alone[0]["colour.weight"], alone[1]["colour.weight"])
    assert "mean of this training's and of those of: b." in paths[1].read_text()
    train("issam", data, tmp_path / "c", width=8)
    with pytest.raises(training.CheckpointError, match="average: not the same networks"):
        training.export_weights(folders[0], tmp_path / "d", average=[tmp_path / "c"])

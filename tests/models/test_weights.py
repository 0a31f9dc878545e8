# SPDX-License-Identifier: Apache-2.0
"""Weight files: round trips, published names, and an error for every bad file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vharm.models import (
    EncoderConfig,
    Harmonizer,
    Stage,
    WeightsError,
    inspect_weights,
    load_weights,
    save_weights,
)

torch.set_num_threads(1)  # tensors this small only wait for more threads

TINY = EncoderConfig(stages=(Stage(4, 3, 2, 16, 2),), width=0.5, head=64)


def tiny_model(seed: int = 0, **settings) -> Harmonizer:
    torch.manual_seed(seed)
    model = Harmonizer(config=TINY, input_size=None, **settings).eval()
    randomise(model)
    return model


def randomise(model: nn.Module) -> None:
    """Give every tensor values of its own, so that two swapped ones are noticed."""
    generator = torch.Generator().manual_seed(torch.initial_seed())
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.2, 0.5, generator=generator)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.1)


def sample(size: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    image = torch.rand(2, 3, size, size, generator=generator)
    return image, torch.rand(2, 1, size, size, generator=generator)


def save(path: Path, model: Harmonizer, **changes) -> Path:
    arguments = {"architecture": "harmonizer", "config": model.settings(), "metadata": {"steps": 7}}
    save_weights(path, model, **{**arguments, **changes})
    return path


def floating(model: nn.Module) -> dict[str, Tensor]:
    return {name: t for name, t in model.state_dict().items() if t.is_floating_point()}


# (expansion, kernel, input, output) of B0's sixteen blocks, written out from the paper's table.
B0_BLOCKS = (
    *((1, 3, 32, 16), (6, 3, 16, 24), (6, 3, 24, 24), (6, 5, 24, 40), (6, 5, 40, 40)),
    *((6, 3, 40, 80), (6, 3, 80, 80), (6, 3, 80, 80)),
    *((6, 5, 80, 112), (6, 5, 112, 112), (6, 5, 112, 112)),
    *((6, 5, 112, 192), (6, 5, 192, 192), (6, 5, 192, 192), (6, 5, 192, 192), (6, 3, 192, 320)),
)


def norm_shapes(prefix: str, channels: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{prefix}.{part}": (channels,) for part in parts}


def published_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for branch in ("fg", "bg"):
        shapes[f"backbone._conv_{branch}.weight"] = (16, 4, 3, 3)
        shapes |= norm_shapes(f"backbone._bn_{branch}", 16)
    for index, (expansion, kernel, inputs, outputs) in enumerate(B0_BLOCKS):
        block = f"backbone._blocks.{index}."
        hidden = inputs * expansion
        squeezed = inputs // 4
        if expansion > 1:
            shapes[block + "_expand_conv.weight"] = (hidden, inputs, 1, 1)
            shapes |= norm_shapes(block + "_bn0", hidden)
        shapes[block + "_depthwise_conv.weight"] = (hidden, 1, kernel, kernel)
        shapes |= norm_shapes(block + "_bn1", hidden)
        shapes[block + "_se_reduce.weight"] = (squeezed, hidden, 1, 1)
        shapes[block + "_se_reduce.bias"] = (squeezed,)
        shapes[block + "_se_expand.weight"] = (hidden, squeezed, 1, 1)
        shapes[block + "_se_expand.bias"] = (hidden,)
        shapes[block + "_project_conv.weight"] = (outputs, hidden, 1, 1)
        shapes |= norm_shapes(block + "_bn2", outputs)
    shapes["backbone._conv_head.weight"] = (1280, 320, 1, 1)
    shapes |= norm_shapes("backbone._bn1", 1280)
    layers = {"f": (160, 1280), "g": (160, 1280)}
    for index in range(6):
        layers |= {f"headers.{index}.0": (160, 320), f"headers.{index}.1": (1, 160)}
    for layer, shape in layers.items():
        shapes[f"regressor.{layer}.weight"] = shape
        shapes[f"regressor.{layer}.bias"] = shape[:1]
    return shapes


def to_published(model: Harmonizer) -> dict[str, Tensor]:
    """A model's tensors under published names, walking its modules rather than its names."""
    modules = {
        "backbone._conv_fg": model.encoder.stem_foreground.conv,
        "backbone._bn_fg": model.encoder.stem_foreground.norm,
        "backbone._conv_bg": model.encoder.stem_background.conv,
        "backbone._bn_bg": model.encoder.stem_background.norm,
        "backbone._conv_head": model.encoder.head.conv,
        "backbone._bn1": model.encoder.head.norm,
        "regressor.f": model.regressor.shared,
        "regressor.g": model.regressor.first,
    }
    for index, block in enumerate(model.encoder.blocks):
        name = f"backbone._blocks.{index}."
        if block.expand is not None:
            modules[name + "_expand_conv"] = block.expand.conv
            modules[name + "_bn0"] = block.expand.norm
        modules[name + "_depthwise_conv"] = block.depthwise.conv
        modules[name + "_bn1"] = block.depthwise.norm
        modules[name + "_se_reduce"] = block.gate.reduce
        modules[name + "_se_expand"] = block.gate.restore
        modules[name + "_project_conv"] = block.project.conv
        modules[name + "_bn2"] = block.project.norm
    for index, head in enumerate(model.regressor.heads):
        modules[f"regressor.headers.{index}.0"] = head.feature
        modules[f"regressor.headers.{index}.1"] = head.argument
    return {
        f"{name}.{part}": tensor
        for name, module in modules.items()
        for part, tensor in module.state_dict().items()
    }


def test_round_trip_is_exact_to_float16(tmp_path: Path) -> None:
    model = tiny_model(0)
    path = save(tmp_path / "a.safetensors", model)
    other = tiny_model(1)
    weights = load_weights(path, other, architecture="harmonizer")
    for name, tensor in floating(model).items():
        assert weights.tensors[name].dtype == torch.float32
        assert torch.equal(other.state_dict()[name], tensor.half().float()), name
    assert weights.config == model.settings()
    assert weights.metadata == {"steps": 7}
    torch.testing.assert_close(other(*sample()), model(*sample()), rtol=0.02, atol=2e-3)


def test_from_weights_rebuilds_the_network(tmp_path: Path) -> None:
    model = tiny_model(0, filters=("shadow", "hue"), cascade=False)
    model.load_state_dict({n: t.half().float() for n, t in model.state_dict().items()})
    rebuilt = Harmonizer.from_weights(save(tmp_path / "a.safetensors", model))
    assert rebuilt.settings() == model.settings()
    assert not rebuilt.training
    assert torch.equal(rebuilt(*sample()), model(*sample()))


def test_full_size_file_is_small_and_inspectable(tmp_path: Path) -> None:
    model = Harmonizer()
    path = save(tmp_path / "full.safetensors", model)
    assert 4_726_882 * 2 < path.stat().st_size < 12_000_000
    found = inspect_weights(path)
    assert found["architecture"] == "harmonizer"
    assert found["format_version"] == 1
    assert found["config"] == model.settings()
    assert found["size"] == path.stat().st_size
    assert found["parameters"] == sum(t.numel() for t in floating(model).values())
    name = "encoder.blocks.0.depthwise.conv.weight"
    assert found["tensors"][name] == {"dtype": "F16", "shape": [32, 1, 3, 3]}


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    first = save(tmp_path / "a.safetensors", tiny_model(0)).read_bytes()
    assert save(tmp_path / "b.safetensors", tiny_model(0)).read_bytes() == first
    assert save(tmp_path / "c.safetensors", tiny_model(1)).read_bytes() != first


@pytest.mark.parametrize("scale", [1e6, 1e-9])
def test_what_float16_cannot_hold_stays_float32(tmp_path: Path, scale: float) -> None:
    model = tiny_model()
    variance = model.encoder.head.norm.running_var
    variance.mul_(scale)
    path = save(tmp_path / "a.safetensors", model)
    tensors = load_weights(path, architecture="harmonizer").tensors
    assert torch.equal(tensors["encoder.head.norm.running_var"], variance)
    assert inspect_weights(path)["tensors"]["encoder.head.norm.running_var"]["dtype"] == "F32"


def test_a_model_keeps_its_dtype(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", tiny_model(0))
    model = tiny_model(1).double()
    load_weights(path, model, architecture="harmonizer")
    assert {t.dtype for t in floating(model).values()} == {torch.float64}


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.safetensors", tiny_model(0))
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save(path, tiny_model(1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_published_names_and_shapes() -> None:
    renamed = to_published(Harmonizer())
    shapes = {n: tuple(t.shape) for n, t in renamed.items() if t.is_floating_point()}
    expected = published_shapes()
    assert expected["backbone._blocks.0._depthwise_conv.weight"] == (32, 1, 3, 3)
    assert not any(name.startswith("backbone._blocks.0._expand") for name in shapes)
    assert shapes == expected


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_published_checkpoint(tmp_path: Path, prefix: str, suffix: str) -> None:
    source = tiny_model(0)
    state = {prefix + name: tensor for name, tensor in to_published(source).items()}
    path = tmp_path / f"published{suffix}"
    torch.save({"model": state, "epoch": 60} if prefix else state, path)
    target = tiny_model(1)
    assert not torch.allclose(target(*sample()), source(*sample()))
    weights = load_weights(path, target, architecture="harmonizer")
    assert torch.equal(target(*sample()), source(*sample()))
    assert weights.config == {}
    assert weights.notes == ()


def test_full_size_published_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = Harmonizer().eval()
    randomise(source)
    state = {f"module.model.{name}": tensor for name, tensor in to_published(source).items()}
    torch.save({"model": state}, tmp_path / "published.pth")
    target = Harmonizer.from_weights(tmp_path / "published.pth")
    assert torch.equal(target(*sample(64)), source(*sample(64)))


def test_classifier_layer_is_left_out_with_a_note(tmp_path: Path) -> None:
    state = to_published(tiny_model())
    state["backbone._fc.weight"] = torch.zeros(1000, 1280)
    torch.save(state, tmp_path / "a.pth")
    weights = load_weights(tmp_path / "a.pth", tiny_model(1), architecture="harmonizer")
    assert len(weights.notes) == 1
    assert "backbone._fc.weight" in weights.notes[0]


def test_own_names_in_a_checkpoint(tmp_path: Path) -> None:
    source, target = tiny_model(0), tiny_model(1)
    torch.save({"model": source.state_dict()}, tmp_path / "a.pt")
    load_weights(tmp_path / "a.pt", target, architecture="harmonizer")
    assert torch.equal(target(*sample()), source(*sample()))


def edit_header(path: Path, **changes) -> None:
    """Rewrite the header of a weight file, its tensors untouched."""
    header = {k: v for k, v in inspect_weights(path).items() if k not in ("tensors", "size")}
    save_file(load_file(path), path, {"vharm": json.dumps({**header, **changes})})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def edit_tensors(path: Path, **tensors: Tensor) -> None:
    """Save again as a checkpoint with vharm's names, some tensors changed, None for removed."""
    state = {**load_file(path), **tensors}
    torch.save({n: t for n, t in state.items() if t is not None}, path.with_suffix(".pth"))


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "no such file"),
    "folder": (lambda p: (p.unlink(), p.mkdir()), "not a file"),
    "empty": (lambda p: p.write_bytes(b""), "unreadable or truncated"),
    "text": (lambda p: p.write_text("weights" * 9), "unreadable or truncated"),
    "truncated": (truncate, "unreadable or truncated"),
    "bit flipped": (flip_last_byte, "damaged: .*SHA-256"),
    "foreign": (
        lambda p: save_file({"a": torch.zeros(2)}, p, {"format": "pt"}),
        "not a vharm weight file",
    ),
    "header not JSON": (
        lambda p: save_file({"a": torch.zeros(2)}, p, {"vharm": "{"}),
        "header is not JSON",
    ),
    "newer format": (
        lambda p: edit_header(p, format_version=2),
        "expected format version 1, found 2",
    ),
    "header incomplete": (lambda p: edit_header(p, config=None), "no 'config'"),
    "architecture": (
        lambda p: edit_header(p, architecture="issam"),
        "weights of 'issam', expected 'harmonizer'",
    ),
    "other filters": (
        lambda p: save(p, tiny_model(filters=("shadow", *Harmonizer(config=TINY).filters[1:]))),
        r"another filters: expected \['temperature'.* found \['shadow'",
    ),
    "ending": (lambda p: p.rename(p.with_suffix(".onnx")), "ending in .*'.onnx'"),
    "checkpoint truncated": (
        lambda p: (edit_tensors(p), truncate(p.with_suffix(".pth"))),
        "unreadable, truncated",
    ),
    "checkpoint empty": (lambda p: p.with_suffix(".pth").write_bytes(b""), "unreadable, truncated"),
    "checkpoint with code": (
        lambda p: torch.save({"a": torch.zeros(1), "b": Harmonizer}, p.with_suffix(".pth")),
        "not plain tensors",
    ),
    "checkpoint of a list": (
        lambda p: torch.save([torch.zeros(1)], p.with_suffix(".pth")),
        "expected a state dict, found list",
    ),
    "checkpoint of numbers": (
        lambda p: torch.save({"epoch": 3}, p.with_suffix(".pth")),
        "'epoch': expected a tensor, found int",
    ),
    "missing names": (
        lambda p: edit_tensors(p, **{"encoder.head.norm.bias": None}),
        r"missing 1 \(encoder.head.norm.bias\), unexpected none",
    ),
    "unexpected names": (
        lambda p: edit_tensors(p, **{f"extra{i}": torch.zeros(1) for i in range(5)}),
        r"missing none, unexpected 5 \(extra0, extra1, extra2, \.\.\.\)",
    ),
    "same name twice": (
        lambda p: edit_tensors(p, **{"backbone._bn1.bias": torch.zeros(32)}),
        "more than one tensor for 'encoder.head.norm.bias'",
    ),
    "shape": (
        lambda p: edit_tensors(p, **{"encoder.head.norm.bias": torch.zeros(5)}),
        r"encoder.head.norm.bias: expected shape \[32\], found \[5\]",
    ),
    "not finite": (
        lambda p: edit_tensors(p, **{"encoder.head.norm.bias": torch.full((32,), torch.nan)}),
        r"not finite in 1 \(encoder.head.norm.bias\)",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tmp_path: Path, case: str) -> None:
    spoil, message = BAD_FILES[case]
    path = save(tmp_path / "a.safetensors", tiny_model(0))
    spoil(path)
    path = next((p for p in tmp_path.iterdir() if p != path), path)
    model = tiny_model(1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match=message) as caught:
        load_weights(path, model, architecture="harmonizer")
    assert str(path) in str(caught.value)
    assert "weights_only=False" not in str(caught.value)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} was changed by a failed load"


def test_bad_configuration_in_the_header(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", tiny_model(), config={"encoder": {"heads": 3}})
    with pytest.raises(WeightsError, match=r"bad configuration in the header: .*heads"):
        Harmonizer.from_weights(path)


def test_inspecting_a_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save(tiny_model().state_dict(), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"only \.safetensors files carry a header"):
        inspect_weights(tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="no such file"):
        inspect_weights(tmp_path / "b.safetensors")


def test_bad_saves(tmp_path: Path) -> None:
    model = tiny_model()
    with pytest.raises(WeightsError, match=r"ending in \.safetensors"):
        save(tmp_path / "a.pth", model)
    with pytest.raises(TypeError, match="JSON"):
        save(tmp_path / "a.safetensors", model, metadata={"path": tmp_path})
    with torch.no_grad():
        model.regressor.shared.bias[3] = torch.inf
    with pytest.raises(WeightsError, match=r"not finite in 1 \(regressor.shared.bias\)"):
        save(tmp_path / "a.safetensors", model)
    assert list(tmp_path.iterdir()) == []

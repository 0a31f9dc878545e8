# SPDX-License-Identifier: Apache-2.0
"""Harmonizer as a method: weights, what the network sees, the Looks that come out."""

from __future__ import annotations

import pytest
import torch

from vharm import methods, ops
from vharm.looks import FilterLook
from vharm.methods import HarmonizerMethod, shipped
from vharm.models.efficientnet import EncoderConfig
from vharm.models.harmonizer import Harmonizer
from vharm.models.weights import WeightsError, save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An untrained network whose arguments are not all near 0."""
    torch.manual_seed(0)
    model = Harmonizer()
    with torch.no_grad():
        for i, head in enumerate(model.regressor.heads):
            head.argument.bias.fill_((-1) ** i * 0.2)
        model.regressor.heads[0].argument.bias.fill_(1.7)
    path = tmp_path_factory.mktemp("weights") / "harmonizer.safetensors"
    save_weights(path, model, architecture="harmonizer", config=model.settings())
    return path


@pytest.fixture(scope="module")
def method(weights):
    return methods.get("harmonizer", weights=weights)


def test_without_weights_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    assert "weights" in methods.HarmonizerMethod.why_not()
    with pytest.raises(WeightsError, match=r"--weights FILE.*weights=.*mkl, reinhard"):
        methods.get("harmonizer")
    with pytest.raises((WeightsError, OSError), match="absent"):
        methods.get("harmonizer", weights="absent.safetensors")


def test_looks_hold_unclamped_arguments_and_the_small_frames_means(method):
    torch.manual_seed(1)
    frames, masks = torch.rand(2, 3, 256, 256), torch.zeros(2, 1, 256, 256)
    masks[0, :, 60:200, 50:150] = 1
    look, empty = method.estimate(frames, masks)
    assert isinstance(look, FilterLook)
    assert look.filters == ops.DEFAULT_FILTERS
    assert look.arguments[0] > 1
    expected = ops.filter_statistics(frames[:1], look.arguments[None])[0]
    torch.testing.assert_close(look.statistics, expected)
    assert not look.quantized_contrast
    torch.testing.assert_close(empty.apply(frames), frames, atol=1e-5, rtol=0)


def test_working_size_is_the_networks_own(method, tmp_path):
    assert method.working_size(1080, 1920) == (256, 256)
    small = Harmonizer(config=EncoderConfig.lite(width=0.25), input_size=96)
    path = tmp_path / "small.safetensors"
    save_weights(path, small, architecture="harmonizer", config=small.settings())
    assert methods.get("harmonizer", weights=path).working_size(40, 1920) == (96, 96)
    assert methods.get("harmonizer", weights=path, side=64).working_size(40, 1920) == (64, 64)
    for wrong in (16, "64"):
        with pytest.raises(ValueError, match="side: expected 32 or more pixels, got"):
            methods.get("harmonizer", weights=path, side=wrong)


@pytest.mark.parametrize("side", [None, 192])
def test_engines_find_the_same(weights, side):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    torch.manual_seed(1)
    size = (side or 256,) * 2
    frames, masks = torch.rand(3, 3, *size), torch.zeros(3, 1, *size)
    masks[0, :, 60:180, 50:150] = 1
    masks[2, :, :50, :50] = 0.5
    found = {}
    for engine in ("auto", "onnxruntime", "torch"):
        method = methods.get("harmonizer", weights=weights, engine=engine, side=side)
        assert method.working_size(1080, 1920) == size
        seen, _ = method.network.prepare(torch.rand(1, 3, 224, 224), torch.rand(1, 1, 224, 224))
        assert seen.shape[2:] == size  # of whatever size it is given
        assert method.engine == ("onnxruntime" if engine == "auto" else engine)
        found[engine] = method.estimate(frames, masks)
    for auto, look, expected in zip(*found.values(), strict=True):
        assert torch.equal(auto.arguments, look.arguments)
        torch.testing.assert_close(look.arguments, expected.arguments, atol=1e-4, rtol=0)
        torch.testing.assert_close(look.statistics, expected.statistics, atol=1e-4, rtol=0)


def test_without_onnx_runtime(weights, monkeypatch):
    reason = "onnx is not installed"
    monkeypatch.setattr("vharm.models.engine.why_not_onnxruntime", lambda device: reason)
    assert methods.get("harmonizer", weights=weights).engine == "torch"
    with pytest.raises(ImportError, match=r"engine: onnxruntime cannot be used: onnx is not inst"):
        methods.get("harmonizer", weights=weights, engine="onnxruntime")
    with pytest.raises(ValueError, match="engine: expected one of auto, torch, onnxruntime"):
        methods.get("harmonizer", weights=weights, engine="quick")


def test_what_the_network_sees():
    torch.manual_seed(2)
    frame, mask = torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    mask[..., 2:5, 2:5] = 1
    request = HarmonizerMethod.request
    bare = object.__new__(HarmonizerMethod)
    seen = request(bare, frame, mask, None, None).seen()
    torch.testing.assert_close(seen, frame)
    other = torch.rand(1, 3, 4, 4)
    seen = request(bare, frame, mask, other, None).seen()
    inside = mask.bool().expand_as(frame)
    assert torch.equal(seen[inside], frame[inside])
    assert not torch.isclose(seen[~inside], frame[~inside]).all()
    counts = torch.ones(1, 1, 8, 8)
    counts[..., :2] = 0
    seen = request(bare, frame, mask, None, counts).seen()
    kept = (counts * (1 - mask)).bool().expand_as(frame)
    mean = frame[kept].reshape(3, -1).mean(1)
    torch.testing.assert_close(seen[..., 0, 0], mean[None])
    torch.testing.assert_close(seen[kept], frame[kept])
    torch.testing.assert_close(seen[inside], frame[inside])


def test_published_checkpoints_take_the_released_contrast(weights):
    assert methods.get("harmonizer", weights=weights, quantized_contrast=True).quantized_contrast

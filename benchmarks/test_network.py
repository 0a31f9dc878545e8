# SPDX-License-Identifier: Apache-2.0
"""Harmonizer's network on the CPU: PyTorch as it is, with what can be folded, and ONNX Runtime.

pytest benchmarks/test_network.py -s            the full measurement, results kept
pytest benchmarks/test_network.py -s --quick    that it works

Arguments must agree to 1e-4 before anything is timed, and harmonized pictures to one grey level.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from common import THREADS, Subject, compare, publish
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from vharm import methods
from vharm.looks import Look
from vharm.media.frame import ColorSpec, Frame
from vharm.methods import HarmonizerMethod, shipped
from vharm.models import EncoderConfig, Harmonizer, save_weights
from vharm.models.efficientnet import ConvNorm
from vharm.models.engine import OnnxEngine
from vharm.session.apply import thumbnail

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("two_threads")


@pytest.fixture(autouse=True)
def _on_the_cpu(device) -> None:
    if device.type != "cpu":
        pytest.skip("ONNX Runtime is used on the CPU only")


@pytest.fixture(scope="module")
def weights(quick: bool, tmp_path_factory) -> Path:
    """The network that comes with vharm; a small one where it only is to be shown to run."""
    path = shipped.shipped("harmonizer")
    if quick or not path.is_file():
        torch.manual_seed(0)
        config = EncoderConfig.lite(width=0.25) if quick else EncoderConfig.lite()
        model = Harmonizer(config=config, regions=True, input_size=64 if quick else 256)
        path = tmp_path_factory.mktemp("network") / "harmonizer.safetensors"
        save_weights(path, model, architecture="harmonizer", config=model.settings())
    return path


def pictures(count: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Smooth noise with some grain, and a disc."""
    source = torch.Generator().manual_seed(0)
    image = F.interpolate(
        torch.rand(count, 3, 9, 16, generator=source), (height, width), mode="bicubic"
    )
    image = image + 0.03 * torch.randn(image.shape, generator=source)
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    mask = ((0.6 - rows.hypot(columns)) * 20).clamp(0, 1)
    return image.clamp(0, 1).contiguous(), mask.expand(count, 1, -1, -1).contiguous()


def folded(network: Harmonizer) -> Harmonizer:
    """The network with its batch normalisations inside the convolutions, in PyTorch."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, ConvNorm):
            conv, norm = module.conv, module.norm
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight,
                norm.bias,
            )  # fmt: skip
            module.norm = nn.Identity()
    return network


def compiled(network: Harmonizer, *inputs: Tensor) -> tuple[Callable | None, str]:
    """The network by torch.compile, or None and the reason."""
    run = torch.compile(network)
    try:
        run(*inputs)
    except Exception as error:  # whatever a compiler can run into, such as there being none
        return None, f"skipped: {type(error).__name__}: {str(error).splitlines()[0][:100]}"
    return run, "included"


def agrees(expected: Tensor) -> Callable[[Tensor], None]:
    def check(found: Tensor) -> None:
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)

    return check


@pytest.mark.benchmark
@pytest.mark.parametrize("batch", [1, 8])
@torch.no_grad()
def test_the_network_alone(weights, batch: int, quick: bool) -> None:
    network = Harmonizer.from_weights(weights)
    side = network.input_size
    image, mask = pictures(batch, side, side)
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    runs: dict[str, Callable] = {
        "ONNX Runtime": OnnxEngine(network),
        "PyTorch": network,
        "PyTorch, channels last": last,
        "PyTorch, norms folded, channels last": folded(last),
    }
    note = "left out: compiling takes a minute or two, and is done for one picture only"
    if not quick and batch == 1:
        by_compiler, note = compiled(last, image, mask)
        if by_compiler is not None:
            runs["torch.compile, channels last"] = by_compiler
    check = agrees(network(image, mask))
    subjects = [
        Subject(name, lambda run=run: run(image, mask), check) for name, run in runs.items()
    ]
    table = compare(
        f"Harmonizer's network, {batch} x {side} x {side}, float32, {THREADS} threads", subjects,
        rounds=2 if quick else 25, device=CPU, **{"torch.compile": note},
    )  # fmt: skip
    publish(f"network-{batch}", [table], CPU, keep=not quick)


@pytest.mark.benchmark
@torch.no_grad()
def test_from_a_frame_to_its_look(weights, quick: bool) -> None:
    """The method as it is called: thumbnails given, and thumbnails made of 1920 x 1080."""
    ways: dict[str, HarmonizerMethod] = {
        name: methods.get("harmonizer", weights=weights, engine=engine)
        for name, engine in (("ONNX Runtime", "onnxruntime"), ("PyTorch", "torch"))
    }
    size = (180, 320) if quick else (1080, 1920)
    image, _ = pictures(1, *size)
    planes = ((image[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy(),)
    frame = Frame(planes, ColorSpec("rgb"))
    side = ways["PyTorch"].network.input_size
    mask = pictures(1, side, side)[1]
    small = thumbnail(frame, (side, side), CPU)[None]
    expected = pixels(ways["PyTorch"].estimate(small, mask), image)

    def check(looks: list[Look]) -> None:
        difference = pixels(looks, image).int() - expected.int()
        assert difference.abs().max() <= 1

    def whole(way: HarmonizerMethod) -> list[Look]:
        return way.estimate(thumbnail(frame, (side, side), CPU)[None], mask)

    def eager() -> list[Look]:
        """As without vharm: the whole frame as floats, resized by PyTorch."""
        picture = torch.from_numpy(planes[0]).permute(2, 0, 1)[None].float() / 255
        shrunk = F.interpolate(picture, (side, side), mode="bilinear", antialias=True)
        return ways["PyTorch"].estimate(shrunk, mask)

    rounds = 2 if quick else 25
    given = compare(
        f"estimate, one thumbnail of {side} x {side}, {THREADS} threads",
        [Subject(name, lambda way=way: way.estimate(small, mask), check)
         for name, way in ways.items()],
        rounds=rounds, device=CPU,
    )  # fmt: skip
    made = compare(
        f"thumbnail of an RGB frame of {size[1]} x {size[0]}, uint8, and estimate",
        [Subject(name, lambda way=way: whole(way), check) for name, way in ways.items()]
        + [Subject("PyTorch, F.interpolate", eager)]
        + [Subject("the thumbnail alone", lambda: thumbnail(frame, (side, side), CPU))],
        rounds=rounds, device=CPU,
    )  # fmt: skip
    publish("network-estimate", [given, made], CPU, keep=not quick)
    if not quick:
        assert made.ratio("PyTorch, F.interpolate") >= 1.7


def pixels(looks: list[Look], image: Tensor) -> Tensor:
    """The whole picture under the first Look, uint8."""
    return looks[0].apply((image * 255).round().to(torch.uint8))

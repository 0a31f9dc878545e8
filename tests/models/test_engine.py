# SPDX-License-Identifier: Apache-2.0
"""The network in ONNX Runtime gives the network's numbers, whatever the network."""

from __future__ import annotations

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from vharm.models import EncoderConfig, Harmonizer, Stage, engine
from vharm.models.engine import OnnxEngine, choose_engine
from vharm.ops import _native

STAGES = (
    Stage(expansion=1, kernel=3, stride=1, channels=16, repeats=1),
    Stage(expansion=4, kernel=5, stride=2, channels=24, repeats=2),
    Stage(expansion=2, kernel=3, stride=2, channels=40, repeats=1),
)
SMALL = {"stages": STAGES, "head": 96}
CONFIGS = {
    "gates": EncoderConfig(width=0.5, **SMALL),
    "lite": EncoderConfig.lite(width=0.5, **SMALL),
    "wide and deep": EncoderConfig(width=1.3, depth=1.6, **SMALL),
    "gates and relu6": EncoderConfig(activation="relu6", **SMALL),
    "B0": EncoderConfig(),
    "lite0": EncoderConfig.lite(),
    "no head": EncoderConfig.lite(width=0.5, **{**SMALL, "head": 0}),
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def onnx() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")


def network(config: EncoderConfig = CONFIGS["lite"], **options) -> Harmonizer:
    """Arguments of this one are of the size of 1, and depend on every part of it."""
    torch.manual_seed(0)
    model = Harmonizer(config=config, **{"input_size": 32, **options}).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.3, 1.5)
                module.weight.uniform_(0.7, 1.6)
                module.bias.normal_(std=0.3)
            elif isinstance(module, torch.nn.Linear):
                module.bias.normal_(std=0.3)
        for head in model.regressor.heads:
            head.argument.weight.mul_(50)
    return model


def sample(batch: int = 3, height: int = 32, width: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of differing brightness, soft masks; of three the second is 0, the last 1."""
    image, mask = torch.rand(batch, 3, height, width), torch.rand(batch, 1, height, width)
    image = image * torch.linspace(1, 0.3, batch)[:, None, None, None]
    mask = (2 * mask - 0.7).clamp(0, 1)
    if batch > 2:
        mask[-2], mask[-1] = 0, 1
    return image, mask


def check(model: Harmonizer, run: OnnxEngine, *inputs: torch.Tensor) -> torch.Tensor:
    """To 1e-4, and to a hundredth of how far each argument moves between the pictures."""
    with torch.no_grad():
        expected = model(*inputs)
    moved = expected.std(0)
    assert moved.min() > 1e-4
    error = (run(*inputs) - expected).abs().amax(0)
    assert (error <= (0.01 * moved).clamp(max=1e-4)).all(), f"{error=}, {moved=}"
    return expected


@pytest.mark.usefixtures("onnx")
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("regions", [False, True], ids=["whole", "regions"])
def test_every_kind_of_network(name, regions):
    model = network(CONFIGS[name], regions=regions, cascade=regions)
    check(model, OnnxEngine(model), *sample())


@pytest.mark.usefixtures("onnx")
@pytest.mark.parametrize("cascade", [False, True])
@pytest.mark.parametrize("regions", [False, True])
def test_regressors_and_any_filters(cascade, regions):
    model = network(cascade=cascade, regions=regions, filters=("exposure", "hue", "contrast"))
    assert check(model, OnnxEngine(model), *sample()).shape == (3, 3)


@pytest.mark.usefixtures("onnx")
@pytest.mark.parametrize("size", [(1, 1), (31, 32), (33, 47), (64, 96)])
def test_sizes_that_do_not_divide(size):
    """Odd sizes pad both sides alike, and cells of the features overlap in the mask."""
    for regions in (False, True):
        model = network(regions=regions, input_size=None)
        with torch.no_grad():
            image, mask = sample(2, *size)
            torch.testing.assert_close(
                OnnxEngine(model)(image, mask), model(image, mask), atol=1e-4, rtol=0
            )


@pytest.mark.usefixtures("onnx")
def test_one_engine_takes_any_batch_size_and_layout():
    model = network(regions=True)
    run = OnnxEngine(model, threads=1)
    for batch in (2, 5, 3):
        check(model, run, *sample(batch))
    image, mask = sample(2, 50, 70)  # resized, as the network does it
    check(model, run, image, mask)
    check(model, run, image.to(memory_format=torch.channels_last), mask)
    assert run(*sample(0)).shape == model(*sample(0)).shape == (0, 6)
    model.input_size = 48
    check(model, run, image, mask)
    again = copy.deepcopy(run)
    assert torch.equal(again(image, mask), run(image, mask))


@pytest.mark.usefixtures("onnx")
@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads, regions):
    """Batches that they share evenly, unevenly, and that are too small for all of them."""
    model = network(regions=regions)
    alone, run = OnnxEngine(model, threads=1), OnnxEngine(model, threads=threads)
    for batch in (1, 2, 3, 5):
        inputs = sample(batch)
        torch.testing.assert_close(run(*inputs), alone(*inputs), atol=1e-5, rtol=0)
        again = copy.deepcopy(run)
        torch.testing.assert_close(again(*inputs), run(*inputs), atol=1e-6, rtol=0)
    assert pickle.loads(pickle.dumps(run))(*inputs).shape == (5, 6)


@pytest.mark.usefixtures("onnx")
def test_a_single_picture_takes_no_more_threads_than_kernels_get():
    run, inputs = OnnxEngine(network(), threads=2), sample(1)
    with _native.AtMost(1):
        alone = run(*inputs)
    assert list(run._made._sessions) == [1]
    torch.testing.assert_close(run(*inputs), alone, atol=1e-5, rtol=0)
    assert list(run._made._sessions) == [1, 2]


@pytest.mark.usefixtures("onnx")
def test_several_threads_may_call_one_engine():
    model = network(regions=True)
    run, inputs = OnnxEngine(model, threads=2), sample(4)
    expected = run(*inputs)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(lambda _: run(*inputs), range(6)):
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.usefixtures("onnx")
def test_weights_are_those_of_the_first_call():
    """The colours' too, which are not in the model."""
    model = network(regions=True)
    run, inputs = OnnxEngine(model), sample()
    before = run(*inputs)
    with torch.no_grad():
        for parameter in model.colours.parameters():
            parameter.mul_(2)
    assert torch.equal(run(*inputs), before)
    check(model, OnnxEngine(model), *inputs)


@pytest.mark.usefixtures("onnx")
@pytest.mark.parametrize("regions", [False, True])
def test_the_model_alone_takes_what_it_says(regions):
    """For those who load it elsewhere: its inputs, their shapes, and any batch size."""
    import onnxruntime

    from vharm.models.onnx_graph import onnx_model

    model = network(regions=regions)
    session = onnxruntime.InferenceSession(
        onnx_model(model, 32, 40), providers=["CPUExecutionProvider"]
    )
    shapes = {"image": ["B", 3, 32, 40], "mask": ["B", 1, 32, 40]}
    shapes |= {"colours": ["B", model.colours.width]} if regions else {}
    assert {i.name: i.shape for i in session.get_inputs()} == shapes
    for batch in (1, 4):
        inputs = dict(zip(("image", "mask"), sample(batch, 32, 40), strict=True))
        with torch.no_grad():
            expected = model(*inputs.values(), resize=False)
            if regions:
                inputs["colours"] = model.colours(*inputs.values())
        (found,) = session.run(["arguments"], {name: x.numpy() for name, x in inputs.items()})
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("onnx")
def test_small_regions_and_values_out_of_range_keep_their_digits():
    model = network(regions=True, input_size=96)
    image = 1.5 * torch.rand(3, 3, 96, 96) - 0.25
    mask = torch.zeros(3, 1, 96, 96)
    mask[0, 0, 7, 9], mask[1, 0, :2, :2] = 1, 1e-3
    mask[2], mask[2, 0, 90, 3] = 1, 0
    check(model, OnnxEngine(model), image, mask)


@pytest.mark.usefixtures("onnx")
def test_what_the_engine_is_given_is_checked():
    run = OnnxEngine(network())
    image, mask = sample()
    with pytest.raises(TypeError, match="image: expected a floating-point"):
        run((image * 255).byte(), mask)
    with pytest.raises(ValueError, match="mask: expected"):
        run(image, mask[:, :, 1:])
    with pytest.raises(TypeError, match="threads: expected int"):
        OnnxEngine(run.network, threads=1.5)
    with pytest.raises(ValueError, match="threads: expected a positive"):
        OnnxEngine(run.network, threads=0)


@pytest.mark.usefixtures("onnx")
def test_choosing():
    assert choose_engine() == choose_engine("onnxruntime", "cpu") == "onnxruntime"
    assert choose_engine("torch") == choose_engine("auto", "cuda:1") == "torch"
    with pytest.raises(ValueError, match="on the CPU only, and the device is cuda"):
        choose_engine("onnxruntime", "cuda")


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_choosing_where_a_part_is_missing(monkeypatch, missing):
    found = {"onnx": sys, "onnxruntime": sys}
    monkeypatch.setattr(engine, "importlib", _Importer({**found, missing: None}))
    assert choose_engine() == "torch"
    with pytest.raises(ImportError, match=rf'{missing} is not installed: pip install "vharm\[fas'):
        choose_engine("onnxruntime")
    with pytest.raises(ImportError, match="not installed"):
        OnnxEngine(network())


def test_no_such_engine():
    with pytest.raises(ValueError, match="expected one of auto, torch, onnxruntime, got 'tvm'"):
        choose_engine("tvm")
    with pytest.raises(TypeError, match="expected a name, got NoneType"):
        choose_engine(None)


class _Importer:
    """Stands for importlib where only some packages are installed."""

    def __init__(self, packages: dict[str, object]) -> None:
        self.packages = packages

    def import_module(self, name: str) -> object:
        if self.packages[name] is None:
            raise ModuleNotFoundError(name)
        return self.packages[name]

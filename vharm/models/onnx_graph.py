# SPDX-License-Identifier: Apache-2.0
"""A Harmonizer as an ONNX model: the same numbers, in a form that other engines run faster.

The graph is written from the modules, not traced. What can be known beforehand is: batch
normalisations go into their convolutions, both branches of the stem are one convolution over
(image, mask, 1 - mask), "same" padding is fixed by the size, and the regressor, an affine map, is
one matrix.

Shapes use B batch (left open in the model), C channels, H height, W width, P = H W, K arguments.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vharm.models.efficientnet import ConvNorm, Encoder, SqueezeExcite, same_padding
from vharm.models.regions import BINS, COVARIANCE_SCALE, LEAST_WEIGHT, RegionColours

if TYPE_CHECKING:
    from vharm.models.harmonizer import Harmonizer

# The oldest pair that has every operator used here, so that older runtimes read the model too.
OPSET = 17
IR_VERSION = 8

RAMPS = BINS - 1
STRIP = 4096


def onnx_model(network: Harmonizer, height: int, width: int) -> bytes:
    """A network in evaluation mode as a serialized ONNX model.

    Args:
        network: its weights are copied; later changes to it do not reach the model.
        height: of the images the model takes; nothing is resized.
        width: likewise.

    Returns:
        A model with the inputs `image` [B,3,height,width] and `mask` [B,1,height,width] and the
        output `arguments` [B,K], all float32; they mean what `Harmonizer.forward`'s do.

    Raises:
        ImportError: the package `onnx` is not installed.
        ValueError: the size is not positive.
    """
    import onnx

    if height < 1 or width < 1:
        raise ValueError(f"height, width: expected a positive size, got {height}x{width}")
    graph = _Graph()
    with torch.no_grad():
        outside = graph.add("Sub", graph.constant(torch.ones(1)), "mask")
        weights = graph.add("Concat", "mask", outside, axis=1)
        seen = graph.add("Concat", "image", weights, axis=1)
        features, size = _encoder(graph, network.encoder, seen, (height, width))
    matrix, bias = _affine(network.regressor)
    parts = [graph.add("Flatten", graph.add("GlobalAveragePool", features))]
    if network.colours is not None:
        parts.append(_pooled(graph, features, "mask", (height, width), size))
        parts.append(_colours(graph, network.colours, "image", weights, (height, width)))
        matrix = _interleave(matrix, network.encoder.channels)
    joined = parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)
    graph.linear(joined, matrix, bias, output="arguments")
    shapes = {
        "image": ["B", 3, height, width],
        "mask": ["B", 1, height, width],
        "arguments": ["B", len(network.filters)],
    }
    values = {
        name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    content = onnx.helper.make_graph(
        graph.nodes, "harmonizer", [values["image"], values["mask"]], [values["arguments"]],
        graph.constants,
    )  # fmt: skip
    model = onnx.helper.make_model(
        content, opset_imports=[onnx.helper.make_opsetid("", OPSET)], producer_name="vharm"
    )
    model.ir_version = IR_VERSION
    return model.SerializeToString()


class _Graph:
    """Nodes and constants in the making; values are known by their names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """A node of one output, whose name is returned."""
        import onnx

        output = f"v{len(self.nodes)}" if output is None else output
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Tensor) -> str:
        """Float tensors become float32, others int64."""
        import onnx

        name = f"c{len(self.constants)}"
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value.long()
        self.constants.append(onnx.numpy_helper.from_array(value.contiguous().numpy(), name))
        return name

    def reshape(self, value: str, *shape: int) -> str:
        """0 keeps an axis, -1 is worked out."""
        return self.add("Reshape", value, self.constant(torch.tensor(shape)))

    def split(self, value: str, sizes: list[int], axis: int) -> list[str]:
        import onnx

        if len(sizes) == 1:
            return [value]
        outputs = [f"v{len(self.nodes)}_{i}" for i in range(len(sizes))]
        inputs = [value, self.constant(torch.tensor(sizes))]
        self.nodes.append(onnx.helper.make_node("Split", inputs, outputs, axis=axis))
        return outputs

    def linear(self, value: str, matrix: Tensor, bias: Tensor, output: str | None = None) -> str:
        """[B,n] by a matrix [m,n] and a bias [m] to [B,m]."""
        constants = self.constant(matrix), self.constant(bias)
        return self.add("Gemm", value, *constants, transB=1, output=output)

    def clip(self, value: str, low: float, high: float) -> str:
        bounds = (self.constant(torch.tensor(bound)) for bound in (low, high))
        return self.add("Clip", value, *bounds)

    def at_least(self, value: str, low: float) -> str:
        return self.add("Max", value, self.constant(torch.tensor(low)))

    def silu(self, value: str) -> str:
        return self.add("Mul", value, self.add("Sigmoid", value))

    def activation(self, kind: str, value: str) -> str:
        return self.silu(value) if kind == "silu" else self.clip(value, 0.0, 6.0)


def folded(layer: ConvNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of the one convolution that does what a `ConvNorm` does."""
    norm = layer.norm
    gain = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    weight = layer.conv.weight.double() * gain[:, None, None, None]
    return weight, norm.bias.double() - norm.running_mean.double() * gain


def _convolution(
    graph: _Graph, value: str, layer: ConvNorm, size: tuple[int, int],
    weight: Tensor | None = None, bias: Tensor | None = None,
) -> tuple[str, tuple[int, int]]:  # fmt: skip
    """A `ConvNorm` on a value of a known size; with `weight` and `bias` these in place of its."""
    if weight is None or bias is None:
        weight, bias = folded(layer)
    kernel, stride = layer.conv.kernel_size, layer.conv.stride
    rows, columns = (same_padding(size[i], kernel[i], stride[i]) for i in (0, 1))
    out = graph.add(
        "Conv", value, graph.constant(weight), graph.constant(bias), kernel_shape=list(kernel),
        strides=list(stride), pads=[rows[0], columns[0], rows[1], columns[1]],
        group=layer.conv.groups,
    )  # fmt: skip
    return out, (-(-size[0] // stride[0]), -(-size[1] // stride[1]))


def _stem(encoder: Encoder) -> tuple[Tensor, Tensor]:
    """Both branches as one convolution over (image, mask, 1 - mask), 5 channels."""
    front, front_bias = folded(encoder.stem_foreground)
    back, back_bias = folded(encoder.stem_background)
    nothing = torch.zeros_like(front[:, :1])
    front = torch.cat((front, nothing), 1)
    back = torch.cat((back[:, :3], nothing, back[:, 3:]), 1)
    return torch.cat((front, back)), torch.cat((front_bias, back_bias))


def _gate(graph: _Graph, value: str, gate: SqueezeExcite) -> str:
    means = graph.add("GlobalAveragePool", value)
    for layer in (gate.reduce, gate.restore):
        constants = graph.constant(layer.weight), graph.constant(layer.bias)
        means = graph.add("Conv", means, *constants)
        means = graph.silu(means) if layer is gate.reduce else graph.add("Sigmoid", means)
    return graph.add("Mul", value, means)


def _encoder(
    graph: _Graph, encoder: Encoder, value: str, size: tuple[int, int]
) -> tuple[str, tuple[int, int]]:
    """Features [B,C,h,w] of (image, mask, 1 - mask) [B,5,H,W], and their size."""
    kind = encoder.config.activation
    value, size = _convolution(graph, value, encoder.stem_foreground, size, *_stem(encoder))
    value = graph.activation(kind, value)
    for block in encoder.blocks:
        hidden, before = value, size
        if block.expand is not None:
            hidden, size = _convolution(graph, hidden, block.expand, before)
            hidden = graph.activation(kind, hidden)
        hidden, size = _convolution(graph, hidden, block.depthwise, size)
        hidden = graph.activation(kind, hidden)
        if block.gate is not None:
            hidden = _gate(graph, hidden, block.gate)
        hidden, size = _convolution(graph, hidden, block.project, size)
        value = graph.add("Add", value, hidden) if block.residual else hidden
    if encoder.head is None:
        return value, size
    value, size = _convolution(graph, value, encoder.head, size)
    return graph.activation(kind, value), size


def _affine(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Matrix [K,n] and bias [K], float64, of an affine module from [B,n] to [B,K]."""
    exact = copy.deepcopy(module).cpu().double()
    inputs = exact.shared.in_features
    with torch.enable_grad():
        origin = torch.zeros(1, inputs, dtype=torch.float64, requires_grad=True)
        bias = exact(origin)[0]
        rows = [torch.autograd.grad(one, origin, retain_graph=True)[0][0] for one in bias]
    return torch.stack(rows), bias.detach()


def _interleave(matrix: Tensor, channels: int) -> Tensor:
    """Columns (foreground, background) of each channel side by side, as `_pooled` gives them."""
    everywhere, regions, rest = matrix.split(
        (channels, 2 * channels, matrix.shape[1] - 3 * channels), 1
    )
    regions = regions.unflatten(1, (2, channels)).transpose(1, 2).flatten(1)
    return torch.cat((everywhere, regions, rest), 1)


def _pooled(
    graph: _Graph, features: str, mask: str, size: tuple[int, int], small: tuple[int, int]
) -> str:
    """[B,2C]: each channel's means over foreground and background, as in `pool_regions`."""
    averages = [
        F.adaptive_avg_pool1d(torch.eye(a, dtype=torch.float64)[None], b)[0]
        for a, b in zip(size, small, strict=True)
    ]
    rows = graph.add("MatMul", graph.constant(averages[0].T), mask)
    inside = graph.reshape(graph.add("MatMul", rows, graph.constant(averages[1])), 0, 1, -1)
    outside = graph.add("Sub", graph.constant(torch.ones(1)), inside)
    weights = graph.add("Concat", inside, outside, axis=1)
    total = graph.add("ReduceSum", weights, graph.constant(torch.tensor([2])), keepdims=1)
    share = graph.add("Div", weights, graph.at_least(total, LEAST_WEIGHT))
    flat = graph.reshape(features, 0, 0, -1)
    means = graph.add("MatMul", flat, graph.add("Transpose", share, perm=[0, 2, 1]))
    return graph.add("Flatten", means)


def _colours(
    graph: _Graph, colours: RegionColours, image: str, weights: str, size: tuple[int, int]
) -> str:
    """[B,width] as `RegionColours` gives it, of an image and the regions' weights [B,2,H,W].

    A soft histogram, cumulated, is what is not yet climbed of the ramps; the histogram itself is
    their differences. Both go into the first layer's matrix.
    """
    pixels = size[0] * size[1]
    flat = graph.reshape(weights, 0, 2, pixels)
    climbed = _ramps(graph, image, flat, pixels)
    total = graph.add("ReduceSum", flat, graph.constant(torch.tensor([2])), keepdims=0)  # [B,2]
    shared = graph.add("Reciprocal", graph.at_least(total, LEAST_WEIGHT))
    some = graph.add("Greater", total, graph.constant(torch.tensor(0.0)))
    safe = graph.add("Where", some, total, graph.constant(torch.tensor(1.0)))
    parts = [
        graph.add("Mul", total, shared),
        graph.add("Flatten", graph.add("Mul", climbed, graph.reshape(shared, 0, 1, 2))),
        *_moments(graph, image, flat, graph.add("Reciprocal", safe), pixels),
    ]
    first, _, second, _ = colours.layers
    value = graph.add("Concat", *parts, axis=1)
    value = graph.linear(value, first.weight.double() @ _placing(), first.bias)
    value = graph.linear(graph.add("Relu", value), second.weight, second.bias)
    return graph.add("Relu", value)


def _ramps(graph: _Graph, image: str, weights: str, pixels: int) -> str:
    """[B,3 RAMPS,2]: sums over P of clip(v (BINS - 1) - k, 0, 1) under weights [B,2,P].

    In strips: the ramps of a whole picture would pass through memory, those of a strip stay in
    the cache.
    """
    full, rest = divmod(pixels, STRIP)
    sizes = [STRIP] * full + [rest] * (rest > 0)
    place = graph.add("Mul", image, graph.constant(torch.tensor(float(RAMPS))))
    place = graph.reshape(place, 0, 3, 1, pixels)
    columns = graph.add("Transpose", weights, perm=[0, 2, 1])
    begin = graph.constant(torch.arange(RAMPS, dtype=torch.float32)[:, None])
    places, columns = graph.split(place, sizes, axis=3), graph.split(columns, sizes, axis=1)
    sums = []
    for strip, column in zip(places, columns, strict=True):
        ramps = graph.clip(graph.add("Sub", strip, begin), 0.0, 1.0)
        ramps = graph.reshape(ramps, 0, 3 * RAMPS, -1)
        sums.append(graph.add("MatMul", ramps, column))
    return graph.add("Sum", *sums)


def _moments(graph: _Graph, image: str, weights: str, share: str, pixels: int) -> tuple[str, str]:
    """Means [B,2*3] and covariances [B,2*9] under weights [B,2,P]; share is 1 / their sums."""
    flat = graph.reshape(image, 0, 3, pixels)
    spread = graph.reshape(weights, 0, 2, 1, pixels), graph.reshape(image, 0, 1, 3, pixels)
    weighted = graph.reshape(graph.add("Mul", *spread), 0, 6, pixels)
    share = graph.reshape(share, 0, 2, 1)
    sums = graph.add("ReduceSum", weighted, graph.constant(torch.tensor([2])), keepdims=0)
    mean = graph.add("Mul", graph.reshape(sums, 0, 2, 3), share)
    squares = graph.add("MatMul", weighted, graph.add("Transpose", flat, perm=[0, 2, 1]))
    squares = graph.add("Mul", graph.reshape(squares, 0, 2, 9), share)
    outer = graph.add(
        "MatMul", graph.reshape(mean, 0, 2, 3, 1), graph.reshape(mean, 0, 2, 1, 3)
    )  # fmt: skip
    covariance = graph.add("Sub", squares, graph.reshape(outer, 0, 2, 9))
    return graph.add("Flatten", mean), graph.add("Flatten", covariance)


def _placing() -> Tensor:
    """From what `_colours` puts together to the inputs of `RegionColours.layers`, float64."""
    width = 2 * 3 * BINS + 3 + 6
    ramps, mean, covariance = 2, 2 + 6 * RAMPS, 2 + 6 * RAMPS + 6
    placing = torch.zeros(2 * width, covariance + 18, dtype=torch.float64)
    upper = [3 * i + j for i in range(3) for j in range(i, 3)]
    for region in range(2):
        start = region * width
        for channel in range(3):
            for k in range(BINS):
                below = torch.zeros(covariance + 18, dtype=torch.float64)
                # All that is in bins up to k: everything, but for what has climbed ramp k.
                below[region] = 1
                if k < RAMPS:
                    below[ramps + 2 * (RAMPS * channel + k) + region] = -1
                row = start + BINS * channel + k
                placing[row + 3 * BINS] = below
                placing[row] = below if k == 0 else below - placing[row + 3 * BINS - 1]
            placing[start + 6 * BINS + channel, mean + 3 * region + channel] = 1
        for i, entry in enumerate(upper):
            placing[start + 6 * BINS + 3 + i, covariance + 9 * region + entry] = COVARIANCE_SCALE
    return placing

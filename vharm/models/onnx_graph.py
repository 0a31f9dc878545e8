# SPDX-License-Identifier: Apache-2.0
"""A Harmonizer as an ONNX model: the same numbers, in a form that other engines run faster.

The graph is written from the modules, not traced. What can be known beforehand is: batch
normalisations go into their convolutions, both branches of the stem are one convolution over
(image, mask, 1 - mask), "same" padding is fixed by the size, and the regressor, an affine map, is
one matrix. What a network is told of both regions' colours (`RegionColours`) is left to the caller:
its histograms are scattered sums, which those engines have no fast form of.

Shapes use B batch (left open in the model), C channels, H height, W width, K arguments.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vharm.models.efficientnet import ConvNorm, Encoder, SqueezeExcite, same_padding
from vharm.models.regions import LEAST_WEIGHT

if TYPE_CHECKING:
    from vharm.models.harmonizer import Harmonizer

# The oldest pair that has every operator used here, so that older runtimes read the model too.
OPSET = 17
IR_VERSION = 8


def onnx_model(network: Harmonizer, height: int, width: int) -> bytes:
    """A network in evaluation mode as a serialized ONNX model.

    Args:
        network: its weights are copied; later changes to it do not reach the model.
        height: of the images the model takes; nothing is resized.
        width: likewise.

    Returns:
        A model with the inputs `image` [B,3,height,width] and `mask` [B,1,height,width] and the
        output `arguments` [B,K], all float32; they mean what `Harmonizer.forward`'s do. With
        `network.colours` it has a third input `colours` [B,width], float32: what
        `network.colours(image, mask)` gives for the same image and mask.

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
        seen = graph.add("Concat", "image", "mask", outside, axis=1)
        features, size = _encoder(graph, network.encoder, seen, (height, width))
    matrix, bias = _affine(network.regressor)
    parts = [graph.add("Flatten", graph.add("GlobalAveragePool", features))]
    if network.colours is not None:
        parts.append(_pooled(graph, features, "mask", (height, width), size))
        parts.append("colours")
        matrix = _interleave(matrix, network.encoder.channels)
    joined = parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)
    constants = graph.constant(matrix), graph.constant(bias)
    graph.add("Gemm", joined, *constants, transB=1, output="arguments")
    shapes = {"image": ["B", 3, height, width], "mask": ["B", 1, height, width]}
    if network.colours is not None:
        shapes["colours"] = ["B", network.colours.width]
    shapes["arguments"] = ["B", len(network.filters)]
    *inputs, output = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    )
    content = onnx.helper.make_graph(
        graph.nodes, "harmonizer", inputs, [output], graph.constants
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

    def clip(self, value: str, low: float, high: float) -> str:
        bounds = (self.constant(torch.tensor(bound)) for bound in (low, high))
        return self.add("Clip", value, *bounds)

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
    total = graph.add("Max", total, graph.constant(torch.tensor(LEAST_WEIGHT)))
    share = graph.add("Div", weights, total)
    flat = graph.reshape(features, 0, 0, -1)
    means = graph.add("MatMul", flat, graph.add("Transpose", share, perm=[0, 2, 1]))
    return graph.add("Flatten", means)

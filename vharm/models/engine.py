# SPDX-License-Identifier: Apache-2.0
"""What runs a network: PyTorch, or ONNX Runtime, which is faster on a CPU."""

from __future__ import annotations

import copy
import importlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vharm.ops import _native

if TYPE_CHECKING:
    from vharm.models.harmonizer import Harmonizer
    from vharm.models.regions import RegionColours

ENGINES = ("auto", "torch", "onnxruntime")
INSTALL = 'pip install "vharm[fast]"'


def why_not_onnxruntime(device: str | torch.device = "cpu") -> str | None:
    """None where networks on the device can run in ONNX Runtime, else the reason."""
    device = torch.device(device)
    if device.type != "cpu":
        return f"it is used on the CPU only, and the device is {device}"
    for package in ("onnxruntime", "onnx"):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError:
            return f"{package} is not installed: {INSTALL}"
        except ImportError as error:
            return f"{package} does not load: {error}"
    return None


def choose_engine(name: str = "auto", device: str | torch.device = "cpu") -> str:
    """The engine of that name: "torch" or "onnxruntime".

    Args:
        name: "auto" takes ONNX Runtime on the CPU where it is installed, else PyTorch.
        device: where the network is to run.

    Raises:
        TypeError: `name` is not a string.
        ValueError: there is no such engine, or ONNX Runtime cannot run on the device.
        ImportError: it is not installed; the message says how it is.
    """
    if not isinstance(name, str):
        raise TypeError(f"engine: expected a name, got {type(name).__name__}")
    if name not in ENGINES:
        raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {name!r}")
    if name == "torch":
        return name
    reason = why_not_onnxruntime(device)
    if name == "auto":
        return "onnxruntime" if reason is None else "torch"
    if reason is not None:
        kind = ValueError if torch.device(device).type != "cpu" else ImportError
        raise kind(f"engine: onnxruntime cannot be used: {reason}")
    return name


class OnnxEngine:
    """A `Harmonizer` in ONNX Runtime on the CPU, called like the network.

    The model is made at the first call, and again where the size of the images changes, from the
    weights the network has then. It computes what the network does in evaluation mode, in float32
    and without gradients; what it is told of the regions' colours, outside of ONNX Runtime.

    Args:
        network: see above.
        threads: threads it may use; None takes as many as torch does when the model is made. They
            take pictures of a batch each for itself, and share the work on a single picture, where
            it is given no fewer than kernels are.
            Between calls none of them spins, so that they take nothing from decoding and encoding.

    Raises:
        ImportError: onnxruntime or onnx is not installed.
        TypeError, ValueError: `threads` is not a positive whole number.
    """

    def __init__(self, network: Harmonizer, threads: int | None = None) -> None:
        choose_engine("onnxruntime")
        if threads is not None:
            if isinstance(threads, bool) or not isinstance(threads, int):
                raise TypeError(f"threads: expected int or None, got {type(threads).__name__}")
            if threads < 1:
                raise ValueError(f"threads: expected a positive number, got {threads}")
        self.network = network
        self.threads = threads
        self._made: _Model | None = None

    def __call__(self, image: Tensor, mask: Tensor, *, resize: bool = True) -> Tensor:
        """Arguments [B,K], float32 on the CPU; takes and raises what `Harmonizer.forward` does."""
        image, mask = self.network.prepare(image.detach(), mask.detach(), resize=resize)
        if len(image) == 0:
            return torch.zeros(0, len(self.network.filters))
        image, mask = (x.cpu().float().contiguous() for x in (image, mask))
        size = (image.shape[2], image.shape[3])
        if self._made is None or self._made.size != size:
            self._made = _Model(self.network, size, self.threads or torch.get_num_threads())
        return self._made.run(image, mask)

    def __getstate__(self) -> dict[str, Any]:
        # A session cannot be copied or sent to another process; there it is made anew.
        return {**self.__dict__, "_made": None}


class _Model:
    """A network's model for images of one size, and the sessions that run it."""

    def __init__(self, network: Harmonizer, size: tuple[int, int], threads: int) -> None:
        from vharm.models.onnx_graph import onnx_model

        self.size = size
        self.threads = threads
        self._content = onnx_model(network, *size)
        self._sessions: dict[int, Any] = {}
        # A copy, since the model holds the other weights as they are now.
        self._colours: RegionColours | None = None
        if network.colours is not None:
            self._colours = copy.deepcopy(network.colours).cpu().float()

    @torch.no_grad()
    def run(self, image: Tensor, mask: Tensor) -> Tensor:
        """Arguments [B,K] of images [B,3,H,W] and masks [B,1,H,W], float32 and contiguous."""
        inputs = {"image": image, "mask": mask}
        if self._colours is not None:
            inputs["colours"] = self._colours(image, mask)
        # Threads that share a picture wait for each other at every layer, and lose time where
        # decoding and encoding use the same cores; with a picture each they meet once.
        parts = min(self.threads, len(image))
        session = self._session(_native.threads(self.threads) if parts == 1 else 1)
        cut = [torch.tensor_split(x, parts) for x in inputs.values()]
        feeds = [
            {name: x.numpy() for name, x in zip(inputs, part, strict=True)}
            for part in zip(*cut, strict=True)
        ]

        def arguments(feed: dict[str, Any]) -> Tensor:
            return torch.from_numpy(session.run(None, feed)[0])

        if parts == 1:
            return arguments(feeds[0])
        # Threads cost little beside a network; kept, they would not outlive a fork.
        with ThreadPoolExecutor(parts - 1) as pool:
            others = [pool.submit(arguments, feed) for feed in feeds[1:]]
            return torch.cat([arguments(feeds[0]), *(other.result() for other in others)])

    def _session(self, threads: int) -> Any:
        """The session whose runs take that many threads each; made when first asked for."""
        if threads not in self._sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.log_severity_level = 3  # errors; they are raised too
            self._sessions[threads] = onnxruntime.InferenceSession(
                self._content, options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[threads]

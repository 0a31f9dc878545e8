# SPDX-License-Identifier: Apache-2.0
"""What runs a network: PyTorch, or ONNX Runtime, which is faster on a CPU."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from vharm.models.harmonizer import Harmonizer

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
    and without gradients.

    Args:
        network: see above.
        threads: threads it may use; None takes as many as torch does at the first call. They
            sleep between calls, so that they take nothing from decoding and encoding.

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
        self._made: tuple[tuple[int, int], Any] | None = None

    def __call__(self, image: Tensor, mask: Tensor, *, resize: bool = True) -> Tensor:
        """Arguments [B,K], float32 on the CPU; takes and raises what `Harmonizer.forward` does."""
        image, mask = self.network.prepare(image.detach(), mask.detach(), resize=resize)
        if len(image) == 0:
            return torch.zeros(0, len(self.network.filters))
        session = self._session((image.shape[2], image.shape[3]))
        inputs = {"image": image, "mask": mask}
        found = session.run(
            None, {name: x.cpu().float().contiguous().numpy() for name, x in inputs.items()}
        )
        return torch.from_numpy(found[0])

    def _session(self, size: tuple[int, int]) -> Any:
        if self._made is None or self._made[0] != size:
            self._made = (size, self._make(size))
        return self._made[1]

    def _make(self, size: tuple[int, int]) -> Any:
        import onnxruntime

        from vharm.models.onnx_graph import onnx_model

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors; they are raised too
        model = onnx_model(self.network, *size)
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def __getstate__(self) -> dict[str, Any]:
        # A session cannot be copied or sent to another process; there it is made anew.
        return {**self.__dict__, "_made": None}

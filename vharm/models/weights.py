# SPDX-License-Identifier: Apache-2.0
"""Weight files: what vharm writes, and published checkpoints it reads.

A vharm weight file is safetensors with float16 tensors and one metadata entry, `vharm`, holding
JSON: format version, architecture, configuration, free metadata, SHA-256 of the tensors. One
entry, because safetensors writes several in no fixed order, and equal weights give equal bytes.

A published checkpoint (`.pth`, `.pt`, `.ckpt`) is read by torch's restricted unpickler and its
names are translated by the architecture's `KeyMap`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FORMAT_VERSION = 1
HEADER = "vharm"
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt")

# Only averages without a momentum use this counter, and no network here has one.
UNUSED_BUFFER = "num_batches_tracked"

# Half a unit in float16's last place is 2^-11; a tensor that loses more stays float32.
HALF_LOSS = 1e-3

NAMES_SHOWN = 3


class WeightsError(ValueError):
    """A weight file that cannot be written or used; the message names the file and the reason."""


@dataclass(frozen=True)
class KeyMap:
    """Translation of a published checkpoint's names into a vharm model's.

    Attributes:
        rules: (pattern, replacement) pairs; the first pattern that matches a name's beginning is
            replaced, and a name that matches none stays as it is.
        ignored: beginnings of names that have no place in the model and are left out.
    """

    rules: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...] = ()

    def translate(self, name: str) -> str:
        """The model's name for a published `name`."""
        for pattern, replacement in self.rules:
            renamed, count = re.subn(rf"\A{pattern}(?=\.)", replacement, name)
            if count:
                return renamed
        return name


# Left: names in EfficientNet-PyTorch checkpoints. Right: names inside `models.Encoder`.
_BLOCK_RULES = tuple(
    (rf"_blocks\.(\d+)\.{published}", rf"blocks.\1.{own}")
    for published, own in (
        ("_expand_conv", "expand.conv"),
        ("_bn0", "expand.norm"),
        ("_depthwise_conv", "depthwise.conv"),
        ("_bn1", "depthwise.norm"),
        ("_se_reduce", "gate.reduce"),
        ("_se_expand", "gate.restore"),
        ("_project_conv", "project.conv"),
        ("_bn2", "project.norm"),
    )
)
_ENCODER_RULES = (
    *_BLOCK_RULES,
    ("_conv_fg", "stem_foreground.conv"),
    ("_bn_fg", "stem_foreground.norm"),
    ("_conv_bg", "stem_background.conv"),
    ("_bn_bg", "stem_background.norm"),
    ("_conv_head", "head.conv"),
    ("_bn1", "head.norm"),
)

KEY_MAPS: dict[str, KeyMap] = {
    "harmonizer": KeyMap(
        rules=(
            *((rf"backbone\.{a}", rf"encoder.{b}") for a, b in _ENCODER_RULES),
            (r"regressor\.f", "regressor.shared"),
            (r"regressor\.g", "regressor.first"),
            (r"regressor\.headers\.(\d+)\.0", r"regressor.heads.\1.feature"),
            (r"regressor\.headers\.(\d+)\.1", r"regressor.heads.\1.argument"),
        ),
        ignored=("backbone._fc.",),
    ),
    # An ImageNet classifier; `load_imagenet_backbone` splits its stem over the two branches.
    "efficientnet": KeyMap(
        rules=(("_conv_stem", "stem.conv"), ("_bn0", "stem.norm"), *_ENCODER_RULES),
        ignored=("_fc.",),
    ),
}


@dataclass(frozen=True)
class Weights:
    """Tensors of a file under a vharm model's names, float32 on the CPU.

    Attributes:
        path: where they came from, for messages.
        architecture: the network they belong to.
        tensors: name to tensor.
        config: what the file says about the network; empty for a published checkpoint.
        metadata: whatever else was saved with them.
        notes: what was left out while reading, in sentences.
    """

    path: Path
    architecture: str
    tensors: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def load_into(self, model: nn.Module) -> None:
        """Fill `model`, keeping its dtype and device; on an error it is left as it was.

        Raises:
            WeightsError: names or shapes do not match, or the model says (by `settings()`) that
                it was built otherwise than the file's configuration.
        """
        settings = getattr(model, "settings", dict)()
        # Equal shapes do not make equal networks: two filters may have changed places.
        for key, expected in json.loads(json.dumps(settings)).items():
            if key in self.config and self.config[key] != expected:
                raise WeightsError(
                    f"{self.path}: made for a model with another {key}: "
                    f"expected {expected}, found {self.config[key]}"
                )
        own = stored_state(model)
        _check_fit(self.path, own, self.tensors)
        model.load_state_dict(self.tensors, strict=False)


def save_weights(
    path: str | PathLike[str],
    model: nn.Module,
    *,
    architecture: str,
    config: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a model's weights as float16 safetensors.

    The file appears whole or not at all. A tensor float16 cannot hold (too large, or all of it
    tiny) is stored as float32.

    Args:
        path: file ending in `.safetensors`; its folder must exist.
        model: any module; its `state_dict` is saved.
        architecture: name that `load_weights` will ask for, such as "harmonizer".
        config: what is needed to build the model again, as JSON values.
        metadata: anything else worth keeping (data set, steps, scores), as JSON values.

    Raises:
        TypeError, ValueError: `config` or `metadata` cannot be written as JSON.
        WeightsError: wrong ending, or a weight is not finite.
    """
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: expected a name ending in .safetensors")
    tensors = {name: _to_half(tensor.cpu()) for name, tensor in stored_state(model).items()}
    _check_finite(path, tensors)
    header = {
        "format_version": FORMAT_VERSION,
        "architecture": architecture,
        "config": dict(config),
        "metadata": dict(metadata or {}),
        "sha256": _digest(tensors),
    }
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    _write_atomically(path, save(tensors, {HEADER: text}))


def inspect_weights(path: str | PathLike[str]) -> dict[str, Any]:
    """Read what a vharm weight file says of itself, without its tensors.

    Returns:
        `format_version`, `architecture`, `config`, `metadata`, `sha256`, `parameters` (numbers
        stored, with buffers), `size` (bytes), `tensors` (name to {"dtype", "shape"}).

    Raises:
        WeightsError: the file is missing, unreadable or not a vharm weight file.
    """
    path = _existing(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: only .safetensors files carry a header, found {path.suffix!r}")
    header, tensors = _read_safetensors(path, tensors=False)
    return {
        **header,
        "parameters": sum(math.prod(t["shape"]) for t in tensors.values()),
        "size": path.stat().st_size,
        "tensors": tensors,
    }


def load_weights(
    path: str | PathLike[str], model: nn.Module | None = None, *, architecture: str
) -> Weights:
    """Read a weight file or a published checkpoint, and fill `model` where one is given.

    Args:
        path: a vharm `.safetensors` file, or a `.pth`, `.pt` or `.ckpt` checkpoint: a state dict,
            or a dict that holds one under `model`, names with or without `module.`,
            `module.model.` or `model.` before them.
        model: module to fill; it keeps its dtype and device.
        architecture: the network the file must belong to. For a checkpoint, which does not say,
            it chooses the `KeyMap`; names that are vharm's already pass unchanged.

    Returns:
        The tensors in float32 under the model's names, with the file's configuration.

    Raises:
        WeightsError: the file is missing, unreadable, damaged or of another architecture; names
            or shapes do not match `model`; a value is not finite.
    """
    path = _existing(path)
    if path.suffix == ".safetensors":
        weights = _load_own(path, architecture)
    elif path.suffix in CHECKPOINT_SUFFIXES:
        weights = _load_checkpoint(path, architecture)
    else:
        endings = ", ".join((".safetensors", *CHECKPOINT_SUFFIXES))
        raise WeightsError(f"{path}: expected a file ending in {endings}, found {path.suffix!r}")
    if model is not None:
        weights.load_into(model)
    return weights


def _load_own(path: Path, architecture: str) -> Weights:
    header, tensors = _read_safetensors(path, tensors=True)
    if header["architecture"] != architecture:
        raise WeightsError(
            f"{path}: holds weights of {header['architecture']!r}, expected {architecture!r}"
        )
    if _digest(tensors) != header["sha256"]:
        raise WeightsError(f"{path}: damaged: the tensors do not match the SHA-256 in the header")
    tensors = {name: _to_single(tensor) for name, tensor in tensors.items()}
    _check_finite(path, tensors)
    return Weights(path, architecture, tensors, header["config"], header["metadata"])


def _read_safetensors(path: Path, *, tensors: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `vharm` header, and the tensors or (without `tensors`) their dtypes and shapes."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            content = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            for name, part in content.items():
                described = {"dtype": part.get_dtype(), "shape": part.get_shape()}
                content[name] = file.get_tensor(name) if tensors else described
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: unreadable or truncated: {error}") from error
    if HEADER not in metadata:
        raise WeightsError(f"{path}: not a vharm weight file: its header has no {HEADER!r} entry")
    return _parse_header(path, metadata[HEADER]), content


def _parse_header(path: Path, text: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except json.JSONDecodeError as error:
        raise WeightsError(f"{path}: the header is not JSON: {error}") from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if version != FORMAT_VERSION:
        raise WeightsError(f"{path}: expected format version {FORMAT_VERSION}, found {version}")
    kinds = {"architecture": str, "config": dict, "metadata": dict, "sha256": str}
    for key, kind in kinds.items():
        if not isinstance(header.get(key), kind):
            raise WeightsError(f"{path}: the header has no {key!r}, or not as {kind.__name__}")
    return header


def _load_checkpoint(path: Path, architecture: str) -> Weights:
    keys = KEY_MAPS.get(architecture, KeyMap(()))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise anything the unpickler can run into
        # What follows the first line advises unpickling without restriction.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(
            f"{path}: unreadable, truncated or not plain tensors: {reason}"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path}: expected a state dict, found {type(content).__name__}")
    tensors: dict[str, Tensor] = {}
    ignored = []
    for published, tensor in content.items():
        if not isinstance(published, str) or not isinstance(tensor, Tensor):
            raise WeightsError(
                f"{path}: {published!r}: expected a tensor, found {type(tensor).__name__}"
            )
        name = re.sub(r"\A(module\.model\.|module\.|model\.)", "", published)
        if name.endswith(UNUSED_BUFFER):
            continue
        if name.startswith(keys.ignored):
            ignored.append(name)
            continue
        name = keys.translate(name)
        if name in tensors:
            raise WeightsError(f"{path}: more than one tensor for {name!r} ({published!r} is one)")
        tensors[name] = _to_single(tensor)
    _check_finite(path, tensors)
    notes = (f"left out, having no place in the model: {_some(ignored)}",) if ignored else ()
    return Weights(path, architecture, tensors, notes=notes)


def _existing(path: str | PathLike[str]) -> Path:
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    return path


def _check_fit(path: Path, own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing = _some(name for name in own if name not in found)
    unexpected = _some(name for name in found if name not in own)
    if own.keys() != found.keys():
        raise WeightsError(
            f"{path}: names do not match the model: missing {missing}, unexpected {unexpected}"
        )
    for name, tensor in own.items():
        if tensor.shape != found[name].shape:
            raise WeightsError(
                f"{path}: {name}: expected shape {list(tensor.shape)}, "
                f"found {list(found[name].shape)}"
            )


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise WeightsError(f"{path}: values that are not finite in {_some(bad)}")


def _some(names: Iterable[str]) -> str:
    """How many names, and the first few of them."""
    names = list(names)
    shown = names[:NAMES_SHOWN] + ["..."] * (len(names) > NAMES_SHOWN)
    return f"{len(names)} ({', '.join(shown)})" if names else "none"


def stored_state(model: nn.Module) -> dict[str, Tensor]:
    """What of a model a vharm weight file holds, by name: all but the unused counters."""
    return {n: t.detach() for n, t in model.state_dict().items() if not n.endswith(UNUSED_BUFFER)}


def _to_half(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.contiguous()
    single = tensor.float().contiguous()
    half = single.half()
    loss = (half.float() - single).norm()
    return half if loss <= HALF_LOSS * single.norm() else single


def _to_single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

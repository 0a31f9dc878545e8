# SPDX-License-Identifier: Apache-2.0
"""Registration with `torch.library`: schema, implementation, fake kernel, gradient in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_library = torch.library.Library("vharm", "DEF")
_keep = [_library]


def define(
    schema: str,
    run: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
) -> Callable[..., Any]:
    """Defines `vharm::<schema>` and returns the callable op.

    `run` is called for CPU and CUDA tensors alike; the backend it should use stands in the
    schema. An op without `backward` refuses to be differentiated, with its name in the message:
    a silent zero gradient would be wrong (this is how double backward is refused).
    """
    name = schema.split("(", 1)[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"vharm::{name}", fake, lib=_library)
    if backward is None:

        def backward(ctx: Any, *grads: Any) -> Any:
            raise RuntimeError(
                f"vharm::{name} cannot be differentiated: double backward is not implemented; "
                'use vharm.ops.backend("reference") for second derivatives'
            )

    torch.library.register_autograd(
        f"vharm::{name}", backward, setup_context=setup_context, lib=_library
    )
    return getattr(torch.ops.vharm, name).default


def define_out(schema: str, run: Callable[..., None]) -> Callable[..., None]:
    """Defines `vharm::<schema>`, which fills tensors it was given and returns nothing.

    Such an op has no gradient; the caller refuses tensors that need one.
    """
    name = schema.split("(", 1)[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"vharm::{name}", lambda *arguments: None, lib=_library)
    return getattr(torch.ops.vharm, name).default

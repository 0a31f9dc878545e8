# SPDX-License-Identifier: Apache-2.0
"""The kernel library: fused colour operations on images, usable alone.

Every function runs on the best backend for its tensors; `vharm.ops.explain()` says which and why,
`with vharm.ops.backend("reference"):` overrides.
"""

from ._backends import Choice, backend, explain
from .attention import gated_mean, neighborhood_attention, nonlocal_attention, similarity_gate
from .filters import (
    DEFAULT_FILTERS,
    FILTERS,
    filter_chain,
    filter_chain_loss,
    filter_statistics,
)
from .lut import apply_lut, finish_lut, fit_lut, splat_lut
from .planes import plane_means, shrink_planes
from .statistics import gram, masked_histogram, masked_moments, patch_balance
from .tokens import (
    foreground_patches,
    pack_patches,
    pack_tokens,
    unpack_patches,
    unpack_tokens,
)
from .varlen import varlen_attention
from .warp import flow_consistency, flow_warp, temporal_loss
from .yuv import (
    PlaneMask,
    YuvFormat,
    apply_lut_yuv,
    composite_yuv,
    filter_chain_yuv,
    residual_yuv,
    rgb_to_yuv,
    samples_to_rgb,
    yuv_thumbnail,
    yuv_to_rgb,
)

__all__ = [
    "DEFAULT_FILTERS",
    "FILTERS",
    "Choice",
    "PlaneMask",
    "YuvFormat",
    "apply_lut",
    "apply_lut_yuv",
    "backend",
    "composite_yuv",
    "explain",
    "filter_chain",
    "filter_chain_loss",
    "filter_chain_yuv",
    "filter_statistics",
    "finish_lut",
    "fit_lut",
    "flow_consistency",
    "flow_warp",
    "foreground_patches",
    "gated_mean",
    "gram",
    "masked_histogram",
    "masked_moments",
    "neighborhood_attention",
    "nonlocal_attention",
    "pack_patches",
    "pack_tokens",
    "patch_balance",
    "plane_means",
    "residual_yuv",
    "rgb_to_yuv",
    "samples_to_rgb",
    "shrink_planes",
    "similarity_gate",
    "splat_lut",
    "temporal_loss",
    "unpack_patches",
    "unpack_tokens",
    "varlen_attention",
    "yuv_thumbnail",
    "yuv_to_rgb",
]

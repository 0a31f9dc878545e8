# SPDX-License-Identifier: Apache-2.0
"""A transformer over packed sequences: no token is ever padded.

Pre-norm blocks as in VideoMAE (Tong et al., NeurIPS 2022): biases for query and value but not for
key, GELU, LayerNorm with epsilon 1e-6.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vharm import ops

EPSILON = 1e-6
MLP_RATIO = 4


class PackedAttention(nn.Module):
    """Self-attention in which each token of `[K,width]` sees the tokens of its own sequence.

    Raises:
        ValueError: `heads` does not divide `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads: expected a divisor of the width {width}, got {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(width))
        self.value_bias = nn.Parameter(torch.zeros(width))
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Tensor, bounds: Tensor, longest: int) -> Tensor:
        bias = torch.cat((self.query_bias, torch.zeros_like(self.query_bias), self.value_bias))
        mixed = F.linear(tokens, self.qkv.weight, bias)
        query, key, value = mixed.unflatten(1, (3, self.heads, -1)).unbind(1)
        seen = ops.varlen_attention(query, key, value, bounds, max_seqlen=longest)
        return self.project(seen.flatten(1))


class Block(nn.Module):
    """Attention, then two layers for each token by itself; both added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=EPSILON)
        self.attention = PackedAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, eps=EPSILON)
        self.expand = nn.Linear(width, MLP_RATIO * width)
        self.contract = nn.Linear(MLP_RATIO * width, width)

    def forward(self, tokens: Tensor, bounds: Tensor, longest: int) -> Tensor:
        tokens = tokens + self.attention(self.attention_norm(tokens), bounds, longest)
        return tokens + self.contract(F.gelu(self.expand(self.mlp_norm(tokens))))


class Transformer(nn.Module):
    """Blocks and a last norm, over `[K,width]` tokens of sequences between `bounds` `[S+1]`."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, tokens: Tensor, bounds: Tensor, longest: int) -> Tensor:
        """The tokens in their order; `longest` is the length of the longest sequence, or more."""
        for block in self.blocks:
            tokens = block(tokens, bounds, longest)
        return self.norm(tokens)


def initialised(module: nn.Module) -> None:
    """Xavier weights and zero biases for every linear layer inside, as masked autoencoders do."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)

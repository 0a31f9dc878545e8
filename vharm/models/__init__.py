# SPDX-License-Identifier: Apache-2.0
"""Networks that estimate what a foreground needs, and the files their weights live in.

A model takes tensors and returns tensors; turning its output into a Look is a method's work.
Models import torch and `vharm.ops`, nothing of vharm above those.
"""

from __future__ import annotations

from vharm.models.chen import Chen
from vharm.models.efficientnet import (
    B0_STAGES,
    Encoder,
    EncoderConfig,
    Stage,
    load_imagenet_backbone,
)
from vharm.models.harmonizer import Harmonizer
from vharm.models.huang import Discriminator, Generator, Huang
from vharm.models.issam import Issam
from vharm.models.spynet import SpyNet
from vharm.models.unet import UNet
from vharm.models.vhmae import Painted, Vhmae, VhmaeSize
from vharm.models.weights import (
    Weights,
    WeightsError,
    inspect_weights,
    load_weights,
    save_weights,
)

__all__ = [
    "B0_STAGES",
    "Chen",
    "Discriminator",
    "Encoder",
    "EncoderConfig",
    "Generator",
    "Harmonizer",
    "Huang",
    "Issam",
    "Painted",
    "SpyNet",
    "Stage",
    "UNet",
    "Vhmae",
    "VhmaeSize",
    "Weights",
    "WeightsError",
    "inspect_weights",
    "load_imagenet_backbone",
    "load_weights",
    "save_weights",
]

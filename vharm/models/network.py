# SPDX-License-Identifier: Apache-2.0
"""What every network of vharm has in common: it is rebuilt from a weight file alone."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, ClassVar, TypeVar

from torch import nn

from vharm.models.weights import WeightsError, load_weights

Kind = TypeVar("Kind", bound="Network")


class Network(nn.Module):
    """A network whose weight file says how to build it.

    Attributes:
        architecture: its name in weight files.
    """

    architecture: ClassVar[str]

    def settings(self) -> dict[str, Any]:
        """What a weight file must say about the network to rebuild it, as plain JSON values."""
        raise NotImplementedError

    @classmethod
    def from_settings(cls: type[Kind], settings: Mapping[str, Any]) -> Kind:
        """The untrained network that `settings()` describes.

        Raises:
            TypeError, ValueError: a setting that is unknown or out of its range.
        """
        return cls(**settings)

    @classmethod
    def from_weights(cls: type[Kind], path: str | PathLike[str]) -> Kind:
        """Build the network a weight file describes and fill it; returned in eval mode.

        A published checkpoint, where one can be read, describes nothing and is taken for the
        default network.

        Raises:
            WeightsError: the file cannot be used; the message says why.
        """
        weights = load_weights(path, architecture=cls.architecture)
        try:
            network = cls.from_settings(weights.config)
        except (TypeError, ValueError) as error:
            raise WeightsError(f"{path}: bad configuration in the header: {error}") from error
        weights.load_into(network)
        return network.eval()

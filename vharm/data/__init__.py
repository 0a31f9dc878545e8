# SPDX-License-Identifier: Apache-2.0
"""Data: readers of published and home-made layouts, and composites synthesised from photographs."""

from __future__ import annotations

from .types import DataSet, Sample, SampleSet, Scene, SceneSet

__all__ = ["DataSet", "Sample", "SampleSet", "Scene", "SceneSet"]

# SPDX-License-Identifier: Apache-2.0
"""The filter kernels from another project: the folder `triton_kernels` copied, vharm not installed.

On a GPU:      python brighten.py
Without one:   TRITON_INTERPRET=1 python brighten.py
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch

# Copy the folder next to this file and `import triton_kernels`; here it is taken from the checkout.
FOLDER = Path(__file__).resolve().parents[2] / "triton_kernels"


def load_kernels(folder: Path):
    """The folder as a package of our own name, so that it meets no other `triton_kernels`."""
    spec = importlib.util.spec_from_file_location(
        "my_kernels", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["my_kernels"] = package
    spec.loader.exec_module(package)
    return importlib.import_module("my_kernels.filters")


def main() -> None:
    filters = load_kernels(FOLDER)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    image = torch.rand(1, 3, 24, 40, device=device)
    mask = torch.zeros(1, 1, 24, 40, device=device)
    mask[..., 6:18, 10:30] = 1
    amount = torch.tensor([[0.25]], device=device)
    statistics = torch.zeros(1, 1, 3, device=device)  # brightness needs no global means
    out = torch.empty_like(image)
    codes = [filters.NAMES.index("brightness")]
    filters.filter_chain(image, mask, amount, statistics, codes, 1.0, False, False, out)

    expected = torch.where(mask > 0, (image / (1 - amount.item() + 1e-6)).clamp(max=1), image)
    worst = (out - expected).abs().max().item()
    assert worst < 1e-6, worst
    assert not any(name == "vharm" or name.startswith("vharm.") for name in sys.modules)
    print(f"brightened {int(mask.sum())} pixels on {device}; largest error {worst:.1e}; no vharm")


if __name__ == "__main__":
    main()

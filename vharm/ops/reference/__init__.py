# SPDX-License-Identifier: Apache-2.0
"""Every op in plain PyTorch: the definition, the test oracle, and the backend that is always there.

Short on purpose. Computes in float32, or in the input's own float64.
"""

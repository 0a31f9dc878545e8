# SPDX-License-Identifier: Apache-2.0
"""Triton kernels that need only torch and triton: one file per op family.

The folder can be copied into another project as it is. Its functions fill tensors that the caller
allocated and register no op; `vharm.ops` adds argument checks, gradients and `torch.compile`.
They run on CUDA tensors, or on CPU tensors where `TRITON_INTERPRET=1` was set before triton was
imported.
"""

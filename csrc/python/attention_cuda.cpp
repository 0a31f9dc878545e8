// SPDX-License-Identifier: Apache-2.0
#include "vharm/attention_cuda.hpp"

#include "python/on_cuda.hpp"
// Last, as it is made of the others.
#include "python/bind_attention.hpp"

// SPDX-License-Identifier: Apache-2.0
#include "vharm/warp_cuda.hpp"

#include "python/on_cuda.hpp"
// After what it is made of.
#include "python/bind_warp.hpp"

// SPDX-License-Identifier: Apache-2.0
#include "vharm/warp.hpp"

#include "python/on_cpu.hpp"
// Last, as it is made of the others.
#include "python/bind_warp.hpp"

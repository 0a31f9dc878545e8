// SPDX-License-Identifier: Apache-2.0
#include "vharm/filters.hpp"

#include "python/on_cpu.hpp"
// Last, as it is made of the others.
#include "python/bind_filters.hpp"

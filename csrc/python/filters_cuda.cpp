// SPDX-License-Identifier: Apache-2.0
#include "vharm/filters_cuda.hpp"

#include "python/on_cuda.hpp"
// Last, as it is made of the others.
#include "python/bind_filters.hpp"

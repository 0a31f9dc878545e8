// SPDX-License-Identifier: Apache-2.0
#include "vharm/tokens.hpp"

#include "python/on_cpu.hpp"
// After what it is made of.
#include "python/bind_tokens.hpp"

// SPDX-License-Identifier: Apache-2.0
// Fresh memory made ready to be written.
#pragma once

#include <cstdint>

namespace vharm {

// Has the system map the pages of [data, data + bytes) that are not there yet, on up to `threads`
// threads: large pages where the system grants them on request, else small ones asked for together.
// A page first touched by a store costs an exception of its own, which takes longer than clearing
// the page. Changes no contents and cannot fail: what was not mapped here is mapped by the stores.
// Linux 5.14 and later; elsewhere, and below 4 MiB, nothing happens.
void prefault(void* data, int64_t bytes, int threads);

// Has malloc map blocks of `least` bytes and more one by one, so that they go back to the system as
// soon as they are freed, and gives back what is free by now: a setting of the whole process. False
// where the C library has none.
bool return_large_blocks(int64_t least);

}  // namespace vharm

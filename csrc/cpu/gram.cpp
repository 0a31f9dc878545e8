// SPDX-License-Identifier: Apache-2.0
// Gram matrices of packed sequences, and their gradient: two small matrix products. Every element
// is one sum in a fixed order, so no result depends on the number of threads.
#include "cpu/simd.hpp"
#include "runtime/parallel.hpp"
#include "vharm/statistics.hpp"

namespace vharm {
namespace VHARM_ISA {
namespace {

// Rows of the result held in registers, by two vectors of columns.
constexpr int kRows = kWidth == 16 ? 8 : 4;
constexpr int64_t kTaskRows = 32;
constexpr int64_t kDepth = 128;  // of the sums at a time: what they read stays in the cache

// out[i][j] = sum over l < k of a[i * ai + l * al] * b[l * bl + j], i < m, j in [first, last).
struct Product {
  const float* a;
  int64_t ai, al;
  const float* b;
  int64_t bl, k;
  float* out;
  int64_t oi;
  bool more;  // adds to what is in out
};

template <int kM, int kV>
void block(const Product& p, int64_t j) {
  vf sums[kM][kV];
  for (int i = 0; i < kM; ++i) {
    for (int v = 0; v < kV; ++v) {
      sums[i][v] = p.more ? load(p.out + i * p.oi + j + v * kWidth) : vf(0.0f);
    }
  }
  for (int64_t l = 0; l < p.k; ++l) {
    vf b[kV];
    for (int v = 0; v < kV; ++v) b[v] = load(p.b + l * p.bl + j + v * kWidth);
    for (int i = 0; i < kM; ++i) {
      const vf a(p.a[i * p.ai + l * p.al]);
      for (int v = 0; v < kV; ++v) sums[i][v] = vfma(a, b[v], sums[i][v]);
    }
  }
  for (int i = 0; i < kM; ++i) {
    for (int v = 0; v < kV; ++v) store(p.out + i * p.oi + j + v * kWidth, sums[i][v]);
  }
}

template <int kM>
void rows(const Product& p, int64_t first, int64_t last) {
  int64_t j = first;
  for (; j + 2 * kWidth <= last; j += 2 * kWidth) block<kM, 2>(p, j);
  for (; j + kWidth <= last; j += kWidth) block<kM, 1>(p, j);
  for (; j < last; ++j) {
    for (int i = 0; i < kM; ++i) {
      float sum = p.more ? p.out[i * p.oi + j] : 0;
      for (int64_t l = 0; l < p.k; ++l) sum += p.a[i * p.ai + l * p.al] * p.b[l * p.bl + j];
      p.out[i * p.oi + j] = sum;
    }
  }
}

void any_rows(const Product& p, int64_t m, int64_t first, int64_t last) {
  if (m == kRows) return rows<kRows>(p, first, last);
  Product one = p;
  for (int64_t i = 0; i < m; ++i) {
    one.a = p.a + i * p.ai;
    one.out = p.out + i * p.oi;
    rows<1>(one, first, last);
  }
}

// All of a product with m rows, a piece of the sums at a time.
void whole(Product p, int64_t m, int64_t first, int64_t last) {
  const int64_t k = p.k;
  const Product start = p;
  int64_t l = 0;
  do {
    p.a = start.a + l * p.al;
    p.b = start.b + l * p.bl;
    p.k = k - l < kDepth ? k - l : kDepth;
    p.more = l > 0;
    for (int64_t i = 0; i < m; i += kRows) {
      Product part = p;
      part.a = p.a + i * p.ai;
      part.out = p.out + i * p.oi;
      any_rows(part, m - i < kRows ? m - i : kRows, first, last);
    }
    l += kDepth;
  } while (l < k);
}

VHARM_HD int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace

Status gram(const float* tokens, const int32_t* cu_seqlens, int64_t sequences, int64_t c,
            float* out, int threads) {
  const int64_t blocks = (c + kTaskRows - 1) / kTaskRows;
  parallel_for(sequences * blocks, threads, [&](int64_t task) {
    const int64_t s = task / blocks, i = task % blocks * kTaskRows;
    const float* f = tokens + cu_seqlens[s] * c;
    // On and above the diagonal; the rest is the mirror image.
    const Product p{f + i, 1,    c, f, c, cu_seqlens[s + 1] - cu_seqlens[s], out + (s * c + i) * c,
                    c,     false};
    whole(p, smaller(kTaskRows, c - i), i, c);
  });
  parallel_for(sequences * blocks, threads, [&](int64_t task) {
    const int64_t s = task / blocks, first = task % blocks * kTaskRows;
    float* g = out + s * c * c;
    for (int64_t i = first; i < smaller(first + kTaskRows, c); ++i) {
      for (int64_t j = 0; j < first; ++j) g[i * c + j] = g[j * c + i];
    }
    for (int64_t i = first; i < smaller(first + kTaskRows, c); ++i) {
      for (int64_t j = first; j < i; ++j) g[i * c + j] = g[j * c + i];
    }
  });
  return Status::ok;
}

Status gram_backward(const float* square, const float* tokens, const int32_t* cu_seqlens,
                     int64_t sequences, int64_t c, float* grad_tokens, int threads) {
  const int64_t count = sequences > 0 ? cu_seqlens[sequences] : 0;
  parallel_for((count + kTaskRows - 1) / kTaskRows, threads, [&](int64_t task) {
    const int64_t end = smaller(count, (task + 1) * kTaskRows);
    int64_t row = task * kTaskRows, s = 0;
    while (row < end) {
      while (cu_seqlens[s + 1] <= row) ++s;
      const int64_t next = smaller(end, cu_seqlens[s + 1]);
      const Product p{tokens + row * c,      c, 1,    square + s * c * c, c, c,
                      grad_tokens + row * c, c, false};
      whole(p, next - row, 0, c);
      row = next;
    }
  });
  return Status::ok;
}

}  // namespace VHARM_ISA
}  // namespace vharm

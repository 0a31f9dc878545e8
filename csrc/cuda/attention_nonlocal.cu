// SPDX-License-Identifier: Apache-2.0
// Attention between the set positions of two masks. A block holds kOwn positions of one side, one
// per thread, and walks over the other side's in tiles of kTile through shared memory; it makes one
// run of kRun result channels, and every run makes the scores again.
//
//            own      result           weights
//   out      queries  of the values    softmax, found on the way
//   grad q   queries  of the keys      slopes
//   grad k   keys     of the queries   slopes
//   grad v   keys     of the grads     softmax
#include "cuda/attention.cuh"

namespace vharm::cuda {
namespace {

constexpr int kOwn = 64, kTile = 32, kRun = 64;

enum class Mode { out, grad_q, grad_k, grad_v };

struct Side {
  Positions at;
  TensorView a, b;  // query and grad, or key and value
};

struct Call {
  Side own, other;
  TensorView from, to;  // result channels come from `from` at the other side
  float *lse, *inner;   // [n, heads, size] of the queries
  int64_t queries;      // size
  int heads;
  float factor, scale;
  int64_t tiles, runs;
};

__device__ int64_t position(const Positions& p, int64_t n, int64_t i) {
  return p.index[n * p.size + i];
}
__device__ int64_t offset_at(const TensorView& f, int64_t n, int64_t c, int64_t p) {
  return offset_of(f, n, c, p / f.w, p % f.w);
}

// Channels [first, first + count) of `filled` positions from `start` on, [channel][position],
// zeros elsewhere. All threads of the block.
template <DType kType>
__device__ void load_tile(const Positions& at, const TensorView& f, int64_t n, int64_t first,
                          int count, int64_t start, int filled, float (*tile)[kTile]) {
  for (int i = threadIdx.x; i < kRun * kTile; i += kOwn) {
    const int c = i / kTile, j = i % kTile;
    float value = 0.0f;
    if (c < count && j < filled) {
      value = read<kType>(f, offset_at(f, n, first + c, position(at, n, start + j)));
    }
    tile[c][j] = value;
  }
}

// products[j] = own channels times those of position j of the tile.
template <DType kType>
__device__ void dot_tile(const TensorView& own, int64_t p, const Positions& at,
                         const TensorView& other, int64_t n, int64_t first, int channels,
                         int64_t start, int filled, float (*tile)[kTile], float* products) {
#pragma unroll
  for (int j = 0; j < kTile; ++j) products[j] = 0.0f;
  for (int c = 0; c < channels; c += kRun) {
    const int count = channels - c < kRun ? channels - c : kRun;
    __syncthreads();
    load_tile<kType>(at, other, n, first + c, count, start, filled, tile);
    __syncthreads();
    for (int i = 0; i < count; ++i) {
      const float mine = read<kType>(own, offset_at(own, n, first + c + i, p));
#pragma unroll
      for (int j = 0; j < kTile; ++j) products[j] = fmaf(mine, tile[i][j], products[j]);
    }
  }
}

template <DType kType, Mode kMode>
__global__ void __launch_bounds__(kOwn) pairs_kernel(const __grid_constant__ Call call) {
  __shared__ float tile[kRun][kTile];
  __shared__ float sums[kRun][kOwn];
  constexpr bool kQueries = kMode == Mode::out || kMode == Mode::grad_q;
  constexpr bool kSlopes = kMode == Mode::grad_q || kMode == Mode::grad_k;
  int64_t block = blockIdx.x;
  const int run = static_cast<int>(block % call.runs) * kRun;
  block /= call.runs;
  const int64_t first = block % call.tiles * kOwn;
  block /= call.tiles;
  const int head = static_cast<int>(block % call.heads);
  const int64_t n = block / call.heads;
  const int64_t count = call.own.at.count[n], others = call.other.at.count[n];
  if (first >= count || others == 0) return;
  const bool exists = first + threadIdx.x < count;
  const int64_t p = position(call.own.at, n, exists ? first + threadIdx.x : first);
  const int64_t rows = (n * call.heads + head) * call.queries;
  const int da = static_cast<int>(call.own.a.c) / call.heads;
  const int db = static_cast<int>(call.own.b.c) / call.heads;
  const int dr = static_cast<int>(call.from.c) / call.heads;
  const int width = dr - run < kRun ? dr - run : kRun;
  for (int c = 0; c < kRun; ++c) sums[c][threadIdx.x] = 0.0f;
  float own_lse = 0.0f, own_inner = 0.0f, most = -3e38f, total = 0.0f;
  if (kMode == Mode::grad_q) {
    own_lse = call.lse[rows + p];
    own_inner = call.inner[rows + p];
  }
  for (int64_t start = 0; start < others; start += kTile) {
    const int filled = others - start < kTile ? static_cast<int>(others - start) : kTile;
    float weights[kTile], slopes[kTile];
    dot_tile<kType>(call.own.a, p, call.other.at, call.other.a, n, int64_t(head) * da, da, start,
                    filled, tile, weights);
    if (kSlopes) {
      dot_tile<kType>(call.own.b, p, call.other.at, call.other.b, n, int64_t(head) * db, db, start,
                      filled, tile, slopes);
    }
    float shrink = 1.0f;
    if (kMode == Mode::out) {
      float top = most;
#pragma unroll
      for (int j = 0; j < kTile; ++j) {
        weights[j] *= call.factor;
        if (j < filled && weights[j] > top) top = weights[j];
      }
      shrink = exp2f(most - top);
      most = top;
      total *= shrink;
    }
#pragma unroll
    for (int j = 0; j < kTile; ++j) {
      if (kMode == Mode::out) {
        weights[j] = j < filled ? exp2f(weights[j] - most) : 0.0f;
        total += weights[j];
        continue;
      }
      float lse = own_lse, inner = own_inner;
      if (!kQueries && j < filled) {
        const int64_t row = rows + position(call.other.at, n, start + j);
        lse = call.lse[row];
        if (kSlopes) inner = call.inner[row];
      }
      weights[j] = j < filled ? exp2f(weights[j] * call.factor - lse) : 0.0f;
      if (kSlopes) weights[j] *= (slopes[j] - inner) * call.scale;
    }
    __syncthreads();
    load_tile<kType>(call.other.at, call.from, n, int64_t(head) * dr + run, width, start, filled,
                     tile);
    __syncthreads();
    for (int c = 0; c < width; ++c) {
      float sum = sums[c][threadIdx.x] * shrink;
#pragma unroll
      for (int j = 0; j < kTile; ++j) sum = fmaf(weights[j], tile[c][j], sum);
      sums[c][threadIdx.x] = sum;
    }
  }
  if (!exists) return;
  const float factor = kMode == Mode::out ? 1.0f / total : 1.0f;
  for (int c = 0; c < width; ++c) {
    write<kType>(call.to, offset_at(call.to, n, int64_t(head) * dr + run + c, p),
                 sums[c][threadIdx.x] * factor);
  }
  if (kMode == Mode::out && run == 0) call.lse[rows + p] = most + log2f(total);
}

struct Inner {
  Positions queries;
  TensorView grad, out;
  float* inner;
  int heads;
  int64_t tiles;
};

// Gradient times result of every query.
template <DType kType>
__global__ void inner_kernel(const __grid_constant__ Inner call) {
  int64_t block = blockIdx.x;
  const int64_t i = block % call.tiles * blockDim.x + threadIdx.x;
  block /= call.tiles;
  const int head = static_cast<int>(block % call.heads);
  const int64_t n = block / call.heads;
  if (i >= call.queries.count[n]) return;
  const int64_t p = position(call.queries, n, i), dv = call.out.c / call.heads;
  float sum = 0.0f;
  for (int64_t c = head * dv; c < (head + 1) * dv; ++c) {
    sum = fmaf(read<kType>(call.grad, offset_at(call.grad, n, c, p)),
               read<kType>(call.out, offset_at(call.out, n, c, p)), sum);
  }
  call.inner[(n * call.heads + head) * call.queries.size + p] = sum;
}

template <Mode kMode>
Status launch_pairs(Call call, const TensorView& from, const TensorView& to, void* stream) {
  if (to.data == nullptr) return Status::ok;
  call.from = from;
  call.to = to;
  call.tiles = (call.own.at.size + kOwn - 1) / kOwn;
  call.runs = (from.c / call.heads + kRun - 1) / kRun;
  const int64_t blocks = to.n * call.heads * call.tiles * call.runs;
  return with_feature_dtype(to.dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
    return launch_blocks(pairs_kernel<kType, kMode>, call, blocks, kOwn, 0, stream);
  });
}

}  // namespace

Status nonlocal_attention(const TensorView& q, const TensorView& k, const TensorView& v,
                          const Positions& queries, const Positions& keys, int heads, float scale,
                          const TensorView& out, float* lse, void* stream) {
  const Call call{{queries, q, q}, {keys, k, v},   v,     out, lse, nullptr, queries.size,
                  heads,           scale * kLog2E, scale, 0,   0};
  return launch_pairs<Mode::out>(call, v, out, stream);
}

Status nonlocal_attention_backward(const TensorView& grad, const TensorView& q, const TensorView& k,
                                   const TensorView& v, const Positions& queries,
                                   const Positions& keys, const TensorView& out, const float* lse,
                                   int heads, float scale, float* inner, const TensorView& grad_q,
                                   const TensorView& grad_k, const TensorView& grad_v,
                                   void* stream) {
  const Inner first{queries, grad, out, inner, heads, (queries.size + kThreads - 1) / kThreads};
  Status status = with_feature_dtype(q.dtype, [&](auto known) {
    constexpr DType kType = decltype(known)::value;
    return launch_blocks(inner_kernel<kType>, first, q.n * heads * first.tiles, kThreads, 0,
                         stream);
  });
  const Side of_queries{queries, q, grad}, of_keys{keys, k, v};
  Call call{of_queries,     of_keys, v, out, const_cast<float*>(lse), inner, queries.size, heads,
            scale * kLog2E, scale,   0, 0};
  if (status == Status::ok) status = launch_pairs<Mode::grad_q>(call, k, grad_q, stream);
  call.own = of_keys;
  call.other = of_queries;
  if (status == Status::ok) status = launch_pairs<Mode::grad_k>(call, q, grad_k, stream);
  if (status == Status::ok) status = launch_pairs<Mode::grad_v>(call, grad, grad_v, stream);
  return status;
}

}  // namespace vharm::cuda

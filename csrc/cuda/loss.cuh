// SPDX-License-Identifier: Apache-2.0
// The error of one channel in the stages' losses, and the targets it is taken against.
#pragma once

#include "cuda/pixels.cuh"

namespace vharm::cuda {

struct Targets {
  ImageView view;  // of stage 0
  int64_t stride;  // samples from one stage to the next
};

struct LossTerm {
  Real value, slope;  // of w(d) = sqrt(d^2 + eps) + 10 d^2
};

VHARM_HD LossTerm loss_term(Real d) {
  const Real root = vsqrt(vfma(d, d, Real(kEpsilon)));
  return {vfma(Real(10.0f) * d, d, root), vfma(Real(20.0f), d, d / root)};
}

}  // namespace vharm::cuda

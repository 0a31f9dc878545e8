// SPDX-License-Identifier: Apache-2.0
// Warps and filters a picture through the headers: no Python, no torch.
//
//   consumer out.ppm
//
// Makes a picture, moves it by a flow of a whole number of pixels, brightens the left half, checks
// both against plain loops, and writes the result. Exits with 1 where anything is off.
#include <vharm/filters.hpp>
#include <vharm/warp.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <thread>
#include <vector>

namespace {

constexpr int64_t kHeight = 180, kWidth = 320;
constexpr int kShiftX = 7, kShiftY = -3;
constexpr float kBrightness = 0.25f;

struct Picture {  // interleaved RGB, float in [0, 1]
  std::vector<float> samples = std::vector<float>(kHeight * kWidth * 3);
  float& at(int64_t y, int64_t x, int c) { return samples[(y * kWidth + x) * 3 + c]; }
};

Picture make_picture() {
  Picture picture;
  for (int64_t y = 0; y < kHeight; ++y) {
    for (int64_t x = 0; x < kWidth; ++x) {
      picture.at(y, x, 0) = float(x) / kWidth;
      picture.at(y, x, 1) = float(y) / kHeight;
      picture.at(y, x, 2) = 0.5f + 0.5f * std::sin(0.05f * float(x + y));
    }
  }
  return picture;
}

bool write_ppm(const char* path, Picture& picture) {
  std::FILE* file = std::fopen(path, "wb");
  if (file == nullptr) return false;
  std::fprintf(file, "P6\n%d %d\n255\n", int(kWidth), int(kHeight));
  std::vector<unsigned char> bytes;
  for (float v : picture.samples) {
    bytes.push_back(static_cast<unsigned char>(std::lround(std::min(std::max(v, 0.0f), 1.0f) * 255)));
  }
  const bool whole = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  return std::fclose(file) == 0 && whole;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s OUT.ppm\n", argv[0]);
    return 2;
  }
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  Picture source = make_picture(), moved, result;

  // out(p) = source(p + flow(p)); the flow is interleaved (dx, dy).
  std::vector<float> flow(kHeight * kWidth * 2);
  for (size_t i = 0; i < flow.size(); i += 2) {
    flow[i] = kShiftX;
    flow[i + 1] = kShiftY;
  }
  const auto view = [](Picture& p) {
    return vharm::TensorView{p.samples.data(), vharm::DType::f32, 1, 3, kHeight, kWidth,
                             kHeight * kWidth * 3, 1, kWidth * 3, 3};
  };
  const vharm::TensorView flow_view{flow.data(), vharm::DType::f32, 1, 2, kHeight, kWidth,
                                    kHeight * kWidth * 2, 1, kWidth * 2, 2};
  const vharm::TensorView no_validity{};
  if (vharm::flow_warp(view(source), flow_view, /*border=*/true, view(moved), no_validity,
                       threads) != vharm::Status::ok) {
    std::fprintf(stderr, "flow_warp failed\n");
    return 1;
  }

  // One filter on the left half. Brightness needs no global means.
  std::vector<unsigned char> mask(kHeight * kWidth);
  for (int64_t i = 0; i < kHeight * kWidth; ++i) mask[i] = i % kWidth < kWidth / 2 ? 255 : 0;
  const int filter = static_cast<int>(vharm::Filter::brightness);
  const float argument = kBrightness, means[3] = {0, 0, 0};
  const vharm::FilterChain chain{&filter, 1, &argument, means, false};
  const auto image = [](Picture& p) {
    return vharm::ImageView{p.samples.data(), vharm::DType::f32, 1, kHeight, kWidth,
                            kHeight * kWidth * 3, 1, kWidth * 3, 3};
  };
  const vharm::MaskView mask_view{mask.data(), vharm::DType::u8, kHeight * kWidth, kWidth, 1,
                                  0.0f, 255.0f, 1.0f};
  if (vharm::filter_chain(image(moved), mask_view, chain, image(result), threads) !=
      vharm::Status::ok) {
    std::fprintf(stderr, "filter_chain failed\n");
    return 1;
  }

  float worst = 0;
  for (int64_t y = 0; y < kHeight; ++y) {
    for (int64_t x = 0; x < kWidth; ++x) {
      const int64_t from_y = std::clamp<int64_t>(y + kShiftY, 0, kHeight - 1);
      const int64_t from_x = std::clamp<int64_t>(x + kShiftX, 0, kWidth - 1);
      for (int c = 0; c < 3; ++c) {
        float expected = source.at(from_y, from_x, c);
        if (x < kWidth / 2) expected = std::min(expected / (1 - kBrightness + 1e-6f), 1.0f);
        worst = std::max(worst, std::fabs(result.at(y, x, c) - expected));
      }
    }
  }
  std::printf("warped and filtered %dx%d; largest difference to plain loops %.2g\n", int(kWidth),
              int(kHeight), worst);
  if (worst > 1e-5f) return 1;
  if (!write_ppm(argv[1], result)) {
    std::fprintf(stderr, "cannot write %s\n", argv[1]);
    return 1;
  }
  return 0;
}

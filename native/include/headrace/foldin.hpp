// People's factors from their histories alone: one half-step of implicit ALS.
//
// Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (2008), equation 4, with the confidence
// of implicit's recalculate_user: c = alpha * weight, no one added, so that
// x = (G + lambda I + sum (c - 1) y y^T)^-1 sum c y.
#pragma once

#include <cstddef>
#include <cstdint>

namespace headrace {

constexpr size_t fold_lanes = 16;  // a system's width is a multiple of it, padded with the identity

struct FoldIn {
    const float* gram;  // (width, width): Y^T Y + lambda I for the first d, the identity beyond
    size_t width;
    const float* items;  // (n_items, d)
    size_t d;
};

// Factors of one person: n rows of `items` without repeats and a confidence > 0 for each; `out` has `width` columns.
// Zeros for an empty history. The floating-point operations follow from the history alone, so equal input is equal
// output on one machine.
void fold_in(const FoldIn& model, const int32_t* rows, const float* confidences, size_t n, float* out);

}  // namespace headrace

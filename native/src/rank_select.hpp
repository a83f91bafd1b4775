// What of a row of scores belongs to the best, inside rank*.cpp.
#pragma once

#include <cstddef>

#include "headrace/scan.hpp"

namespace headrace {

constexpr size_t select_width = 64;  // scores that are looked at together

// Offers the scores above -infinity that may enter; n is a multiple of select_width, their rows are 0 … n - 1.
// False when one of the scores is NaN or +infinity.
bool select(const float* scores, size_t n, Best& best);

}  // namespace headrace

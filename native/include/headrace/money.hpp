// Money is int64: micros (millionths of the currency unit) and nanos (thousandths of a micro). Never a float.
#pragma once

#include <cstdint>
#include <stdexcept>

namespace headrace {

constexpr int64_t kNanosPerMicro = 1000;

inline int64_t checked_add(int64_t a, int64_t b) {
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum)) throw std::overflow_error("money: a sum leaves the 64-bit range");
    return sum;
}

inline int64_t checked_sub(int64_t a, int64_t b) {
    int64_t difference;
    if (__builtin_sub_overflow(a, b, &difference)) {
        throw std::overflow_error("money: a difference leaves the 64-bit range");
    }
    return difference;
}

// Whole micros that cover `nanos` (>= 0). A CPM price in micros is the price of one impression in nanos.
inline int64_t ceil_micros(int64_t nanos) { return nanos / kNanosPerMicro + (nanos % kNanosPerMicro != 0); }

}  // namespace headrace

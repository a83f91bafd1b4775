#include "headrace/foldin.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace headrace {
namespace {

constexpr size_t panel = 8;  // rows that the factorization takes together

// clang has no way to compile a part of a file for other instructions; its build is right, and slower
#if defined(__x86_64__) && !defined(__clang__)
#define HEADRACE_FOLD_X86 1
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,fma")
namespace avx512 {
#include "foldin_body.hpp"
}
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
#include "foldin_body.hpp"
}
#pragma GCC pop_options
#endif
namespace portable {
#include "foldin_body.hpp"
}

using Run = void (*)(const FoldIn&, const int32_t*, const float*, size_t, float*, float*);

Run choose() {
#ifdef HEADRACE_FOLD_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return avx512::run;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::run;
#endif
    return portable::run;
}

const Run chosen_run = choose();

}  // namespace

void fold_in(const FoldIn& model, const int32_t* rows, const float* confidences, size_t n, float* out) {
    const size_t width = model.width;
    if (!n) {
        std::fill_n(out, width, 0.0f);
        return;
    }
    thread_local std::vector<float> space;
    space.resize(width * width + n * width + n + fold_lanes);
    // vectors that straddle two cache lines cost a seventh of the whole
    const auto beyond = reinterpret_cast<uintptr_t>(space.data()) % (fold_lanes * sizeof(float)) / sizeof(float);
    chosen_run(model, rows, confidences, n, space.data() + (fold_lanes - beyond) % fold_lanes, out);
}

}  // namespace headrace

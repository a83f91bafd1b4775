// Which of 64 scores are above a floor: AVX-512, AVX2 and portable, chosen when the process runs.
#include "rank_select.hpp"

#include <limits>

#include "headrace/rank.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#define HEADRACE_X86 1
#endif

namespace headrace {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

uint64_t portable(const float* scores, float floor) {
    uint64_t mask = 0;
    for (size_t i = 0; i < select_width; ++i) mask |= static_cast<uint64_t>(!(scores[i] <= floor)) << i;
    return mask;
}

#ifdef HEADRACE_X86

__attribute__((target("avx512f"))) uint64_t avx512(const float* scores, float floor) {
    const __m512 least = _mm512_set1_ps(floor);
    uint64_t mask = 0;
    for (size_t i = 0; i < select_width; i += 16) {
        const __mmask16 above = _mm512_cmp_ps_mask(_mm512_loadu_ps(scores + i), least, _CMP_NLE_UQ);
        mask |= static_cast<uint64_t>(above) << i;
    }
    return mask;
}

__attribute__((target("avx2"))) uint64_t avx2(const float* scores, float floor) {
    const __m256 least = _mm256_set1_ps(floor);
    uint64_t mask = 0;
    for (size_t i = 0; i < select_width; i += 8) {
        const __m256 above = _mm256_cmp_ps(_mm256_loadu_ps(scores + i), least, _CMP_NLE_UQ);
        mask |= static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_ps(above))) << i;
    }
    return mask;
}

#endif

// function-local, since other files may ask while theirs are being initialised
SelectPass& chosen_pass() {
    static SelectPass pass = select_passes().front();
    return pass;
}

}  // namespace

std::vector<SelectPass> select_passes() {
    std::vector<SelectPass> passes;
#ifdef HEADRACE_X86
    if (__builtin_cpu_supports("avx512f")) passes.push_back({"avx512", avx512});
    if (__builtin_cpu_supports("avx2")) passes.push_back({"avx2", avx2});
#endif
    passes.push_back({"portable", portable});
    return passes;
}

void use_select_pass(const SelectPass& pass) { chosen_pass() = pass; }

bool select(const float* scores, size_t n, Best& best) {
    const SelectPass::Run run = chosen_pass().run;
    float floor = best.capacity() ? -infinity : infinity;
    for (size_t first = 0; first < n; first += select_width) {
        for (uint64_t mask = run(scores + first, floor); mask; mask &= mask - 1) {
            const size_t row = first + static_cast<size_t>(__builtin_ctzll(mask));
            // rows come in ascending order, so an equal score never enters
            if (scores[row] <= floor) continue;
            if (!(scores[row] < infinity)) return false;
            best.offer({scores[row], static_cast<int32_t>(row)});
            if (best.full()) floor = best.worst().score;
        }
    }
    return true;
}

}  // namespace headrace

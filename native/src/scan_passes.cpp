// Passes over one block of coarse factors: AVX-512 VNNI, AVX2 and portable, chosen when the process runs.
#include <atomic>
#include <cstring>

#include "headrace/scan.hpp"

#if defined(__x86_64__)
#if !defined(__clang__)
// GCC 12 takes its own headers' undefined registers for a mistake
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#define HEADRACE_X86 1
#endif

namespace headrace {
namespace {

void portable(const uint8_t* block, const float* scales, size_t quads, const int8_t* const* queries,
              const float* starts, const float* thresholds, size_t n, uint64_t* masks, float* upper) {
    for (size_t q = 0; q < n; ++q) {
        int32_t sums[scan_block] = {};
        for (size_t j = 0; j < quads; ++j) {
            const uint8_t* at = block + j * scan_block * 4;
            const int8_t* x = queries[q] + 4 * j;
            for (size_t i = 0; i < scan_block; ++i) {
                sums[i] += at[4 * i] * x[0] + at[4 * i + 1] * x[1] + at[4 * i + 2] * x[2] + at[4 * i + 3] * x[3];
            }
        }
        uint64_t mask = 0;
        for (size_t i = 0; i < scan_block; ++i) {
            float bound = scales[i] * (static_cast<float>(sums[i]) + starts[q]);
            upper[q * scan_block + i] = bound;
            mask |= static_cast<uint64_t>(bound >= thresholds[q]) << i;
        }
        masks[q] = mask;
    }
}

#ifdef HEADRACE_X86

int32_t four(const int8_t* at) {
    int32_t value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vnni"), always_inline)) inline

// The sums of one query with a block's items. Named, since GCC 12 keeps an array of them in memory.
struct Sums {
    __m512i a, b, c, d;
};

// _mm512_dpbusd_epi32, for which GCC 12 copies each sum to another register and back.
VNNI void dot(__m512i& sum, __m512i items, __m512i x) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(items), "v"(x));
}

VNNI void add(Sums& sums, __m512i a, __m512i b, __m512i c, __m512i d, const int8_t* query) {
    __m512i x = _mm512_set1_epi32(four(query));
    dot(sums.a, a, x);
    dot(sums.b, b, x);
    dot(sums.c, c, x);
    dot(sums.d, d, x);
}

VNNI __m512 bound_of(__m512i sums, float start, const float* scales) {
    return _mm512_mul_ps(_mm512_add_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(start)), _mm512_loadu_ps(scales));
}

VNNI uint64_t mask_of(const Sums& sums, const float* scales, float start, float threshold, uint64_t wanted,
                      float* upper) {
    __m512 least = _mm512_set1_ps(threshold);
    __m512 a = bound_of(sums.a, start, scales), b = bound_of(sums.b, start, scales + 16);
    __m512 c = bound_of(sums.c, start, scales + 32), d = bound_of(sums.d, start, scales + 48);
    uint64_t mask = _mm512_cmp_ps_mask(a, least, _CMP_GE_OQ);
    mask |= static_cast<uint64_t>(_mm512_cmp_ps_mask(b, least, _CMP_GE_OQ)) << 16;
    mask |= static_cast<uint64_t>(_mm512_cmp_ps_mask(c, least, _CMP_GE_OQ)) << 32;
    mask |= static_cast<uint64_t>(_mm512_cmp_ps_mask(d, least, _CMP_GE_OQ)) << 48;
    if (mask | wanted) {
        _mm512_storeu_ps(upper, a);
        _mm512_storeu_ps(upper + 16, b);
        _mm512_storeu_ps(upper + 32, c);
        _mm512_storeu_ps(upper + 48, d);
    }
    return mask;
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) void vnni(
    const uint8_t* block, const float* scales, size_t quads, const int8_t* const* queries, const float* starts,
    const float* thresholds, size_t n, uint64_t* masks, float* upper) {
    const __m512i zero = _mm512_setzero_si512();
    size_t q = 0;
    for (; q + 4 <= n; q += 4) {
        Sums s0{zero, zero, zero, zero}, s1 = s0, s2 = s0, s3 = s0;
        const int8_t *x0 = queries[q], *x1 = queries[q + 1], *x2 = queries[q + 2], *x3 = queries[q + 3];
        for (size_t j = 0; j < 4 * quads; j += 4) {
            const uint8_t* at = block + j * scan_block;
            __m512i a = _mm512_load_si512(at), b = _mm512_load_si512(at + 64);
            __m512i c = _mm512_load_si512(at + 128), d = _mm512_load_si512(at + 192);
            add(s0, a, b, c, d, x0 + j);
            add(s1, a, b, c, d, x1 + j);
            add(s2, a, b, c, d, x2 + j);
            add(s3, a, b, c, d, x3 + j);
        }
        masks[q] = mask_of(s0, scales, starts[q], thresholds[q], masks[q], upper + q * scan_block);
        masks[q + 1] = mask_of(s1, scales, starts[q + 1], thresholds[q + 1], masks[q + 1], upper + (q + 1) * scan_block);
        masks[q + 2] = mask_of(s2, scales, starts[q + 2], thresholds[q + 2], masks[q + 2], upper + (q + 2) * scan_block);
        masks[q + 3] = mask_of(s3, scales, starts[q + 3], thresholds[q + 3], masks[q + 3], upper + (q + 3) * scan_block);
    }
    for (; q < n; ++q) {
        Sums sums{zero, zero, zero, zero};
        for (size_t j = 0; j < 4 * quads; j += 4) {
            const uint8_t* at = block + j * scan_block;
            add(sums, _mm512_load_si512(at), _mm512_load_si512(at + 64), _mm512_load_si512(at + 128),
                _mm512_load_si512(at + 192), queries[q] + j);
        }
        masks[q] = mask_of(sums, scales, starts[q], thresholds[q], masks[q], upper + q * scan_block);
    }
}

#undef VNNI

__attribute__((target("avx2"))) void avx2(const uint8_t* block, const float* scales, size_t quads,
                                          const int8_t* const* queries, const float* starts, const float* thresholds,
                                          size_t n, uint64_t* masks, float* upper) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (size_t q = 0; q < n; ++q) {
        __m256i sums[8];
        for (auto& sum : sums) sum = _mm256_setzero_si256();
        for (size_t j = 0; j < quads; ++j) {
            const uint8_t* at = block + j * scan_block * 4;
            __m256i x = _mm256_set1_epi32(four(queries[q] + 4 * j));
            for (size_t v = 0; v < 8; ++v) {
                // pairs add in 16 bits without saturation, since |Q| <= 63
                __m256i items = _mm256_load_si256(reinterpret_cast<const __m256i*>(at + 32 * v));
                sums[v] = _mm256_add_epi32(sums[v], _mm256_madd_epi16(_mm256_maddubs_epi16(items, x), ones));
            }
        }
        __m256 start = _mm256_set1_ps(starts[q]), threshold = _mm256_set1_ps(thresholds[q]);
        uint64_t mask = 0;
        for (size_t v = 0; v < 8; ++v) {
            __m256 sum = _mm256_add_ps(_mm256_cvtepi32_ps(sums[v]), start);
            __m256 bound = _mm256_mul_ps(sum, _mm256_loadu_ps(scales + 8 * v));
            _mm256_storeu_ps(upper + q * scan_block + 8 * v, bound);
            auto bits = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(bound, threshold, _CMP_GE_OQ)));
            mask |= static_cast<uint64_t>(bits) << (8 * v);
        }
        masks[q] = mask;
    }
}

// The same additions in the same order as the plain one below.
__attribute__((target("avx2,fma"))) float score_fma(const float* item, const float* query, size_t d) {
    __m256 sums = _mm256_setzero_ps();
    size_t whole = d - d % 8;
    for (size_t j = 0; j < whole; j += 8) {
        sums = _mm256_fmadd_ps(_mm256_loadu_ps(item + j), _mm256_loadu_ps(query + j), sums);
    }
    float s[8];
    _mm256_storeu_ps(s, sums);
    float total = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
    for (size_t j = whole; j < d; ++j) total = __builtin_fmaf(item[j], query[j], total);
    return total;
}

#endif

float score_plain(const float* item, const float* query, size_t d) {
    float s[8] = {};
    size_t whole = d - d % 8;
    for (size_t j = 0; j < whole; j += 8)
        for (size_t lane = 0; lane < 8; ++lane) s[lane] = __builtin_fmaf(item[j + lane], query[j + lane], s[lane]);
    float total = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
    for (size_t j = whole; j < d; ++j) total = __builtin_fmaf(item[j], query[j], total);
    return total;
}

using Score = float (*)(const float*, const float*, size_t);

Score choose_score() {
#ifdef HEADRACE_X86
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return score_fma;
#endif
    return score_plain;
}

const Score chosen_score = choose_score();

// function-local, since other files may ask while theirs are being initialised
BlockPass& chosen_pass() {
    static BlockPass pass = block_passes().front();
    return pass;
}

}  // namespace

float score(const float* item, const float* query, size_t d) { return chosen_score(item, query, d); }

std::vector<BlockPass> block_passes() {
    std::vector<BlockPass> passes;
#ifdef HEADRACE_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni"))
        passes.push_back({"avx512vnni", vnni, 127});
    if (__builtin_cpu_supports("avx2")) passes.push_back({"avx2", avx2, 63});
#endif
    passes.push_back({"portable", portable, 127});
    return passes;
}

const BlockPass& block_pass() { return chosen_pass(); }

void use_block_pass(const BlockPass& pass) { chosen_pass() = pass; }

}  // namespace headrace

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

uint64_t line_portable(const Lines& items, size_t first, const uint32_t* places, size_t n, const int8_t* query,
                       float start, float threshold, float* bounds) {
    uint64_t mask = 0;
    for (size_t i = 0; i < n; ++i) {
        size_t place = places ? places[i] : first + i;
        const uint8_t* code = items.codes + place * items.d;
        int32_t sum = 0;
        for (size_t j = 0; j < items.d; ++j) sum += code[j] * query[j];
        bounds[i] = items.scales[place] * (static_cast<float>(sum) + start);
        mask |= static_cast<uint64_t>(bounds[i] >= threshold) << i;
    }
    return mask;
}

#ifdef HEADRACE_X86

// Where four items are, the last one repeated where there are fewer by name; what stands behind those in line is read.
struct Four {
    const uint8_t* codes[4];
    __m128 scales;
    Four(const Lines& items, size_t first, const uint32_t* places, size_t i, size_t n) {
        if (!places) {
            for (size_t r = 0; r < 4; ++r) codes[r] = items.codes + (first + i + r) * items.d;
            scales = _mm_loadu_ps(items.scales + first + i);
            return;
        }
        size_t at[4];
        for (size_t r = 0; r < 4; ++r) {
            at[r] = places[i + r < n ? i + r : n - 1];
            codes[r] = items.codes + at[r] * items.d;
        }
        scales = _mm_setr_ps(items.scales[at[0]], items.scales[at[1]], items.scales[at[2]], items.scales[at[3]]);
    }
};

uint64_t some_bits(size_t n) { return n < 64 ? (uint64_t{1} << n) - 1 : ~uint64_t{0}; }

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

// The sums of each of four registers.
VNNI __m128i totals(__m512i a, __m512i b, __m512i c, __m512i d) {
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) uint64_t line_vnni(
    const Lines& items, size_t first, const uint32_t* places, size_t n, const int8_t* query, float start,
    float threshold, float* bounds) {
    const __m128 starts = _mm_set1_ps(start), thresholds = _mm_set1_ps(threshold);
    uint64_t mask = 0;
    for (size_t i = 0; i < n; i += 4) {
        const Four four(items, first, places, i, n);
        __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
        for (size_t j = 0; j < items.d; j += 64) {
            __m512i x = _mm512_loadu_si512(query + j);
            dot(a, _mm512_loadu_si512(four.codes[0] + j), x);
            dot(b, _mm512_loadu_si512(four.codes[1] + j), x);
            dot(c, _mm512_loadu_si512(four.codes[2] + j), x);
            dot(d, _mm512_loadu_si512(four.codes[3] + j), x);
        }
        __m128 sums = _mm_add_ps(_mm_cvtepi32_ps(totals(a, b, c, d)), starts);
        __m128 bound = _mm_mul_ps(sums, four.scales);
        _mm_storeu_ps(bounds + i, bound);
        mask |= static_cast<uint64_t>(_mm_movemask_ps(_mm_cmpge_ps(bound, thresholds))) << i;
    }
    return mask & some_bits(n);
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

// In 16 bits, which bear every query: their products add in pairs without saturation.
__attribute__((target("avx2"))) uint64_t line_avx2(const Lines& items, size_t first, const uint32_t* places, size_t n,
                                                   const int8_t* query, float start, float threshold, float* bounds) {
    const __m128 starts = _mm_set1_ps(start), thresholds = _mm_set1_ps(threshold);
    uint64_t mask = 0;
    for (size_t i = 0; i < n; i += 4) {
        const Four four(items, first, places, i, n);
        __m256i sums[4];
        for (auto& sum : sums) sum = _mm256_setzero_si256();
        for (size_t j = 0; j < items.d; j += 16) {
            __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(query + j)));
            for (size_t r = 0; r < 4; ++r) {
                __m128i code = _mm_loadu_si128(reinterpret_cast<const __m128i*>(four.codes[r] + j));
                sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(_mm256_cvtepu8_epi16(code), x));
            }
        }
        __m256i all = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
        __m128i total = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
        __m128 bound = _mm_mul_ps(_mm_add_ps(_mm_cvtepi32_ps(total), starts), four.scales);
        _mm_storeu_ps(bounds + i, bound);
        mask |= static_cast<uint64_t>(_mm_movemask_ps(_mm_cmpge_ps(bound, thresholds))) << i;
    }
    return mask & some_bits(n);
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

__attribute__((target("avx2,fma"))) void score_columns_fma(const float* columns, size_t n, size_t d,
                                                            const float* query, float* out) {
    size_t whole = n - n % 32;
    for (size_t i = 0; i < whole; i += 32) {
        __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
        for (size_t j = 0; j < d; ++j) {
            const float* at = columns + j * n + i;
            __m256 x = _mm256_set1_ps(query[j]);
            s0 = _mm256_fmadd_ps(_mm256_loadu_ps(at), x, s0);
            s1 = _mm256_fmadd_ps(_mm256_loadu_ps(at + 8), x, s1);
            s2 = _mm256_fmadd_ps(_mm256_loadu_ps(at + 16), x, s2);
            s3 = _mm256_fmadd_ps(_mm256_loadu_ps(at + 24), x, s3);
        }
        _mm256_storeu_ps(out + i, s0);
        _mm256_storeu_ps(out + i + 8, s1);
        _mm256_storeu_ps(out + i + 16, s2);
        _mm256_storeu_ps(out + i + 24, s3);
    }
    for (size_t i = whole; i < n; ++i) {
        float sum = 0.0f;
        for (size_t j = 0; j < d; ++j) sum = __builtin_fmaf(columns[j * n + i], query[j], sum);
        out[i] = sum;
    }
}

#endif

void score_columns_plain(const float* columns, size_t n, size_t d, const float* query, float* out) {
    for (size_t i = 0; i < n; ++i) {
        float sum = 0.0f;
        for (size_t j = 0; j < d; ++j) sum = __builtin_fmaf(columns[j * n + i], query[j], sum);
        out[i] = sum;
    }
}

float score_plain(const float* item, const float* query, size_t d) {
    float s[8] = {};
    size_t whole = d - d % 8;
    for (size_t j = 0; j < whole; j += 8)
        for (size_t lane = 0; lane < 8; ++lane) s[lane] = __builtin_fmaf(item[j + lane], query[j + lane], s[lane]);
    float total = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
    for (size_t j = whole; j < d; ++j) total = __builtin_fmaf(item[j], query[j], total);
    return total;
}

#ifdef HEADRACE_X86
bool have_fma() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

const auto chosen_score = have_fma() ? score_fma : score_plain;
const auto chosen_score_columns = have_fma() ? score_columns_fma : score_columns_plain;
#else
const auto chosen_score = score_plain;
const auto chosen_score_columns = score_columns_plain;
#endif

// function-local, since other files may ask while theirs are being initialised
BlockPass& chosen_pass() {
    static BlockPass pass = block_passes().front();
    return pass;
}

}  // namespace

float score(const float* item, const float* query, size_t d) { return chosen_score(item, query, d); }

void score_columns(const float* columns, size_t n, size_t d, const float* query, float* out) {
    chosen_score_columns(columns, n, d, query, out);
}

std::vector<BlockPass> block_passes() {
    std::vector<BlockPass> passes;
#ifdef HEADRACE_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni"))
        passes.push_back({"avx512vnni", vnni, line_vnni, 127});
    if (__builtin_cpu_supports("avx2")) passes.push_back({"avx2", avx2, line_avx2, 63});
#endif
    passes.push_back({"portable", portable, line_portable, 127});
    return passes;
}

const BlockPass& block_pass() { return chosen_pass(); }

void use_block_pass(const BlockPass& pass) { chosen_pass() = pass; }

}  // namespace headrace

#include "headrace/als.hpp"

#include <algorithm>
#include <cstring>

namespace headrace {
namespace {

constexpr size_t stretch = 256;       // rows whose products are summed in float
constexpr size_t most_parts = 16;     // double sums of the Gram matrix that are held at once
constexpr size_t turned_at_once = 64;
constexpr size_t solved_at_once = 32;
constexpr size_t fetched_ahead = 24576;  // floats of the next row's items, at most

size_t tiles(size_t n, size_t size) { return (n + size - 1) / size; }

using Lanes [[gnu::vector_size(sizeof(float) * als_lanes), gnu::aligned(4), gnu::may_alias]] = float;
using Half [[gnu::vector_size(sizeof(float) * als_lanes / 2), gnu::aligned(4), gnu::may_alias]] = float;
using Quarter [[gnu::vector_size(sizeof(float) * als_lanes / 4), gnu::aligned(4), gnu::may_alias]] = float;
using QuarterOrder [[gnu::vector_size(sizeof(float) * als_lanes / 4)]] = int32_t;

#ifdef __clang__
#define HEADRACE_ALS_PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define HEADRACE_ALS_PICK(a, b, ...) __builtin_shuffle(a, b, QuarterOrder{__VA_ARGS__})
#endif

inline Lanes& lanes(float* at) { return *reinterpret_cast<Lanes*>(at); }
inline const Lanes& lanes(const float* at) { return *reinterpret_cast<const Lanes*>(at); }

// Columns in panels, each with all rows, the last one filled up with zeros.
void pack(const float* rows, size_t n, size_t width, size_t panel, float* packed) {
    for (size_t j = 0; j < width; j += panel) {
        const size_t some = std::min(panel, width - j);
        for (size_t i = 0; i < n; ++i, packed += panel) {
            std::copy(rows + i * width + j, rows + i * width + j + some, packed);
            std::fill(packed + some, packed + panel, 0.0f);
        }
    }
}

// clang has no way to compile a part of a file for other instructions; its build is right, and slower
#if defined(__x86_64__) && !defined(__clang__)
#define HEADRACE_ALS_X86 1
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,fma,prefer-vector-width=512")
namespace avx512 {
constexpr size_t tall = 8, wide = 2;
#include "als_body.hpp"
}  // namespace avx512
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
constexpr size_t tall = 4, wide = 1;
#include "als_body.hpp"
}  // namespace avx2
#pragma GCC pop_options
#endif
namespace portable {
constexpr size_t tall = 2, wide = 1;
#include "als_body.hpp"
}  // namespace portable

// function-local, since other files may ask while theirs are being initialised
AlsPass& chosen_pass() {
    static AlsPass pass = als_passes().front();
    return pass;
}

float* space_of(size_t n) {
    thread_local std::vector<float> space;
    if (space.size() < n) space.resize(n);
    return space.data();
}

}  // namespace

void als_gram(const float* factors, size_t n, size_t width, double* out, const Crew& crew) {
    const AlsPass pass = als_pass();
    const size_t packed_width = tiles(width, pass.panel) * pass.panel, square = width * width;
    const size_t rows = tiles(tiles(n, most_parts), stretch) * stretch, n_parts = n ? tiles(n, rows) : 0;
    std::vector<double> parts(n_parts * square);
    for_tiles(n_parts, crew, [&](size_t part) {
        float* packed = space_of(stretch * packed_width);
        for (size_t row = part * rows; row < std::min(n, (part + 1) * rows); row += stretch)
            pass.gram(factors + row * width, std::min(stretch, n - row), width, packed, parts.data() + part * square);
    });
    std::fill(out, out + square, 0.0);
    for (size_t part = 0; part < n_parts; ++part)
        for (size_t i = 0; i < square; ++i) out[i] += parts[part * square + i];
    for (size_t i = 0; i < width; ++i)
        for (size_t j = 0; j < i; ++j) out[i * width + j] = out[j * width + i];
}

void als_turn(float* factors, size_t n, size_t width, const float* rotation, const Crew& crew) {
    const AlsPass pass = als_pass();
    std::vector<float> packed(tiles(width, pass.panel) * pass.panel * width);
    pack(rotation, width, width, pass.panel, packed.data());
    for_tiles(tiles(n, turned_at_once), crew, [&](size_t tile) {
        const size_t row = tile * turned_at_once, some = std::min(turned_at_once, n - row);
        pass.turn(factors + row * width, some, width, packed.data(), space_of(turned_at_once * width));
    });
}

void als_solve(const Observed& observed, const float* fixed, size_t width, const float* spectrum, const float* ridge,
               size_t steps, float* factors, const Crew& crew) {
    const AlsPass pass = als_pass();
    for_tiles(tiles(observed.n_rows, solved_at_once), crew, [&](size_t tile) {
        float* space = space_of(4 * width);
        for (size_t row = tile * solved_at_once; row < std::min(observed.n_rows, (tile + 1) * solved_at_once); ++row)
            pass.solve(observed, row, fixed, width, spectrum, ridge[row], steps, factors + row * width, space);
    });
}

double als_loss(const Observed& observed, const float* fixed, size_t width, const float* factors, const Crew& crew) {
    const AlsPass pass = als_pass();
    std::vector<double> parts(tiles(observed.n_rows, solved_at_once));
    for_tiles(parts.size(), crew, [&](size_t tile) {
        double sum = 0;
        for (size_t row = tile * solved_at_once; row < std::min(observed.n_rows, (tile + 1) * solved_at_once); ++row)
            sum += pass.loss(observed, row, fixed, width, factors + row * width);
        parts[tile] = sum;
    });
    double all = 0;
    for (double part : parts) all += part;
    return all;
}

std::vector<AlsPass> als_passes() {
    std::vector<AlsPass> passes;
#ifdef HEADRACE_ALS_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        passes.push_back({"avx512", avx512::gram, avx512::turn, avx512::solve, avx512::loss, avx512::panel});
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        passes.push_back({"avx2", avx2::gram, avx2::turn, avx2::solve, avx2::loss, avx2::panel});
#endif
    passes.push_back({"portable", portable::gram, portable::turn, portable::solve, portable::loss, portable::panel});
    return passes;
}

const AlsPass& als_pass() { return chosen_pass(); }

void use_als_pass(const AlsPass& pass) { chosen_pass() = pass; }

}  // namespace headrace

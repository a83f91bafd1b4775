// ALS on edges of memory and with several threads: run under the sanitizers.
#include "headrace/als.hpp"

#include <cmath>
#include <stdexcept>

#include "check.hpp"

using namespace headrace;

namespace {

uint32_t state = 1;

float number() {
    state = state * 1664525u + 1013904223u;
    return static_cast<float>(static_cast<int>(state >> 16) % 2001 - 1000) / 1000.0f;
}

struct Problem {
    size_t n_rows, n_columns, d, width;
    std::vector<int64_t> indptr{0};
    std::vector<int32_t> columns;
    std::vector<float> confidences, fixed, spectrum, ridge;

    Problem(size_t n, size_t m, size_t dimensions)
        : n_rows(n), n_columns(m), d(dimensions), width((d + als_lanes - 1) / als_lanes * als_lanes),
          fixed(m * width, 0.0f), spectrum(width, 0.0f), ridge(n, 0.5f) {
        for (size_t row = 0; row < n; ++row) {  // the first has everything, the second nothing
            for (size_t column = 0; column < m; ++column)
                if (row == 0 || (row != 1 && (row * 7 + column * 13) % 5 == 0)) {
                    columns.push_back(static_cast<int32_t>(column));
                    confidences.push_back(1.5f + number());
                }
            indptr.push_back(static_cast<int64_t>(columns.size()));
        }
        // columns of fixed factors that are zero but in rows of their own have a diagonal Gram matrix
        for (size_t column = 0; column < m; ++column) fixed[column * width + column % d] = number();
        for (size_t i = 0; i < fixed.size(); ++i) spectrum[i % width] += fixed[i] * fixed[i];
    }

    Observed observed() const { return {indptr.data(), columns.data(), confidences.data(), n_rows}; }
};

void rows_solve_their_systems(const Problem& problem) {
    std::vector<float> x(problem.n_rows * problem.width, 0.0f);
    als_solve(problem.observed(), problem.fixed.data(), problem.width, problem.spectrum.data(), problem.ridge.data(),
              20, x.data(), {2, nullptr});
    for (size_t row = 0; row < problem.n_rows; ++row) {
        const float* own = x.data() + row * problem.width;
        std::vector<double> left(problem.width, 0.0);
        for (size_t j = 0; j < problem.width; ++j) left[j] = (problem.spectrum[j] + problem.ridge[row]) * own[j];
        for (auto at = problem.indptr[row]; at < problem.indptr[row + 1]; ++at) {
            const float* y = problem.fixed.data() + static_cast<size_t>(problem.columns[at]) * problem.width;
            double score = 0, c = problem.confidences[at];
            for (size_t j = 0; j < problem.width; ++j) score += y[j] * own[j];
            for (size_t j = 0; j < problem.width; ++j) left[j] += ((c - 1) * score - c) * y[j];
        }
        for (double each : left) CHECK(std::fabs(each) < 1e-3);
        for (size_t j = problem.d; j < problem.width; ++j) CHECK(own[j] == 0.0f);
    }
}

void gram_turn_and_loss_are_the_same_for_any_crew(const Problem& problem) {
    const size_t n = problem.n_columns, width = problem.width;
    std::vector<double> one(width * width), many(width * width);
    als_gram(problem.fixed.data(), n, width, one.data(), {1, nullptr});
    als_gram(problem.fixed.data(), n, width, many.data(), {3, nullptr});
    CHECK(one == many);
    for (size_t j = 0; j < width; ++j) CHECK(std::fabs(one[j * width + j] - problem.spectrum[j]) < 1e-3);
    std::vector<float> turned = problem.fixed, swap(width * width, 0.0f);
    for (size_t j = 0; j < width; ++j) swap[j * width + width - 1 - j] = 1.0f;
    als_turn(turned.data(), n, width, swap.data(), {3, nullptr});
    for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < width; ++j) CHECK(turned[i * width + j] == problem.fixed[i * width + width - 1 - j]);
    std::vector<float> x(problem.n_rows * width, 0.25f);
    const double loss = als_loss(problem.observed(), problem.fixed.data(), width, x.data(), {1, nullptr});
    CHECK(loss == als_loss(problem.observed(), problem.fixed.data(), width, x.data(), {4, nullptr}));
}

void every_tile_is_done_once_or_all_stop() {
    for (size_t n_tiles : {0, 1, 2, 1000}) {
        std::vector<int> done(n_tiles, 0);
        for_tiles(n_tiles, {3, nullptr}, [&](size_t tile) { ++done[tile]; });
        for (int times : done) CHECK(times == 1);
    }
    bool thrown = false;
    try {
        for_tiles(1000, {3, nullptr}, [](size_t tile) {
            if (tile == 5) throw std::runtime_error("stop");
        });
    } catch (const std::runtime_error&) {
        thrown = true;
    }
    CHECK(thrown);
}

}  // namespace

int main() {
    every_tile_is_done_once_or_all_stop();
    for (const AlsPass& pass : als_passes()) {
        use_als_pass(pass);
        for (size_t d : {1, 7, 16, 33, 64}) {
            Problem problem(70, 301, d);
            rows_solve_their_systems(problem);
            gram_turn_and_loss_are_the_same_for_any_crew(problem);
        }
    }
    return 0;
}

// Implicit alternating least squares: the steps of one half sweep, and the loss.
//
// Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets" (2008), equation 4: a row's factors x
// solve (G + ridge I + sum (c - 1) y y^T) x = sum c y, where G is the Gram matrix of all the fixed side's factors.
// Scores, and so the loss, stay the same when both sides are turned by one rotation. So both are turned to where G is
// diagonal: then a product with the system costs what a row's own items cost, not width^2, and its diagonal is a good
// preconditioner.
//
// Tables of factors are (n, width), row by row, with width a multiple of als_lanes and zeros beyond the d meant.
// All work is cut into tiles that do not depend on the number of threads, and sums are taken in their order: equal
// input gives equal bits on one machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "headrace/tiles.hpp"

namespace headrace {

constexpr size_t als_lanes = 16;

// What was observed, in rows without repeats; confidences > 0.
struct Observed {
    const int64_t* indptr;  // (n_rows + 1,)
    const int32_t* columns;
    const float* confidences;
    size_t n_rows;
};

// out = factors^T factors, (width, width); summed in double from stretches of float.
void als_gram(const float* factors, size_t n, size_t width, double* out, const Crew& crew);

// factors = factors rotation, with rotation (width, width).
void als_turn(float* factors, size_t n, size_t width, const float* rotation, const Crew& crew);

// `steps` of preconditioned conjugate gradients from what `factors`, (n_rows, width), hold. `fixed` is the other side,
// turned to where its Gram matrix is diagonal; `spectrum`, (width,), is that diagonal; `ridge`, (n_rows,), is > 0. Rows
// without observations become zero.
void als_solve(const Observed& observed, const float* fixed, size_t width, const float* spectrum, const float* ridge,
               size_t steps, float* factors, const Crew& crew);

// Sum of c (1 - x.y)^2 - (x.y)^2 over what was observed: what the loss has beyond the Gram matrices' part.
double als_loss(const Observed& observed, const float* fixed, size_t width, const float* factors, const Crew& crew);

// The arithmetic, by what the processor can.
struct AlsPass {
    const char* name;
    void (*gram)(const float* rows, size_t n, size_t width, float* packed, double* out);
    void (*turn)(float* rows, size_t n, size_t width, const float* packed, float* space);
    void (*solve)(const Observed& observed, size_t row, const float* fixed, size_t width, const float* spectrum,
                  float ridge, size_t steps, float* x, float* space);
    double (*loss)(const Observed& observed, size_t row, const float* fixed, size_t width, const float* x);
    size_t panel;  // columns that gram and turn take together in `packed`
};

const AlsPass& als_pass();
// All that this processor can run, the portable one last; for tests.
std::vector<AlsPass> als_passes();
// Work by another one of them from now on; for tests and benchmarks.
void use_als_pass(const AlsPass& pass);

}  // namespace headrace

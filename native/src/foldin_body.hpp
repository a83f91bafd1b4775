// The arithmetic of foldin.cpp, compiled once for each set of instructions: no guard, since it is included repeatedly.

using Lanes [[gnu::vector_size(sizeof(float) * fold_lanes), gnu::aligned(4), gnu::may_alias]] = float;

inline Lanes& lanes(float* at) { return *reinterpret_cast<Lanes*>(at); }
inline const Lanes& lanes(const float* at) { return *reinterpret_cast<const Lanes*>(at); }

// system = gram + sum (c - 1) y y^T in the blocks that the upper triangle touches.
inline void add_products(const FoldIn& model, const float* chosen, const float* weights, size_t n, float* system) {
    constexpr size_t together = 8;
    const size_t width = model.width;
    for (size_t i = 0; i < width; i += together) {
        for (size_t j = i - i % fold_lanes; j < width; j += fold_lanes) {
            Lanes s0{}, s1{}, s2{}, s3{}, s4{}, s5{}, s6{}, s7{};
            for (size_t p = 0; p < n; ++p) {
                const float* y = chosen + p * width;
                const Lanes scaled = lanes(y + j) * weights[p];
                s0 += scaled * y[i], s1 += scaled * y[i + 1], s2 += scaled * y[i + 2], s3 += scaled * y[i + 3];
                s4 += scaled * y[i + 4], s5 += scaled * y[i + 5], s6 += scaled * y[i + 6], s7 += scaled * y[i + 7];
            }
            const Lanes* sums[together] = {&s0, &s1, &s2, &s3, &s4, &s5, &s6, &s7};
            for (size_t r = 0; r < together; ++r) {
                size_t at = (i + r) * width + j;
                lanes(system + at) = lanes(model.gram + at) + *sums[r];
            }
        }
    }
}

// Finishes the rows k ... k + panel - 1 of the Cholesky factor, and forward substitution in them.
inline void factor_panel(float* system, float* x, size_t width, size_t k) {
    for (size_t i = k; i < k + panel; ++i) {
        float* row = system + i * width;
        // A history of confidences far above the gram's scale can round a pivot to nothing or below; the floor keeps
        // the answer finite and leaves every well-conditioned system untouched.
        const float scale = 1.0f / std::sqrt(std::max(row[i], 1e-12f));
        // from a boundary of lanes on: what that spoils left of the diagonal is never read
        const size_t first = i - i % fold_lanes;
        for (size_t j = first; j < width; j += fold_lanes) lanes(row + j) *= scale;
        x[i] *= scale;
        for (size_t below = i + 1; below < k + panel; ++below) {
            float* other = system + below * width;
            const float factor = row[below];
            for (size_t j = first; j < width; j += fold_lanes) lanes(other + j) -= lanes(row + j) * factor;
            x[below] -= factor * x[i];
        }
    }
}

inline float sum_of(const Lanes& lanes) {
    float part[fold_lanes];
    std::memcpy(part, &lanes, sizeof part);
    for (size_t half = fold_lanes / 2; half; half /= 2)
        for (size_t i = 0; i < half; ++i) part[i] += part[i + half];
    return part[0];
}

// Solves R @ x = x for the upper triangle R, from the last lanes of x to the first.
inline void back_substitute(const float* system, float* x, size_t width) {
    for (size_t end = width; end; end -= fold_lanes) {
        const size_t first = end - fold_lanes;
        const float* block = system + first * width + first;
        float left[fold_lanes], columns[fold_lanes * fold_lanes], inverse[fold_lanes];
        for (size_t r = 0; r < fold_lanes; ++r) {
            const float* row = block + r * width;
            Lanes sums{};
            for (size_t j = end; j < width; j += fold_lanes) sums += lanes(row + (j - first)) * lanes(x + j);
            left[r] = x[first + r] - sum_of(sums);
            inverse[r] = 1.0f / row[r];
            for (size_t k = 0; k < fold_lanes; ++k) columns[k * fold_lanes + r] = r < k ? row[k] : 0.0f;
        }
        Lanes rest = lanes(left);
#pragma GCC unroll 16
        for (size_t k = fold_lanes; k-- > 0;) {
            const float value = rest[k] * inverse[k];
            x[first + k] = value;
            rest -= lanes(columns + k * fold_lanes) * value;
        }
    }
}

// Solves system @ x = x; only the upper triangle is read, and it becomes its Cholesky factor.
inline void solve(float* system, float* x, size_t width) {
    for (size_t k = 0; k < width; k += panel) {
        factor_panel(system, x, width, k);
        const float* top = system + k * width;
        for (size_t i = k + panel; i < width; ++i) {
            float* row = system + i * width;
            float factors[panel], low = 0.0f;
            for (size_t r = 0; r < panel; ++r) {
                factors[r] = top[r * width + i];
                low += factors[r] * x[k + r];
            }
            x[i] -= low;
            for (size_t j = i - i % fold_lanes; j < width; j += fold_lanes) {
                Lanes sum = lanes(row + j);
                for (size_t r = 0; r < panel; ++r) sum -= lanes(top + r * width + j) * factors[r];
                lanes(row + j) = sum;
            }
        }
    }
    back_substitute(system, x, width);
}

// Copies the chosen items side by side, padded with zeros; x = sum c y.
inline void gather(const FoldIn& model, const int32_t* rows, const float* confidences, size_t n, float* chosen,
                   float* weights, float* x) {
    constexpr size_t line = 64 / sizeof(float);
    const size_t d = model.d, width = model.width, whole = d - d % fold_lanes;
    for (size_t p = 0; p < n; ++p) {
        const float* item = model.items + static_cast<size_t>(rows[p]) * d;
        for (size_t j = 0; j < d; j += line) __builtin_prefetch(item + j);
    }
    std::fill(x, x + width, 0.0f);
    for (size_t p = 0; p < n; ++p) {
        const float* item = model.items + static_cast<size_t>(rows[p]) * d;
        float* copy = chosen + p * width;
        for (size_t j = 0; j < whole; j += fold_lanes) lanes(copy + j) = lanes(item + j);
        if (whole < width) {
            std::copy(item + whole, item + d, copy + whole);
            std::fill(copy + d, copy + width, 0.0f);
        }
        for (size_t j = 0; j < width; j += fold_lanes) lanes(x + j) += lanes(copy + j) * confidences[p];
        weights[p] = confidences[p] - 1.0f;
    }
}

inline void run(const FoldIn& model, const int32_t* rows, const float* confidences, size_t n, float* space, float* x) {
    const size_t width = model.width;
    float *system = space, *chosen = system + width * width, *weights = chosen + n * width;
    gather(model, rows, confidences, n, chosen, weights, x);
    add_products(model, chosen, weights, n, system);
    solve(system, x, width);
}

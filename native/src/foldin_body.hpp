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
    for (size_t k = width; k-- > 0;) {
        const float* row = system + k * width;
        Lanes sums{};
        size_t j = width;
        for (; j >= k + 1 + fold_lanes; j -= fold_lanes) sums += lanes(row + j - fold_lanes) * lanes(x + j - fold_lanes);
        float total = 0.0f;
        for (size_t lane = 0; lane < fold_lanes; ++lane) total += sums[lane];
        while (j-- > k + 1) total += row[j] * x[j];
        x[k] = (x[k] - total) / row[k];
    }
}

void run(const FoldIn& model, const float* chosen, const float* weights, size_t n, float* system, float* x) {
    add_products(model, chosen, weights, n, system);
    solve(system, x, model.width);
}

// The arithmetic of als.cpp, compiled once for each set of instructions: no guard, since it is included repeatedly.
// `tall` rows by `wide` lanes are the sums that stay in registers; the includer says how many this set has.

constexpr size_t panel = wide * als_lanes;
constexpr size_t together = 4;  // items of a row that are scored side by side

inline Quarter quarter(const Lanes& sums) {
    Half low, high;
    std::memcpy(&low, &sums, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char*>(&sums) + sizeof low, sizeof high);
    low += high;
    Quarter first, second;
    std::memcpy(&first, &low, sizeof first);
    std::memcpy(&second, reinterpret_cast<const char*>(&low) + sizeof first, sizeof second);
    return first + second;
}

// The sums of four vectors' lanes.
inline Quarter totals(const Lanes& s0, const Lanes& s1, const Lanes& s2, const Lanes& s3) {
    const Quarter a = quarter(s0), b = quarter(s1), c = quarter(s2), d = quarter(s3);
    const Quarter ab = HEADRACE_ALS_PICK(a, b, 0, 4, 1, 5) + HEADRACE_ALS_PICK(a, b, 2, 6, 3, 7);
    const Quarter cd = HEADRACE_ALS_PICK(c, d, 0, 4, 1, 5) + HEADRACE_ALS_PICK(c, d, 2, 6, 3, 7);
    return HEADRACE_ALS_PICK(ab, cd, 0, 1, 4, 5) + HEADRACE_ALS_PICK(ab, cd, 2, 3, 6, 7);
}

inline float total(const Lanes& sums) {
    const Quarter q = quarter(sums);
    return (q[0] + q[2]) + (q[1] + q[3]);
}

// sums[r][l] = sum over k of left[k * step + r * stride] * right[k * panel + 16 l ...]
inline void block(const float* left, size_t step, size_t stride, const float* right, size_t n,
                  Lanes (&sums)[tall][wide]) {
    Lanes kept[tall][wide] = {};
    for (size_t k = 0; k < n; ++k) {
#pragma GCC unroll 16
        for (size_t r = 0; r < tall; ++r) {
            const float factor = left[k * step + r * stride];
#pragma GCC unroll 4
            for (size_t l = 0; l < wide; ++l) kept[r][l] += lanes(right + k * panel + l * als_lanes) * factor;
        }
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < tall; ++r)
#pragma GCC unroll 4
        for (size_t l = 0; l < wide; ++l) sums[r][l] = kept[r][l];
}

// Adds the upper triangle of rows^T rows to `out`; `packed` holds n rows of a whole number of panels.
void gram(const float* rows, size_t n, size_t width, float* packed, double* out) {
    pack(rows, n, width, panel, packed);
    Lanes sums[tall][wide];
    for (size_t j = 0; j < width; j += panel) {
        for (size_t i = 0; i < std::min(width, j + panel); i += tall) {
            block(packed + i / panel * panel * n + i % panel, panel, 1, packed + j * n, n, sums);
            for (size_t r = 0; r < tall; ++r)
                for (size_t l = 0; l < wide && j + l * als_lanes < width; ++l)
                    for (size_t lane = 0; lane < als_lanes; ++lane)
                        out[(i + r) * width + j + l * als_lanes + lane] += static_cast<double>(sums[r][l][lane]);
        }
    }
}

// rows = rows times the matrix that is packed; `space` holds n rows, rounded up to a multiple of `tall`.
void turn(float* rows, size_t n, size_t width, const float* packed, float* space) {
    std::copy(rows, rows + n * width, space);
    Lanes sums[tall][wide];
    for (size_t j = 0; j < width; j += panel) {
        for (size_t i = 0; i < n; i += tall) {
            block(space + i * width, 1, width, packed + j * width, width, sums);
            for (size_t r = 0; r < tall && i + r < n; ++r)
                for (size_t l = 0; l < wide && j + l * als_lanes < width; ++l)
                    lanes(rows + (i + r) * width + j + l * als_lanes) = sums[r][l];
        }
    }
}

inline float dot(const float* a, const float* b, size_t width) {
    Lanes sums{};
    for (size_t j = 0; j < width; j += als_lanes) sums += lanes(a + j) * lanes(b + j);
    return total(sums);
}

// Items whose factors are fetched while a row is worked on: those of the next.
struct Ahead {
    size_t at, end;
};

inline void fetch(const Observed& observed, const float* fixed, size_t width, Ahead& ahead) {
    for (size_t i = 0; i < together && ahead.at < ahead.end; ++i, ++ahead.at) {
        const float* y = fixed + static_cast<size_t>(observed.columns[ahead.at]) * width;
        for (size_t j = 0; j < width; j += als_lanes) __builtin_prefetch(y + j);
    }
}

// out += sum f y over the row's items y, with f = (c - 1) y.v or, `first`, c - (c - 1) y.v: right side less left.
template <bool first>
[[gnu::always_inline]] inline void add_items(const Observed& observed, size_t row, const float* fixed, size_t width,
                                             const float* v, float* out, Ahead& ahead) {
    const auto begin = static_cast<size_t>(observed.indptr[row]), end = static_cast<size_t>(observed.indptr[row + 1]);
    for (size_t at = begin; at < end; at += together) {
        const float* y[together];
        for (size_t i = 0; i < together; ++i)
            y[i] = fixed + static_cast<size_t>(observed.columns[std::min(at + i, end - 1)]) * width;
        fetch(observed, fixed, width, ahead);
        Lanes s0{}, s1{}, s2{}, s3{};
        for (size_t j = 0; j < width; j += als_lanes) {
            const Lanes other = lanes(v + j);
            s0 += lanes(y[0] + j) * other, s1 += lanes(y[1] + j) * other;
            s2 += lanes(y[2] + j) * other, s3 += lanes(y[3] + j) * other;
        }
        // copies, since what has an address is kept in memory
        const Lanes t0 = s0, t1 = s1, t2 = s2, t3 = s3;
        const Quarter scores = totals(t0, t1, t2, t3);
        Quarter c{}, more{};  // of the items that there are not: zero, so that they add nothing
        if (at + together <= end) {
            std::memcpy(&c, observed.confidences + at, sizeof c);
            more = c - 1.0f;
        } else {
            for (size_t i = 0; at + i < end; ++i) c[i] = observed.confidences[at + i], more[i] = c[i] - 1.0f;
        }
        const Quarter factors = first ? c - more * scores : more * scores;
        for (size_t j = 0; j < width; j += als_lanes)
            lanes(out + j) += (lanes(y[0] + j) * factors[0] + lanes(y[1] + j) * factors[1]) +
                              (lanes(y[2] + j) * factors[2] + lanes(y[3] + j) * factors[3]);
    }
}

[[gnu::always_inline]] inline void solve_row(const Observed& observed, size_t row, const float* fixed, size_t width,
                                             const float* spectrum, float ridge, size_t steps, float* x, float* space) {
    float *r = space, *p = space + width, *q = space + 2 * width, *inverse = space + 3 * width;
    for (size_t j = 0; j < width; j += als_lanes) {
        const Lanes diagonal = lanes(spectrum + j) + ridge;
        lanes(r + j) = -diagonal * lanes(x + j);
        lanes(inverse + j) = 1.0f / diagonal;
    }
    Ahead ahead{static_cast<size_t>(observed.indptr[row + 1]), 0};
    if (row + 1 < observed.n_rows)
        ahead.end = std::min(static_cast<size_t>(observed.indptr[row + 2]), ahead.at + fetched_ahead / width);
    add_items<true>(observed, row, fixed, width, x, r, ahead);
    Lanes lengths{};
    for (size_t j = 0; j < width; j += als_lanes) {
        lanes(p + j) = lanes(r + j) * lanes(inverse + j);
        lengths += lanes(p + j) * lanes(r + j);
    }
    float length = total(lengths);
    const float enough = length * 1e-12f;
    for (size_t step = 1; step <= steps && length > enough; ++step) {
        for (size_t j = 0; j < width; j += als_lanes) lanes(q + j) = (lanes(spectrum + j) + ridge) * lanes(p + j);
        add_items<false>(observed, row, fixed, width, p, q, ahead);
        const float along = length / dot(p, q, width);
        for (size_t j = 0; j < width; j += als_lanes) lanes(x + j) += lanes(p + j) * along;
        if (step == steps) break;
        Lanes next{};
        for (size_t j = 0; j < width; j += als_lanes) {
            lanes(r + j) -= lanes(q + j) * along;
            next += lanes(r + j) * lanes(r + j) * lanes(inverse + j);
        }
        const float now = total(next), keep = now / length;
        length = now;
        for (size_t j = 0; j < width; j += als_lanes)
            lanes(p + j) = lanes(r + j) * lanes(inverse + j) + lanes(p + j) * keep;
    }
}

// `space` holds four times `width`. The widths that are used most are known to the compiler, which unrolls their loops.
void solve(const Observed& observed, size_t row, const float* fixed, size_t width, const float* spectrum, float ridge,
           size_t steps, float* x, float* space) {
    if (observed.indptr[row] == observed.indptr[row + 1])
        std::fill(x, x + width, 0.0f);
    else if (width == 64)
        solve_row(observed, row, fixed, 64, spectrum, ridge, steps, x, space);
    else if (width == 128)
        solve_row(observed, row, fixed, 128, spectrum, ridge, steps, x, space);
    else if (width == 256)
        solve_row(observed, row, fixed, 256, spectrum, ridge, steps, x, space);
    else
        solve_row(observed, row, fixed, width, spectrum, ridge, steps, x, space);
}

double loss(const Observed& observed, size_t row, const float* fixed, size_t width, const float* x) {
    const auto begin = static_cast<size_t>(observed.indptr[row]), end = static_cast<size_t>(observed.indptr[row + 1]);
    double sum = 0;
    for (size_t at = begin; at < end; ++at) {
        const double score = dot(fixed + static_cast<size_t>(observed.columns[at]) * width, x, width);
        sum += static_cast<double>(observed.confidences[at]) * (1 - score) * (1 - score) - score * score;
    }
    return sum;
}

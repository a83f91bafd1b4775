#include "headrace/scan.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>

namespace headrace {
namespace {

// Coarse factors that all queries pass over before the next: with the queries' own they stay in a core's cache.
constexpr size_t tile_bytes = 256 << 10;
// Candidates that are gathered before those below the threshold are dropped.
constexpr size_t first_prune = 4096;
constexpr size_t cache_line = 64;
// Covers the roundings of the exact score itself and of its bound, as a share of |q| |y|.
constexpr double rounding = 1e-4;
// The same for the roundings of what is added to a score, as a share of it.
constexpr float added_rounding = 1e-6f;
// Above it nothing is added, in steps of a query's unit, so that sums stay numbers.
constexpr float most_added = 1e37f;
// The least scale: its inverse is still a number, and what it rounds away counts as error.
constexpr float least_scale = 1e-30f;

// A filter this many times narrower than the items is scored row by row: fewer bytes, but from all over the memory.
constexpr size_t narrow = 32;

bool worse_first(const Scored& a, const Scored& b) { return better(a, b); }

void prefetch(const float* factors, size_t d) {
    for (size_t j = 0; j < d; j += cache_line / sizeof(float)) __builtin_prefetch(factors + j);
}

// A word of the filter, where items have no other names than their places.
uint64_t block_filter(const Filter* filter, size_t block) {
    static_assert(scan_block == 64, "a block is a word of bits");
    if (!filter) return ~uint64_t{0};
    return block * scan_block < filter->rows.n ? filter->rows.words[block] : 0;
}

}  // namespace

Bytes allocate(size_t bytes) {
    constexpr size_t huge = size_t{2} << 20;
    void* memory = nullptr;
    if (posix_memalign(&memory, bytes >= huge ? huge : cache_line, std::max(bytes, cache_line))) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (bytes >= huge) madvise(memory, bytes, MADV_HUGEPAGE);  // where it is refused, small pages serve as well
#endif
    return {static_cast<uint8_t*>(memory), std::free};
}

void offer_filtered(const float* factors, size_t n_items, size_t d, const float* query, const Bars& bars,
                    const Filter& filter, Best& best) {
    std::vector<int32_t> rows;
    for (size_t word = 0; word * 64 < std::min(n_items, filter.rows.n); ++word) {
        for (uint64_t bits = filter.rows.words[word]; bits; bits &= bits - 1) {
            size_t row = word * 64 + static_cast<size_t>(__builtin_ctzll(bits));
            if (row < n_items && bars.allow(row)) rows.push_back(static_cast<int32_t>(row));
        }
    }
    constexpr size_t ahead = 16;
    for (size_t i = 0; i < rows.size(); ++i) {
        if (i + ahead < rows.size()) prefetch(factors + static_cast<size_t>(rows[i + ahead]) * d, d);
        best.offer({score(factors + static_cast<size_t>(rows[i]) * d, query, d), rows[i]});
    }
}

void Best::offer(Scored entry) {
    if (kept_.size() < k_) {
        kept_.push_back(entry);
        std::push_heap(kept_.begin(), kept_.end(), worse_first);
    } else if (k_ && better(entry, kept_.front())) {
        std::pop_heap(kept_.begin(), kept_.end(), worse_first);
        kept_.back() = entry;
        std::push_heap(kept_.begin(), kept_.end(), worse_first);
    }
}

const std::vector<Scored>& Best::sorted() {
    std::sort_heap(kept_.begin(), kept_.end(), worse_first);
    return kept_;
}

struct Scan::Query {
    struct Candidate {
        float upper;
        int32_t place;
        float added;
    };

    const float* exact;
    const Bars* bars;
    Best* best;
    const Additions* additions = nullptr;
    std::vector<float> raised;  // the additions' values in steps of the unit, and the next of them
    size_t next = 0;
    size_t k;
    std::vector<int8_t> rounded;
    float unit;   // worth of one step of t Q.Y
    float start;  // K / t - 128 sum(Q)
    float width;  // 2 K / t, from the lower bound to the upper
    float threshold = -std::numeric_limits<float>::infinity();  // in steps of t: bounds leave it out
    std::vector<Candidate> candidates;
    std::vector<float> lowers;  // the k best lower bounds, a heap with the least in front: that is the threshold
    size_t prune_at = first_prune;

    void add(float upper, float lower, int32_t place, float added = 0.0f);
    uint64_t added_to(size_t block) const { return additions ? additions->blocks[block] : 0; }
    void raise();
    void look_at_added(uint64_t lanes, size_t first_row, const float* uppers, const float* scales);
    void prune();
};

void Scan::Query::add(float upper, float lower, int32_t place, float added) {
    candidates.push_back({upper, place, added});
    if (lowers.size() < k) {
        lowers.push_back(lower);
        if (lowers.size() < k) return;
        std::make_heap(lowers.begin(), lowers.end(), std::greater<>());
    } else {
        if (lower <= lowers.front()) return;
        size_t hole = 0;
        for (size_t child = 1; child < k; child = 2 * hole + 1) {
            child += child + 1 < k && lowers[child + 1] < lowers[child];
            if (lowers[child] >= lower) break;
            lowers[hole] = lowers[child];
            hole = child;
        }
        lowers[hole] = lower;
    }
    threshold = lowers.front();
    if (candidates.size() >= prune_at) prune();
}

// The additions in steps of the unit, rounded up.
void Scan::Query::raise() {
    const float inverse = 1.0f / unit;
    raised.resize(additions->values.size());
    for (size_t i = 0; i < raised.size(); ++i) {
        float steps = std::min(most_added, std::max(-most_added, additions->values[i] * inverse));
        raised[i] = steps + added_rounding * std::fabs(steps);
    }
}

// The items of a block that something is added to, which moves their bounds.
void Scan::Query::look_at_added(uint64_t lanes, size_t first_row, const float* uppers, const float* scales) {
    for (; lanes; lanes &= lanes - 1, ++next) {
        auto lane = static_cast<size_t>(__builtin_ctzll(lanes));
        float upper = uppers[lane] + raised[next];
        if (upper < threshold || !bars->allow(first_row + lane)) continue;
        float lower = upper - 3 * added_rounding * std::fabs(raised[next]) - width * scales[lane];
        add(upper, lower, static_cast<int32_t>(first_row + lane), additions->values[next]);
    }
}

Scan::Scan(const float* factors, size_t n_items, size_t d, const std::function<void()>& pause, const int32_t* names)
    : factors_(factors),
      n_items_(n_items),
      d_(d),
      quads_((d + 3) / 4),
      n_blocks_((n_items + scan_block - 1) / scan_block),
      names_(names),
      coarse_(allocate(n_blocks_ * scan_block * quads_ * 4)),
      scales_(n_blocks_ * scan_block, 0.0f) {
    for (size_t block = 0; block < n_blocks_; ++block) {
        round_block(block);
        if (pause && ((block + 1) % (scan_stretch / scan_block) == 0 || block + 1 == n_blocks_)) pause();
    }
}

void Scan::round_block(size_t block) {
    uint8_t* out = coarse_.get() + block * scan_block * quads_ * 4;
    for (size_t i = 0; i < scan_block; ++i) {
        size_t row = block * scan_block + i;
        float largest = 0.0f;
        const float* y = row < n_items_ ? factors(row) : nullptr;
        for (size_t j = 0; y && j < d_; ++j) largest = std::max(largest, std::fabs(y[j]));
        float scale = std::max(largest / 127.0f, least_scale), inverse = 1.0f / scale;
        scales_[row] = largest > 0.0f ? scale : 0.0f;
        float error = 0.0f, length = 0.0f;
        for (size_t j = 0; j < quads_ * 4; ++j) {
            float value = y && j < d_ ? y[j] * inverse : 0.0f;
            float near = std::nearbyintf(std::min(127.0f, std::max(-127.0f, value)));
            error += (value - near) * (value - near);
            length += value * value;
            out[(j / 4 * scan_block + i) * 4 + j % 4] = static_cast<uint8_t>(128 + static_cast<int>(near));
        }
        max_error_ = std::max(max_error_, static_cast<double>(std::sqrt(error)));
        max_length_ = std::max(max_length_, static_cast<double>(std::sqrt(length)));
    }
}

void Scan::search(const float* const* queries, const Bars* bars, size_t n, Best* best, const Beside& beside) const {
    const Additions* additions = beside.additions;
    const Filter* filter = beside.filter;
    if (filter && !names_ && filter->count * narrow <= n_items_) {
        for (size_t q = 0; q < n; ++q) offer_filtered(factors_, n_items_, d_, queries[q], bars[q], *filter, best[q]);
        return;
    }
    const int limit = block_pass().query_limit;
    std::vector<Query> rounded(n);
    for (size_t q = 0; q < n; ++q) {
        Query& query = rounded[q];
        query.exact = queries[q];
        query.bars = &bars[q];
        query.best = &best[q];
        if (additions && !additions[q].empty()) query.additions = &additions[q];
        query.k = best[q].capacity();
        float largest = 0.0f;
        for (size_t j = 0; j < d_; ++j) largest = std::max(largest, std::fabs(query.exact[j]));
        query.unit = std::max(largest / static_cast<float>(limit), least_scale);
        query.rounded.assign(quads_ * 4, 0);
        double norm = 0, length = 0, error = 0, sum = 0;
        for (size_t j = 0; j < d_; ++j) {
            double value = static_cast<double>(query.exact[j]) / query.unit;
            double near = std::fabs(value) <= limit ? std::nearbyint(value) : std::copysign(limit, value);
            query.rounded[j] = static_cast<int8_t>(near);
            norm += value * value, length += near * near, error += (value - near) * (value - near), sum += near;
        }
        double bound = std::sqrt(length) * max_error_ * (1 + rounding) + std::sqrt(error) * max_length_ +
                       rounding * std::sqrt(norm) * max_length_;
        query.start = static_cast<float>(bound - 128.0 * sum);
        query.width = static_cast<float>(2.0 * bound);
        if (!query.k) query.threshold = std::numeric_limits<float>::infinity();
        query.lowers.reserve(query.k);
        if (query.additions) query.raise();
    }
    collect(rounded.data(), n, filter);
    for (Query& query : rounded) settle(query);
}

void Scan::collect(Query* queries, size_t n, const Filter* filter) const {
    const BlockPass::Run run = block_pass().run;
    const size_t block_bytes = scan_block * quads_ * 4, tile = std::max<size_t>(1, tile_bytes / block_bytes);
    float upper[scan_together * scan_block];
    for (size_t first = 0; first < n_blocks_; first += tile) {
        size_t last = std::min(n_blocks_, first + tile);
        for (size_t q = 0; q < n; q += scan_together) {
            size_t m = std::min(scan_together, n - q);
            const int8_t* rounded[scan_together];
            float starts[scan_together], thresholds[scan_together];
            uint64_t masks[scan_together];
            for (size_t i = 0; i < m; ++i) {
                rounded[i] = queries[q + i].rounded.data();
                starts[i] = queries[q + i].start;
                thresholds[i] = queries[q + i].threshold;
            }
            for (size_t block = first; block < last; ++block) {
                const uint64_t filtered = names_ ? ~uint64_t{0} : block_filter(filter, block);
                if (!filtered) continue;
                const uint64_t lanes = block + 1 < n_blocks_ ? ~uint64_t{0} : last_lanes();
                const float* scales = scales_.data() + block * scan_block;
                for (size_t i = 0; i < m; ++i) masks[i] = queries[q + i].added_to(block);
                run(coarse_.get() + block * block_bytes, scales, quads_, rounded, starts, thresholds, m, masks, upper);
                for (size_t i = 0; i < m; ++i) {
                    masks[i] &= filtered;
                    Query& query = queries[q + i];
                    uint64_t added = query.added_to(block) & lanes;
                    if (!(masks[i] | added)) continue;
                    query.look_at_added(added, block * scan_block, upper + i * scan_block, scales);
                    for (uint64_t mask = masks[i] & ~added; mask; mask &= mask - 1) {
                        auto lane = static_cast<size_t>(__builtin_ctzll(mask));
                        size_t place = block * scan_block + lane;
                        float bound = upper[i * scan_block + lane];
                        if (place >= n_items_ || bound < query.threshold) continue;
                        size_t row = row_of(place);
                        if (!query.bars->allow(row) || (filter && names_ && !filter->rows.has(row))) continue;
                        query.add(bound, bound - query.width * scales[lane], static_cast<int32_t>(place));
                    }
                    thresholds[i] = query.threshold;
                }
            }
        }
    }
}

// Drops the candidates that the threshold has overtaken.
void Scan::Query::prune() {
    auto out = [&](const Candidate& each) { return each.upper < threshold; };
    candidates.erase(std::remove_if(candidates.begin(), candidates.end(), out), candidates.end());
    prune_at = std::max(first_prune, 2 * candidates.size());
}

// Scores what is left.
void Scan::settle(Query& query) const {
    query.prune();
    const auto& all = query.candidates;
    for (const auto& each : all) prefetch(factors(static_cast<size_t>(each.place)), d_);
    for (const auto& each : all) {
        auto place = static_cast<size_t>(each.place);
        query.best->offer({score(factors(place), query.exact, d_) + each.added, static_cast<int32_t>(row_of(place))});
    }
}

}  // namespace headrace

#include "headrace/lists.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace headrace {
namespace {

constexpr float least_scale = 1e-30f;
constexpr size_t items_beyond = 3, bytes_beyond = 64;  // what a pass may read behind the last item
constexpr size_t wide_share = 4;          // of all items, whose inverse makes a filter wide
constexpr size_t spread_sample = 65'536;  // items that tell how wide the columns lie

struct Centre {
    float score;
    int32_t list;
};

// Whether a is searched after b: by score, then the lower list first.
bool later(const Centre& a, const Centre& b) { return a.score < b.score || (a.score == b.score && a.list > b.list); }

struct Candidate {
    float estimate;
    float offset;  // q.c
    uint32_t place;
    int32_t row;
};

bool ahead(const Candidate& a, const Candidate& b) {
    return a.estimate > b.estimate || (a.estimate == b.estimate && a.row < b.row);
}

}  // namespace

struct Lists::Query {
    const float* exact;
    const Bars& bars;
    size_t wanted;
    const Filter* late;  // asked only about items that come up to the threshold
    std::vector<float> stretched = {};  // q o w
    std::vector<int8_t> rounded = {};   // Q, padded to whole 64 bytes
    float unit = 0, start = 0;          // t, and -128 sum(Q)
    float threshold = -std::numeric_limits<float>::infinity();
    std::vector<Candidate> candidates = {};
    size_t n_scanned = 0, n_filtered = 0;  // of items in the scanned lists: all, and those that a filter let by
    size_t n_seen = 0, n_allowed = 0;      // of items that came up to the threshold: all, and those that may be shown
    bool complete = true;                  // whether every item that may be shown is still a candidate

    void add(float estimate, float offset, uint32_t place, int32_t row) {
        ++n_seen;
        if (!bars.allow(static_cast<size_t>(row)) || (late && !late->rows.has(static_cast<size_t>(row)))) return;
        ++n_allowed;
        candidates.push_back({estimate, offset, place, row});
        if (candidates.size() >= 2 * kept()) prune();
    }

    size_t kept() const { return finalists * wanted + spare; }

    void prune() {
        if (candidates.size() <= kept()) return;
        auto end = candidates.begin() + static_cast<std::ptrdiff_t>(kept());
        std::nth_element(candidates.begin(), end - 1, candidates.end(), ahead);
        candidates.erase(end, candidates.end());
        threshold = candidates.back().estimate;
        complete = false;
    }

    // The top of the items that may be shown lies the deeper among all, the fewer they are.
    bool enough(size_t n_lists, size_t probes) const {
        if (n_lists < probes || n_allowed < wanted) return false;
        double thinned = static_cast<double>(n_scanned) / static_cast<double>(n_filtered);
        thinned *= static_cast<double>(n_seen) / static_cast<double>(n_allowed);
        return static_cast<double>(n_lists) >= static_cast<double>(probes) * std::sqrt(std::sqrt(thinned));
    }
};

Lists::Lists(const float* factors, size_t n_items, size_t d, const Clusters& clusters,
             const std::function<void()>& pause)
    : factors_(factors),
      d_(d),
      probes_(clusters.probes),
      by_factors_(clusters.by_factors),
      columns_(clusters.n_lists * d),
      starts_(clusters.n_lists + 1, 0),
      rows_(n_items),
      spots_(n_items),
      spread_(d),
      scales_(n_items + items_beyond),
      codes_(allocate((n_items + items_beyond) * d + bytes_beyond)) {
    order(clusters.lists);
    measure_spread(clusters.centres, pause);
    for (size_t list = 0; list < clusters.n_lists; ++list)
        for (size_t j = 0; j < d; ++j) columns_[j * clusters.n_lists + list] = clusters.centres[list * d + j];
    for (size_t row = 0; row < n_items; ++row) {
        round_item(row, clusters.centres + static_cast<size_t>(clusters.lists[row]) * d);
        if (pause && ((row + 1) % scan_stretch == 0 || row + 1 == n_items)) pause();
    }
    std::fill_n(codes_.get() + n_items * d, items_beyond * d + bytes_beyond, uint8_t{0});
}

// By list, then row.
void Lists::order(const int32_t* lists) {
    for (size_t row = 0; row < n_items(); ++row) ++starts_[static_cast<size_t>(lists[row]) + 1];
    for (size_t list = 1; list < starts_.size(); ++list) starts_[list] += starts_[list - 1];
    std::vector<uint32_t> next(starts_.begin(), starts_.end() - 1);
    for (size_t row = 0; row < n_items(); ++row) {
        uint32_t place = next[static_cast<size_t>(lists[row])]++;
        rows_[place] = static_cast<int32_t>(row);
        spots_[row] = {place, lists[row]};
    }
}

// The root mean square of each column around the centres, over items at equal distances.
void Lists::measure_spread(const float* centres, const std::function<void()>& pause) {
    std::vector<double> squares(d_, 0.0);
    size_t step = std::max<size_t>(1, n_items() / spread_sample), n = 0;
    for (size_t row = 0; row < n_items(); row += step, ++n) {
        const float *y = factors(row), *c = centres + static_cast<size_t>(spots_[row].list) * d_;
        for (size_t j = 0; j < d_; ++j) {
            double away = static_cast<double>(y[j]) - c[j];
            squares[j] += away * away;
        }
        if (pause && row / scan_stretch != (row + step) / scan_stretch) pause();
    }
    for (size_t j = 0; j < d_; ++j)
        spread_[j] = std::max(least_scale, static_cast<float>(std::sqrt(squares[j] / std::max<size_t>(n, 1))));
}

void Lists::round_item(size_t row, const float* c) {
    const size_t place = spots_[row].place;
    const float* y = factors(row);
    uint8_t* code = codes_.get() + place * d_;
    float largest = 0.0f;
    for (size_t j = 0; j < d_; ++j) largest = std::max(largest, std::fabs((y[j] - c[j]) / spread_[j]));
    float scale = std::max(largest / 127.0f, least_scale);
    scales_[place] = scale;
    for (size_t j = 0; j < d_; ++j) {
        float value = (y[j] - c[j]) / spread_[j] / scale;
        code[j] = static_cast<uint8_t>(128 + static_cast<int>(std::nearbyintf(std::min(127.0f, std::max(-127.0f, value)))));
    }
}

size_t Lists::bytes() const {
    return n_items() * (d_ + sizeof(float) + sizeof(int32_t) + sizeof(Spot)) + columns_.size() * sizeof(float) + starts_.size() * sizeof(uint32_t) + spread_.size() * sizeof(float);
}

void Lists::round_query(Query& query) const {
    float largest = 0.0f;
    query.stretched.resize(d_);
    for (size_t j = 0; j < d_; ++j) {
        query.stretched[j] = query.exact[j] * spread_[j];
        largest = std::max(largest, std::fabs(query.stretched[j]));
    }
    query.unit = std::max(largest / 127.0f, least_scale);
    query.rounded.assign((d_ + 63) / 64 * 64, 0);
    int sum = 0;
    for (size_t j = 0; j < d_; ++j) {
        float near = std::nearbyintf(std::min(127.0f, std::max(-127.0f, query.stretched[j] / query.unit)));
        query.rounded[j] = static_cast<int8_t>(near);
        sum += static_cast<int>(near);
    }
    query.start = -128.0f * static_cast<float>(sum);
}

void Lists::search(const float* const* queries, const Bars* bars, size_t n, Best* best, const Beside& beside) const {
    const Filter* filter = beside.filter;
    const size_t probes = beside.probes ? beside.probes : probes_;
    // a filter that lets no more by than the probed lists hold is scanned itself, a wide one looked at last
    const bool narrow = filter && filter->count <= n_items() / n_lists() * probes;
    const bool wide = filter && !narrow && filter->count * wide_share >= n_items();
    for (size_t q = 0; q < n; ++q) {
        Bars others = bars[q];
        if (beside.additions) others.apart = &beside.additions[q];
        Query query{queries[q], others, best[q].capacity(), wide ? filter : nullptr};
        if (!query.wanted || !n_items()) continue;
        round_query(query);
        if (narrow) {
            scan_filter(query, *filter);
        } else {
            scan_lists(query, probes, wide ? nullptr : filter);
        }
        settle(query, best[q]);
        if (beside.additions) {
            beside.additions[q].each([&](size_t row, float added) {
                if (row < n_items() && bars[q].allow(row))
                    best[q].offer({score(factors(row), query.exact, d_) + added, static_cast<int32_t>(row)});
            });
        }
        if (beside.exact && !(query.complete && by_factors_)) beside.exact[q] = 0;
    }
}

void Lists::scan_lists(Query& query, size_t probes, const Filter* filter) const {
    std::vector<float> offsets(n_lists());
    score_columns(columns_.data(), n_lists(), d_, query.exact, offsets.data());
    std::vector<Centre> centres;
    centres.reserve(n_lists());
    for (size_t list = 0; list < n_lists(); ++list) centres.push_back({offsets[list], static_cast<int32_t>(list)});
    std::make_heap(centres.begin(), centres.end(), later);
    size_t n_scanned = 0;
    while (!centres.empty() && !query.enough(n_scanned, probes)) {
        std::pop_heap(centres.begin(), centres.end(), later);
        scan_list(query, filter, static_cast<size_t>(centres.back().list), centres.back().score);
        centres.pop_back();
        ++n_scanned;
    }
    if (!centres.empty()) query.complete = false;
}

void Lists::scan_list(Query& query, const Filter* filter, size_t list, float offset) const {
    const size_t end = starts_[list + 1];
    uint32_t places[2 * scan_block];
    size_t n = 0;
    query.n_scanned += end - starts_[list];
    for (size_t first = starts_[list]; first < end; first += scan_block) {
        size_t last = std::min(end, first + scan_block);
        if (!filter) {
            scan_places(query, first, nullptr, last - first, offset);
            continue;
        }
        for (size_t place = first; place < last; ++place) {
            places[n] = static_cast<uint32_t>(place);
            auto row = static_cast<size_t>(rows_[place]);
            n += filter->rows.words[row / 64] >> row % 64 & 1;
        }
        if (n < scan_block) continue;
        scan_places(query, 0, places, scan_block, offset);
        n -= scan_block;
        std::copy_n(places + scan_block, n, places);
    }
    if (n) scan_places(query, 0, places, n, offset);
}

void Lists::scan_places(Query& query, size_t first, const uint32_t* places, size_t n, float offset) const {
    float bounds[scan_block];
    query.n_filtered += n;
    uint64_t mask = block_pass().line({codes_.get(), scales_.data(), d_}, first, places, n, query.rounded.data(),
                                      query.start, (query.threshold - offset) / query.unit, bounds);
    for (; mask; mask &= mask - 1) {
        auto i = static_cast<size_t>(__builtin_ctzll(mask));
        size_t place = places ? places[i] : first + i;
        query.add(offset + query.unit * bounds[i], offset, static_cast<uint32_t>(place), rows_[place]);
    }
}

void Lists::scan_filter(Query& query, const Filter& filter) const {
    std::vector<float> offsets(n_lists());
    score_columns(columns_.data(), n_lists(), d_, query.exact, offsets.data());
    std::vector<int32_t> rows;
    rows.reserve(filter.count);
    for (size_t word = 0; word * 64 < n_items(); ++word) {
        for (uint64_t bits = filter.rows.words[word]; bits; bits &= bits - 1) {
            size_t row = word * 64 + static_cast<size_t>(__builtin_ctzll(bits));
            if (row < n_items()) rows.push_back(static_cast<int32_t>(row));
        }
    }
    // what is far in memory is asked for two blocks and one block before it is needed
    auto block = [&](size_t first) { return std::min(rows.size(), first + scan_block); };
    auto fetch_spots = [&](size_t first) {
        for (size_t i = first; i < block(first); ++i) __builtin_prefetch(&spots_[static_cast<size_t>(rows[i])]);
    };
    auto fetch_codes = [&](size_t first) {
        for (size_t i = first; i < block(first); ++i) {
            size_t place = spots_[static_cast<size_t>(rows[i])].place;
            __builtin_prefetch(codes_.get() + place * d_);
            __builtin_prefetch(&scales_[place]);
        }
    };
    fetch_spots(0);
    fetch_spots(scan_block);
    fetch_codes(0);
    for (size_t first = 0; first < rows.size(); first += scan_block) {
        fetch_spots(first + 2 * scan_block);
        fetch_codes(first + scan_block);
        scan_rows(query, rows.data() + first, block(first) - first, offsets.data());
    }
}

void Lists::scan_rows(Query& query, const int32_t* rows, size_t n, const float* offsets) const {
    uint32_t places[scan_block];
    float bounds[scan_block];
    for (size_t i = 0; i < n; ++i) places[i] = spots_[static_cast<size_t>(rows[i])].place;
    block_pass().line({codes_.get(), scales_.data(), d_}, 0, places, n, query.rounded.data(), query.start,
                      -std::numeric_limits<float>::infinity(), bounds);
    for (size_t i = 0; i < n; ++i) {
        float offset = offsets[spots_[static_cast<size_t>(rows[i])].list];
        float estimate = offset + query.unit * bounds[i];
        if (estimate >= query.threshold) query.add(estimate, offset, places[i], rows[i]);
    }
}

float Lists::score_by_code(const Query& query, uint32_t place, float offset) const {
    const uint8_t* code = codes_.get() + place * d_;
    float sum = 0.0f;
    for (size_t j = 0; j < d_; ++j) sum += query.stretched[j] * static_cast<float>(code[j] - 128);
    return offset + scales_[place] * sum;
}

void Lists::settle(Query& query, Best& best) const {
    query.prune();
    for (const Candidate& each : query.candidates) {
        const float* item = factors(static_cast<size_t>(each.row));
        for (size_t j = 0; by_factors_ && j < d_; j += 16) __builtin_prefetch(item + j);
    }
    for (const Candidate& each : query.candidates) {
        best.offer({by_factors_ ? score(factors(static_cast<size_t>(each.row)), query.exact, d_)
                                : score_by_code(query, each.place, each.offset),
                    each.row});
    }
}

}  // namespace headrace

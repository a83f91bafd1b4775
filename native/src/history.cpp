#include "headrace/history.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

namespace headrace {
namespace {

constexpr int8_t purchase = 3, returned = 4;

// One person's entries under way.
struct Merging {
    const MergedHistories& out;
    const float* type_weights;
    int32_t* where;
    size_t entry;  // behind the last
    float n_events = 0.0f;
    int64_t last_event_ms = 0;

    // weighed : whether the values are weights, from which the counts follow.
    void add(const HistoryEntries& source, size_t first, size_t last, bool weighed) {
        for (size_t p = first; p < last; ++p) {
            const int8_t type = source.types[p];
            const float unit = type_weights[type == returned ? purchase : type];
            const float weight = weighed ? std::fabs(source.values[p]) : source.values[p] * type_weights[type];
            const float count = !weighed ? source.values[p] : unit > 0.0f ? weight / unit : 0.0f;
            const size_t at = place_of(source.rows[p]);
            out.last_ms[at] = std::max(out.last_ms[at], source.times_ms[p]);
            last_event_ms = std::max(last_event_ms, source.times_ms[p]);
            if (type == returned) {
                out.n_bought[at] -= count;
                continue;
            }
            n_events += count;
            if (type == purchase) {
                out.n_bought[at] += count;
                out.last_bought_ms[at] = std::max(out.last_bought_ms[at], source.times_ms[p]);
            } else {
                out.weights[at] += weight;
            }
        }
    }

    size_t place_of(int32_t row) {
        int32_t& place = where[row];
        if (place < 0) {
            place = static_cast<int32_t>(entry);
            out.rows[entry] = row;
            out.weights[entry] = out.n_bought[entry] = 0.0f;
            out.last_ms[entry] = out.last_bought_ms[entry] = 0;
            ++entry;
        }
        return static_cast<size_t>(place);
    }
};

// Which entries are among the latest: all later than `time_ms`, and the first `n_at` of that very time.
struct Bound {
    int64_t time_ms;
    size_t n_at;
};

Bound latest(const int64_t* times_ms, size_t n, size_t keep) {
    if (n <= keep) return {std::numeric_limits<int64_t>::min(), n};
    if (!keep) return {std::numeric_limits<int64_t>::max(), 0};
    std::vector<int64_t> ordered(times_ms, times_ms + n);
    std::nth_element(ordered.begin(), ordered.begin() + static_cast<ptrdiff_t>(keep - 1), ordered.end(),
                     std::greater<>());
    const int64_t time_ms = ordered[keep - 1];
    const auto n_later = std::count_if(times_ms, times_ms + n, [&](int64_t each) { return each > time_ms; });
    return {time_ms, keep - static_cast<size_t>(n_later)};
}

}  // namespace

void gather(const KnownHistories& known, const FreshHistories& fresh, const int32_t* users, const int32_t* slots,
            size_t n, const float* type_weights, int32_t* where, const MergedHistories& out) {
    size_t entry = 0;
    out.indptr[0] = 0;
    for (size_t person = 0; person < n; ++person) {
        const size_t first = entry;
        Merging merging{out, type_weights, where, entry};
        if (users[person] >= 0) {
            const int64_t* span = known.indptr + users[person];
            merging.add(known.entries, static_cast<size_t>(span[0]), static_cast<size_t>(span[1]), true);
        }
        if (slots[person] >= 0) {
            const auto start = static_cast<size_t>(fresh.start[slots[person]]);
            merging.add(fresh.entries, start, start + static_cast<size_t>(fresh.length[slots[person]]), false);
        }
        entry = merging.entry;
        for (size_t p = first; p < entry; ++p) {
            where[out.rows[p]] = -1;
            // counts of the artifact are quotients of float32: what a full return leaves may differ from nothing
            if (!(out.n_bought[p] > 1e-3)) out.n_bought[p] = 0.0f;
            out.weights[p] += out.n_bought[p] * type_weights[purchase];
        }
        out.n_events[person] = merging.n_events;
        out.last_event_ms[person] = merging.last_event_ms;
        out.indptr[person + 1] = static_cast<int64_t>(entry);
    }
}

void fold_in_input(const FoldInHistories& merged, size_t n, size_t n_items, float alpha, size_t max_history,
                   int64_t* indptr, int32_t* rows, float* confidences) {
    size_t entry = 0;
    indptr[0] = 0;
    for (size_t person = 0; person < n; ++person) {
        const auto first = static_cast<size_t>(merged.indptr[person]), last = static_cast<size_t>(merged.indptr[person + 1]);
        Bound bound = latest(merged.last_ms + first, last - first, max_history);
        for (size_t p = first; p < last; ++p) {
            if (merged.last_ms[p] < bound.time_ms) continue;
            if (merged.last_ms[p] == bound.time_ms && !bound.n_at--) {
                bound.n_at = 0;
                continue;
            }
            if (static_cast<size_t>(merged.rows[p]) >= n_items || !(merged.weights[p] > 0.0f)) continue;
            rows[entry] = merged.rows[p];
            confidences[entry++] = alpha * merged.weights[p];
        }
        indptr[person + 1] = static_cast<int64_t>(entry);
    }
}

}  // namespace headrace

#include "headrace/blend.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

namespace headrace {
namespace {

constexpr double day_ms = 86'400'000.0;
constexpr size_t line = 16;  // entries of a row of links in a cache line

struct Source {
    size_t row;
    double value;
};

void prefetch(const Links& links, size_t row) {
    for (int64_t p = links.indptr[row]; p < links.indptr[row + 1]; p += line) {
        __builtin_prefetch(links.items + p);
        __builtin_prefetch(links.weights + p);
    }
}

void add_links(const Links& links, const std::vector<Source>& sources, Adder& adder) {
    for (size_t s = 0; s < sources.size(); ++s) {
        if (s + 1 < sources.size()) prefetch(links, sources[s + 1].row);
        auto scale = static_cast<float>(sources[s].value);
        for (int64_t p = links.indptr[sources[s].row]; p < links.indptr[sources[s].row + 1]; ++p)
            adder.add(static_cast<size_t>(links.items[p]), scale * links.weights[p]);
    }
}

// The time from which entries count, and how many of that very time do, the first ones.
struct Oldest {
    int64_t time_ms = std::numeric_limits<int64_t>::min();
    size_t n_at = std::numeric_limits<size_t>::max();
};

Oldest oldest_used(const Past& past) {
    if (past.n <= most_sources) return {};
    std::vector<int64_t> times(past.last_ms, past.last_ms + past.n);
    auto bound = times.begin() + (most_sources - 1);
    std::nth_element(times.begin(), bound, times.end(), std::greater<>());
    int64_t time_ms = *bound;
    auto n_later = static_cast<size_t>(std::count_if(times.begin(), times.end(), [&](int64_t t) { return t > time_ms; }));
    return {time_ms, most_sources - n_later};
}

void add_items(const ItemPart& part, const Past& past, size_t n_items, Adder& adder) {
    double weight = past.only_new ? part.new_weight : part.weight;
    if (weight == 0) return;
    std::vector<Source> sources;
    Oldest oldest = oldest_used(past);
    double total = 0;
    for (size_t p = 0; p < past.n; ++p) {
        if (past.last_ms[p] < oldest.time_ms) continue;
        if (past.last_ms[p] == oldest.time_ms) {
            if (!oldest.n_at) continue;
            --oldest.n_at;
        }
        auto row = static_cast<size_t>(past.rows[p]);
        if (row >= n_items || !(past.weights[p] > 0)) continue;
        auto counted = static_cast<double>(past.weights[p]);
        double value = part.power == 1 ? counted : std::pow(counted, part.power);
        if (part.half_life_days > 0) {
            double age = std::max(0.0, static_cast<double>(past.last_event_ms - past.last_ms[p]) / day_ms);
            value *= std::exp2(-age / part.half_life_days);
        }
        total += value;
        sources.push_back({row, value});
    }
    double scale = total > 0 ? weight / std::pow(total, part.length_power) : 0;
    for (Source& source : sources) source.value *= scale;
    add_links(part.links, sources, adder);
}

void add_session(const SessionPart& part, const Past& past, size_t n_items, Adder& adder) {
    auto since = [&](int64_t earlier, int64_t later) { return static_cast<double>(later - earlier); };
    if (since(past.last_event_ms, past.now_ms) > part.session_ms) return;
    std::vector<size_t> places;
    for (size_t p = 0; p < past.n; ++p)
        if (static_cast<size_t>(past.rows[p]) < n_items && since(past.last_ms[p], past.last_event_ms) <= part.session_ms)
            places.push_back(p);
    size_t used = std::min(part.n_lags, places.size());
    auto later = [&](size_t a, size_t b) {
        return past.last_ms[a] > past.last_ms[b] || (past.last_ms[a] == past.last_ms[b] && a > b);
    };
    std::partial_sort(places.begin(), places.begin() + static_cast<std::ptrdiff_t>(used), places.end(), later);
    std::vector<Source> sources;
    for (size_t lag = 0; lag < used; ++lag)
        sources.push_back({static_cast<size_t>(past.rows[places[lag]]), part.weight * static_cast<double>(part.decay[lag])});
    add_links(part.links, sources, adder);
}

}  // namespace

Adder::Adder(size_t n_items) : blocks_((n_items + 63) / 64, 0) {
    thread_local std::vector<float> sums;
    if (sums.size() < n_items) sums.resize(n_items, 0.0f);
    sums_ = sums.data();
}

Additions Adder::take() {
    if (!n_added_) return {};
    Additions taken;
    taken.values.resize(std::min(n_added_, blocks_.size() * 64));
    float* out = taken.values.data();
    for (size_t block = 0; block < blocks_.size(); ++block) {
        for (uint64_t left = blocks_[block]; left; left &= left - 1) {
            float& sum = sums_[block * 64 + static_cast<size_t>(__builtin_ctzll(left))];
            *out++ = sum;
            sum = 0.0f;
        }
    }
    taken.values.resize(static_cast<size_t>(out - taken.values.data()));
    taken.blocks.assign(blocks_.size(), 0);
    taken.blocks.swap(blocks_);
    n_added_ = 0;
    return taken;
}

void add_blend(const Blend& blend, const Past& past, size_t n_items, Adder& adder) {
    if (blend.items.links.indptr) add_items(blend.items, past, n_items, adder);
    if (blend.session.links.indptr) add_session(blend.session, past, n_items, adder);
}

}  // namespace headrace

#include "headrace/items.hpp"

#include <algorithm>

namespace headrace {
namespace {

void mark(std::vector<uint64_t>& words, size_t row, bool on) {
    if (row / 64 >= words.size()) {
        if (!on) return;
        words.resize(row / 64 + 1, 0);
    }
    uint64_t bit = uint64_t{1} << row % 64;
    words[row / 64] = on ? words[row / 64] | bit : words[row / 64] & ~bit;
}

}  // namespace

Items::Items(std::shared_ptr<const Search> base)
    : base_(std::move(base)),
      added_(std::make_shared<Added>()),
      stale_(std::make_shared<Words>()),
      removed_(std::make_shared<Words>()) {}

// What was added before but for some rows, and those with their factors, unless these are null.
std::shared_ptr<const Items::Added> Items::changed(const int32_t* rows, const float* factors, size_t n) const {
    auto out = std::make_shared<Added>();
    size_t next = 0;
    auto take = [&](int32_t row, const float* from) {
        out->rows.push_back(row);
        out->factors.insert(out->factors.end(), from, from + d());
    };
    for (size_t i = 0; i <= n_added(); ++i) {
        bool last = i == n_added();
        int32_t row = last ? 0 : added_->rows[i];
        for (; next < n && (last || rows[next] < row); ++next)
            if (factors) take(rows[next], factors + next * d());
        if (!last && (next == n || rows[next] != row)) take(row, added_->factors.data() + i * d());
    }
    if (!out->rows.empty())
        out->scan = std::make_unique<Scan>(out->factors.data(), out->rows.size(), d(), nullptr, out->rows.data());
    return out;
}

Items Items::with(const int32_t* rows, const float* factors, size_t n) const {
    auto stale = std::make_shared<Words>(*stale_), removed = std::make_shared<Words>(*removed_);
    for (size_t i = 0; i < n; ++i) {
        auto row = static_cast<size_t>(rows[i]);
        if (row < n_base()) mark(*stale, row, true);
        mark(*removed, row, false);
    }
    Items out = *this;
    out.added_ = changed(rows, factors, n);
    out.stale_ = std::move(stale);
    out.removed_ = std::move(removed);
    return out;
}

Items Items::without(const int32_t* rows, size_t n) const {
    auto stale = std::make_shared<Words>(*stale_), removed = std::make_shared<Words>(*removed_);
    for (size_t i = 0; i < n; ++i) {
        auto row = static_cast<size_t>(rows[i]);
        if (row < n_base()) mark(*stale, row, true);
        mark(*removed, row, true);
    }
    std::vector<int32_t> sorted(rows, rows + n);
    std::sort(sorted.begin(), sorted.end());
    Items out = *this;
    out.added_ = changed(sorted.data(), nullptr, n);
    out.stale_ = std::move(stale);
    out.removed_ = std::move(removed);
    return out;
}

size_t Items::bytes() const {
    size_t added = added_->scan ? added_->scan->bytes() : 0;
    added += added_->rows.size() * sizeof(int32_t) + added_->factors.size() * sizeof(float);
    return base_->bytes() + added + (stale_->size() + removed_->size()) * sizeof(uint64_t);
}

const float* Items::factors(size_t row) const {
    const float* added = added_factors(row);
    return added ? added : base_factors(row);
}

const float* Items::added_factors(size_t row) const {
    const std::vector<int32_t>& rows = added_->rows;
    auto at = std::lower_bound(rows.begin(), rows.end(), static_cast<int32_t>(row));
    if (at == rows.end() || static_cast<size_t>(*at) != row) return nullptr;
    return added_->factors.data() + static_cast<size_t>(at - rows.begin()) * d();
}

const float* Items::base_factors(size_t row) const {
    return row < n_base() && !stale().has(row) ? base_->factors(row) : nullptr;
}

void Items::search(const float* const* queries, const Bars* bars, size_t n, Best* best, const Beside& beside) const {
    std::vector<Bars> current(bars, bars + n);
    for (Bars& each : current) each.dropped = stale();
    base_->search(queries, current.data(), n, best, beside);
    search_added(queries, bars, n, best, beside);
}

void Items::search_added(const float* const* queries, const Bars* bars, size_t n, Best* best,
                         const Beside& beside) const {
    if (!added_->scan) return;
    std::vector<Bars> others(bars, bars + n);
    for (size_t q = 0; beside.additions && q < n; ++q) {
        others[q].apart = &beside.additions[q];
        beside.additions[q].each([&](size_t row, float added) {
            const float* factors = added_factors(row);
            if (factors && bars[q].allow(row))
                best[q].offer({score(factors, queries[q], d()) + added, static_cast<int32_t>(row)});
        });
    }
    added_->scan->search(queries, others.data(), n, best, {nullptr, beside.filter});
}

}  // namespace headrace

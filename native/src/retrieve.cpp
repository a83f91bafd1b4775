#include "headrace/retrieve.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace headrace {
namespace {

constexpr size_t bits = 32;  // people whose own bars share one word a row
constexpr double day_ms = 86'400'000.0;

// The own bars of up to 32 people at once; a thread keeps the words, all nought between calls.
class OwnBars {
  public:
    explicit OwnBars(size_t n_rows) {
        if (words().size() < n_rows) words().resize(n_rows, 0);
    }
    ~OwnBars() {
        for (int32_t row : touched_) words()[static_cast<size_t>(row)] = 0;
    }
    OwnBars(const OwnBars&) = delete;
    OwnBars& operator=(const OwnBars&) = delete;

    const uint32_t* data() const { return words().data(); }
    void bar(int32_t row, size_t bit) {
        words()[static_cast<size_t>(row)] |= uint32_t{1} << bit;
        touched_.push_back(row);
    }

  private:
    static std::vector<uint32_t>& words() {
        thread_local std::vector<uint32_t> kept;
        return kept;
    }
    std::vector<int32_t> touched_;
};

class Group {
  public:
    Group(const Items& items, const Popular& popular, const Lift& lift, const Blend& blend, const People& people,
          const Slates& slates, size_t first)
        : items_(items), popular_(popular), lift_(lift), blend_(blend), people_(people), slates_(slates), first_(first),
          n_(std::min(bits, people.n - first)), own_(people.n_rows), additions_(n_) {}

    void answer() {
        std::fill_n(slates_.exact + first_, n_, int8_t{1});
        Adder adder(people_.n_rows);
        std::vector<const float*> queries;
        std::vector<Bars> bars;
        std::vector<Best> best;
        for (size_t i = 0; i < n_; ++i) {
            size_t person = first_ + i;
            bar_own(i);
            bool warm = people_.warm[person] != 0;
            if (warm) additions_[i] = additions_of(person, adder);
            queries.push_back(people_.vectors + person * people_.width);
            bars.push_back(bars_of(i));
            best.emplace_back(warm ? static_cast<size_t>(people_.limits[person]) : 0);
        }
        if (people_.candidates) {
            for (size_t i = 0; i < n_; ++i) offer_candidates(i, queries[i], bars[i], best[i]);
        } else {
            search(queries, bars, best);
        }
        for (size_t i = 0; i < n_; ++i) write(i, bars[i], best[i]);
    }

  private:
    Bars bars_of(size_t i) const {
        return {people_.barred, own_.data(), static_cast<uint32_t>(i), people_.n_rows, items_.removed()};
    }

    // Only those who are warm take part in the pass over the items.
    void search(const std::vector<const float*>& queries, const std::vector<Bars>& bars, std::vector<Best>& best) {
        std::vector<const float*> some_queries;
        std::vector<Bars> some_bars;
        std::vector<Best> some_best;
        std::vector<Additions> some_additions;
        std::vector<int8_t> exact(n_, 1);
        for (size_t i = 0; i < n_; ++i) {
            if (!best[i].capacity()) continue;
            some_queries.push_back(queries[i]);
            some_bars.push_back(bars[i]);
            some_best.push_back(std::move(best[i]));
            some_additions.push_back(std::move(additions_[i]));
        }
        items_.search(some_queries.data(), some_bars.data(), some_best.size(), some_best.data(),
                      {some_additions.data(), nullptr, 0, exact.data()});
        size_t next = 0;
        for (size_t i = 0; i < n_; ++i) {
            if (best[i].capacity()) {
                slates_.exact[first_ + i] = exact[next];
                best[i] = std::move(some_best[next++]);
            }
            slates_.found[first_ + i] = static_cast<int32_t>(best[i].size());
        }
    }

    // Bars what the caller excludes, and what was bought where that is excluded.
    void bar_own(size_t i) {
        size_t person = first_ + i;
        for (int64_t p = people_.excluded[person]; p < people_.excluded[person + 1]; ++p) {
            int32_t row = people_.excluded_rows[p];
            if (row >= 0 && static_cast<size_t>(row) < people_.n_rows) own_.bar(row, i);
        }
        if (!people_.exclude_purchased[person]) return;
        for (int64_t p = people_.history[person]; p < people_.history[person + 1]; ++p)
            if (people_.n_bought[p] > 0) own_.bar(people_.history_rows[p], i);
    }

    Additions additions_of(size_t person, Adder& adder) const {
        auto first = static_cast<size_t>(people_.history[person]), last = static_cast<size_t>(people_.history[person + 1]);
        if (people_.history_weights) {
            add_blend(blend_,
                      {people_.history_rows + first, people_.history_weights + first, people_.history_last_ms + first,
                       last - first, people_.last_event_ms[person], people_.now_ms,
                       people_.exclude_purchased[person] != 0},
                      items_.n_base(), adder);
        }
        for (size_t p = first; lift_.boost > 0 && p < last; ++p) {
            auto row = static_cast<size_t>(people_.history_rows[p]);
            if (people_.n_bought[p] > 0 && items_.factors(row)) adder.add(row, lift_of(person, p));
        }
        return adder.take();
    }

    float lift_of(size_t person, size_t p) const {
        double age_days =
            std::max(0.0, static_cast<double>(people_.last_event_ms[person] - people_.last_bought_ms[p]) / day_ms);
        double bought = static_cast<double>(people_.n_bought[p]);
        return static_cast<float>(lift_.boost * std::log1p(bought) * std::exp(-age_days / lift_.days));
    }

    // Offers one person's candidates, and every row that something is added to.
    void offer_candidates(size_t i, const float* query, const Bars& bars, Best& best) const {
        size_t person = first_ + i, found = 0;
        const Additions& additions = additions_[i];
        for (int64_t p = people_.candidates[person]; best.capacity() && p < people_.candidates[person + 1]; ++p) {
            int64_t row = people_.candidate_rows[p];
            auto at = static_cast<size_t>(row);
            if (row < 0 || !items_.base_factors(at) || !bars.allow(at)) continue;
            ++found;
            if (!additions.has(at)) best.offer({score(items_.base_factors(at), query, items_.d()), static_cast<int32_t>(row)});
        }
        slates_.found[person] = static_cast<int32_t>(std::min(found, best.capacity()));
        additions.each([&](size_t row, float added) {
            const float* factors = items_.base_factors(row);
            if (factors && bars.allow(row))
                best.offer({score(factors, query, items_.d()) + added, static_cast<int32_t>(row)});
        });
        items_.search_added(&query, &bars, 1, &best, {&additions});
    }

    void write(size_t i, const Bars& bars, Best& best) const {
        size_t person = first_ + i, limit = static_cast<size_t>(people_.limits[person]), count = 0;
        int32_t* rows = slates_.rows + person * slates_.k;
        float* scores = slates_.scores + person * slates_.k;
        for (const Scored& each : best.sorted()) {
            rows[count] = each.row;
            scores[count++] = each.score;
        }
        if (!people_.warm[person]) {
            for (size_t p = 0; p < popular_.n && count < limit; ++p) {
                auto row = static_cast<size_t>(popular_.order[p]);
                if (!bars.allow(row)) continue;
                rows[count] = popular_.order[p];
                scores[count++] = popular_.popularity[row];
            }
        }
        // a slate that is not full holds every item with factors already, but for a stranger's
        for (size_t row = items_.n_base(); row < people_.n_rows && count < limit; ++row) {
            if (!bars.allow(row) || (people_.warm[person] && items_.factors(row))) continue;
            rows[count] = static_cast<int32_t>(row);
            scores[count++] = 0.0f;
        }
        slates_.counts[person] = static_cast<int32_t>(count);
    }

    const Items& items_;
    const Popular& popular_;
    const Lift& lift_;
    const Blend& blend_;
    const People& people_;
    const Slates& slates_;
    size_t first_, n_;
    OwnBars own_;
    std::vector<Additions> additions_;  // of each person
};

}  // namespace

void retrieve(const Items& items, const Popular& popular, const Lift& lift, const Blend& blend, const People& people,
              const Slates& slates) {
    for (size_t first = 0; first < people.n; first += bits)
        Group(items, popular, lift, blend, people, slates, first).answer();
}

}  // namespace headrace

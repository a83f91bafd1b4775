#include "headrace/rank.hpp"

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <exception>
#include <limits>
#include <mutex>
#include <system_error>
#include <thread>

#include "rank_select.hpp"

namespace headrace {
namespace {

constexpr size_t bits = 32;  // users whose own bars share one word an item
constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

// Lets every thread make a Worker and answer one group after another, until none is left or one fails.
template <typename Worker, typename... Args>
void share(size_t n_groups, size_t n_threads, const Args&... args) {
    std::atomic<size_t> next{0};
    std::mutex lock;
    std::exception_ptr failure;
    auto run = [&] {
        try {
            Worker worker(args...);
            for (size_t group; (group = next.fetch_add(1)) < n_groups;) worker.answer(group);
        } catch (...) {
            std::lock_guard<std::mutex> locked(lock);
            failure = std::current_exception();
            next = n_groups;
        }
    };
    std::vector<std::thread> threads;
    while (threads.size() + 1 < std::min(n_threads, n_groups)) {
        try {
            threads.emplace_back(run);
        } catch (const std::system_error&) {  // the threads that there are do the work
            break;
        }
    }
    run();
    for (std::thread& thread : threads) thread.join();
    if (failure) std::rethrow_exception(failure);
}

template <typename Visit>
void each_masked(const Ranking& ranking, size_t place, Visit visit) {
    if (!ranking.masked.indptr) return;
    auto user = static_cast<size_t>(ranking.users[place]);
    for (int64_t p = ranking.masked.indptr[user]; p < ranking.masked.indptr[user + 1]; ++p)
        visit(static_cast<size_t>(ranking.masked.columns[p]));
}

void write(const Ranking& ranking, size_t place, Best& best) {
    int32_t* items = ranking.items + place * ranking.k;
    float* scores = ranking.scores + place * ranking.k;
    const std::vector<Scored>& sorted = best.sorted();
    for (size_t i = 0; i < ranking.k; ++i) {
        items[i] = i < sorted.size() ? sorted[i].row : -1;
        scores[i] = i < sorted.size() ? sorted[i].score : 0.0f;
    }
}

// Groups of users over one scan.
class FactorWorker {
  public:
    FactorWorker(const Scan& scan, const float* users, const Ranking& ranking)
        : scan_(scan), users_(users), ranking_(ranking), none_(scan.n_items(), 0), own_(scan.n_items(), 0) {}

    void answer(size_t group) {
        const size_t first = group * bits, n = std::min(bits, ranking_.n - first);
        const float* queries[bits];
        std::vector<Bars> bars;
        std::vector<Best> best;
        for (size_t i = 0; i < n; ++i) {
            queries[i] = users_ + static_cast<size_t>(ranking_.users[first + i]) * scan_.d();
            bars.push_back({none_.data(), own_.data(), static_cast<uint32_t>(i), scan_.n_items()});
            best.emplace_back(std::min(ranking_.k, scan_.n_items()));
            each_masked(ranking_, first + i, [&](size_t item) { own_[item] |= uint32_t{1} << i; });
        }
        scan_.search(queries, bars.data(), n, best.data());
        for (size_t i = 0; i < n; ++i) {
            write(ranking_, first + i, best[i]);
            each_masked(ranking_, first + i, [&](size_t item) { own_[item] = 0; });
        }
    }

  private:
    const Scan& scan_;
    const float* users_;
    const Ranking& ranking_;
    std::vector<uint32_t> none_, own_;
};

// One user after another, each with a dense row of scores that stays in the core's cache.
class ProductWorker {
  public:
    ProductWorker(const SparseRows& left, const SparseRows& right, size_t n_items, const Ranking& ranking,
                  std::atomic<bool>* sound)
        : left_(left), right_(right), ranking_(ranking), sound_(sound), n_items_(n_items),
          scores_((n_items + select_width - 1) / select_width * select_width, minus_infinity) {}

    void answer(size_t place) {
        if (!*sound_) return;
        std::fill_n(scores_.data(), n_items_, 0.0f);
        auto user = static_cast<size_t>(ranking_.users[place]);
        for (int64_t p = left_.indptr[user]; p < left_.indptr[user + 1]; ++p) {
            const float weight = left_.values[p];
            auto middle = static_cast<size_t>(left_.columns[p]);
            for (int64_t q = right_.indptr[middle]; q < right_.indptr[middle + 1]; ++q)
                scores_[static_cast<size_t>(right_.columns[q])] += weight * right_.values[q];
        }
        each_masked(ranking_, place, [&](size_t item) { scores_[item] = minus_infinity; });
        Best best(std::min(ranking_.k, n_items_));
        if (!select(scores_.data(), scores_.size(), best)) *sound_ = false;
        write(ranking_, place, best);
    }

  private:
    const SparseRows &left_, &right_;
    const Ranking& ranking_;
    std::atomic<bool>* sound_;
    size_t n_items_;
    std::vector<float> scores_;  // -infinity behind the items
};

// The largest magnitude, infinity where something is not finite.
float largest_of(const float* values, size_t n, float largest = 0.0f) {
    for (size_t i = 0; i < n; ++i) {
        if (!(std::fabs(values[i]) <= FLT_MAX)) return std::numeric_limits<float>::infinity();
        largest = std::max(largest, std::fabs(values[i]));
    }
    return largest;
}

}  // namespace

bool rank_factors(const Scan& scan, const float* users, const Ranking& ranking) {
    const size_t d = scan.d();
    float user = 0.0f, item = largest_of(scan.factors(0), scan.n_items() * d);
    for (size_t i = 0; i < ranking.n; ++i) user = largest_of(users + static_cast<size_t>(ranking.users[i]) * d, d, user);
    if (!(static_cast<double>(user) * item * static_cast<double>(d) <= FLT_MAX)) return false;
    share<FactorWorker>((ranking.n + bits - 1) / bits, ranking.n_threads, scan, users, ranking);
    return true;
}

bool rank_products(const SparseRows& left, const SparseRows& right, size_t n_items, const Ranking& ranking) {
    std::atomic<bool> sound{true};
    share<ProductWorker>(ranking.n, ranking.n_threads, left, right, n_items, ranking, &sound);
    return sound;
}

}  // namespace headrace

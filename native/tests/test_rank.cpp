// Rankings of all users on edges of memory, by every instruction set and by several threads: run under the sanitizers.
#include "headrace/rank.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "check.hpp"

using namespace headrace;

namespace {

// Whole numbers, whose products are exact in float32 and often tie.
std::vector<float> numbers(size_t n, uint32_t seed) {
    std::vector<float> out(n);
    for (float& value : out) {
        seed = seed * 1664525u + 1013904223u;
        value = static_cast<float>(static_cast<int>(seed >> 16) % 5 - 2);
    }
    return out;
}

// Every entry stored.
struct Dense {
    std::vector<int64_t> indptr;
    std::vector<int32_t> columns;
    std::vector<float> values;

    Dense(size_t n, size_t m, uint32_t seed) : values(numbers(n * m, seed)) {
        for (size_t row = 0; row <= n; ++row) indptr.push_back(static_cast<int64_t>(row * m));
        for (size_t p = 0; p < n * m; ++p) columns.push_back(static_cast<int32_t>(p % m));
    }
    SparseRows rows() const { return {indptr.data(), columns.data(), values.data()}; }
};

// User u may not have the items below u, in falling order.
struct Masks {
    std::vector<int64_t> indptr{0};
    std::vector<int32_t> columns;

    Masks(size_t n, size_t n_items) {
        for (size_t user = 0; user < n; ++user) {
            for (size_t item = std::min(user, n_items); item-- > 0;) columns.push_back(static_cast<int32_t>(item));
            indptr.push_back(static_cast<int64_t>(columns.size()));
        }
    }
    SparseRows rows() const { return {indptr.data(), columns.data(), nullptr}; }
};

struct Answer {
    std::vector<int32_t> users, items;
    std::vector<float> scores;
    Ranking ranking;

    Answer(size_t n, size_t k, const Masks& masks, size_t n_threads) : items(n * k, -7), scores(n * k, -7.0f) {
        for (size_t i = 0; i < n; ++i) users.push_back(static_cast<int32_t>(n - 1 - i));
        ranking = {users.data(), n, masks.rows(), k, items.data(), scores.data(), n_threads};
    }

    // `score_of` by a user's and an item's row.
    template <typename ScoreOf>
    void check(size_t n_items, ScoreOf score_of) const {
        for (size_t i = 0; i < users.size(); ++i) {
            const auto user = static_cast<size_t>(users[i]);
            std::vector<Scored> all;
            for (size_t item = user; item < n_items; ++item) all.push_back({score_of(user, item), static_cast<int32_t>(item)});
            std::sort(all.begin(), all.end(), better);
            for (size_t place = 0; place < ranking.k; ++place) {
                const size_t at = i * ranking.k + place;
                CHECK(items[at] == (place < all.size() ? all[place].row : -1));
                CHECK(scores[at] == (place < all.size() ? all[place].score : 0.0f));
            }
        }
    }
};

void ranks_as_a_full_sort_does(size_t n_users, size_t n_items, size_t k, size_t n_threads) {
    const size_t d = 6;
    const Masks masks(n_users, n_items);
    const std::vector<float> users = numbers(n_users * d, 1), items = numbers(n_items * d, 2);
    Answer by_factors(n_users, k, masks, n_threads), by_rows(n_users, k, masks, n_threads);
    CHECK(rank_factors(Scan(items.data(), n_items, d), users.data(), by_factors.ranking));
    by_factors.check(n_items, [&](size_t user, size_t item) { return score(&items[item * d], &users[user * d], d); });

    const Dense left(n_users, d, 3), right(d, n_items, 4);
    CHECK(rank_products(left.rows(), right.rows(), n_items, by_rows.ranking));
    by_rows.check(n_items, [&](size_t user, size_t item) {
        float sum = 0.0f;
        for (size_t j = 0; j < d; ++j) sum += left.values[user * d + j] * right.values[j * n_items + item];
        return sum;
    });
}

void what_is_no_number_is_found() {
    const Masks masks(1, 0);
    for (float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        for (size_t place : {size_t{0}, size_t{63}, size_t{64}, size_t{99}}) {
            Dense left(1, 1, 3), right(1, 100, 4);
            left.values[0] = 1.0f;
            right.values[place] = value;
            Answer answer(1, 2, masks, 1);
            CHECK(!rank_products(left.rows(), right.rows(), 100, answer.ranking));
            CHECK(!rank_factors(Scan(numbers(100, 1).data(), 100, 1), &value, answer.ranking));
        }
    }
}

}  // namespace

int main() {
    for (const SelectPass& pass : select_passes()) {
        use_select_pass(pass);
        for (size_t n_items : {1, 63, 64, 65, 130})
            for (size_t k : {0, 1, 10, 200}) ranks_as_a_full_sort_does(70, n_items, k, 3);
        ranks_as_a_full_sort_does(0, 5, 2, 3);
        what_is_no_number_is_found();
    }
    return 0;
}

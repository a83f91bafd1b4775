// Search, fold-in and the recommendation codec on edges of memory: run under the sanitizers.
#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "headrace/embeddings.hpp"
#include "headrace/foldin.hpp"
#include "headrace/history.hpp"
#include "headrace/lists.hpp"
#include "headrace/retrieve.hpp"
#include "headrace/slate_codec.hpp"

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

void search_as_a_full_sort_does(const BlockPass& pass, size_t n_items, size_t d, size_t n, size_t k) {
    use_block_pass(pass);
    std::vector<float> factors = numbers(n_items * d, 1), vectors = numbers(n * d, 2);
    std::vector<uint32_t> none(n_items, 0);
    Scan scan(factors.data(), n_items, d);
    std::vector<const float*> queries;
    std::vector<Bars> bars;
    std::vector<Best> best;
    for (size_t q = 0; q < n; ++q) {
        queries.push_back(vectors.data() + q * d);
        bars.push_back({none.data(), none.data(), static_cast<uint32_t>(q), n_items});
        best.emplace_back(k);
    }
    scan.search(queries.data(), bars.data(), n, best.data());
    for (size_t q = 0; q < n; ++q) {
        std::vector<Scored> all;
        for (size_t row = 0; row < n_items; ++row)
            all.push_back({score(factors.data() + row * d, queries[q], d), static_cast<int32_t>(row)});
        std::sort(all.begin(), all.end(), better);
        const std::vector<Scored>& found = best[q].sorted();
        CHECK(found.size() == std::min(k, n_items));
        for (size_t i = 0; i < found.size(); ++i) CHECK(found[i].row == all[i].row && found[i].score == all[i].score);
    }
}

// Every list is scanned and nothing dropped, so the answer is exact but for the order of what was estimated alike.
void lists_hold_every_item(const BlockPass& pass, size_t n_items, size_t d) {
    use_block_pass(pass);
    constexpr size_t n_lists = 5;
    std::vector<float> factors = numbers(n_items * d, 1), query = numbers(d, 2), centres = numbers(n_lists * d, 3);
    std::vector<int32_t> lists;
    for (size_t row = 0; row < n_items; ++row) lists.push_back(static_cast<int32_t>(row * row % n_lists));
    Lists search(factors.data(), n_items, d, {centres.data(), n_lists, lists.data(), 1, true});
    std::vector<uint64_t> words((n_items + 63) / 64 + 1, 0);
    for (size_t row = 0; row < n_items; row += 3) words[row / 64] |= uint64_t{1} << row % 64;
    Filter narrow{{words.data(), words.size() * 64}, (n_items + 2) / 3};
    const float* vector = query.data();
    Bars none;
    for (const Filter* filter : {static_cast<const Filter*>(nullptr), static_cast<const Filter*>(&narrow)}) {
        size_t wanted = filter ? filter->count : n_items;
        Best best(wanted + 1);
        int8_t exact = 1;
        search.search(&vector, &none, 1, &best, {nullptr, filter, 0, &exact});
        CHECK(best.size() == wanted && exact == 1);
        for (const Scored& each : best.sorted())
            CHECK(each.score == score(factors.data() + static_cast<size_t>(each.row) * d, vector, d));
    }
}

void items_come_and_go_beside_searches() {
    std::vector<float> factors = numbers(300 * 8, 1), query = numbers(8, 2), added = numbers(50 * 8, 4);
    std::vector<int32_t> rows;
    for (int32_t i = 0; i < 50; ++i) rows.push_back(10 * i);
    const Items first(std::make_shared<Scan>(factors.data(), 300, 8));
    const Items second = first.with(rows.data(), added.data(), 50), third = second.without(rows.data(), 25);
    std::vector<std::thread> threads;
    for (const Items* items : {&first, &second, &third, &second})
        threads.emplace_back([items, &query] {
            const float* vector = query.data();
            Bars none;
            for (int round = 0; round < 20; ++round) {
                const Items changed = items->without(nullptr, 0);
                Best best(400);
                changed.search(&vector, &none, 1, &best);
                for (const Scored& each : best.sorted()) {
                    const float* at = changed.factors(static_cast<size_t>(each.row));
                    CHECK(at && each.score == score(at, vector, 8));
                }
            }
        });
    for (std::thread& thread : threads) thread.join();
    CHECK(second.n_added() == 50 && third.n_added() == 25 && !third.factors(0) && second.factors(490));
    CHECK(third.removed().has(0) && !third.removed().has(250) && third.factors(250));
}

void threads_share_a_scan() {
    std::vector<std::thread> threads;
    const BlockPass pass = block_pass();
    std::vector<float> factors = numbers(500 * 8, 1), vectors = numbers(8, 2);
    std::vector<uint32_t> none(500, 0);
    Scan scan(factors.data(), 500, 8);
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            const float* query = vectors.data();
            Bars bars{none.data(), none.data(), 0, 500};
            for (int round = 0; round < 20; ++round) {
                Best best(10);
                scan.search(&query, &bars, 1, &best);
                CHECK(best.size() == 10);
            }
        });
    for (std::thread& thread : threads) thread.join();
    CHECK(pass.run == block_pass().run);
}

void fold_in_solves_its_system() {
    constexpr size_t d = 20, width = 32;
    std::vector<float> items = numbers(9 * d, 3), gram(width * width, 0.0f), x(width);
    for (size_t i = 0; i < width; ++i) gram[i * width + i] = i < d ? 2.0f : 1.0f;
    std::vector<int32_t> rows{0, 4, 8};
    std::vector<float> confidences{1.5f, 3.0f, 2.0f};
    fold_in({gram.data(), width, items.data(), d}, rows.data(), confidences.data(), rows.size(), x.data());
    for (size_t i = 0; i < d; ++i) {
        float left = 2.0f * x[i], right = 0.0f;
        for (size_t p = 0; p < rows.size(); ++p) {
            const float* y = items.data() + static_cast<size_t>(rows[p]) * d;
            left += (confidences[p] - 1.0f) * y[i] * score(y, x.data(), d);
            right += confidences[p] * y[i];
        }
        CHECK(std::abs(left - right) < 1e-3f);
    }
    for (size_t i = d; i < width; ++i) CHECK(x[i] == 0.0f);
}

void rows_are_found_again() {
    ItemRows items;
    for (int i = 0; i < 1000; ++i) CHECK(items.add("item" + std::to_string(i)) == i);
    for (int i = 0; i < 1000; ++i) CHECK(items.find("item" + std::to_string(i)) == i);
    CHECK(items.find("") == -1 && items.find("item1000") == -1);
}

// Two histories fit, four people ask for five; what is remembered is the fold-in's own.
void threads_share_embeddings() {
    const size_t width = 16, n_items = 9;
    std::vector<float> items = numbers(n_items * width, 3), gram(width * width, 0.0f);
    for (size_t i = 0; i < width; ++i) gram[i * width + i] = 50.0f;
    const FoldIn model{gram.data(), width, items.data(), width};
    Embeddings embeddings(model, 2);
    auto ask = [&] {
        for (size_t turn = 0; turn < 40; ++turn) {
            const size_t n = turn * 7 % 5;
            std::vector<int32_t> rows(n);
            std::vector<float> confidences(n, 2.0f), found(width), wanted(width);
            for (size_t p = 0; p < n; ++p) rows[p] = static_cast<int32_t>(n + p);
            embeddings.of(rows.data(), confidences.data(), n, found.data());
            fold_in(model, rows.data(), confidences.data(), n, wanted.data());
            CHECK(found == wanted);
        }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back(ask);
    for (std::thread& thread : threads) thread.join();
    CHECK(embeddings.n_folded() >= 5);
}

// A purchase in the artifact, then another and a return in the log; an item that fold-in does not know.
void histories_merge_and_the_latest_count() {
    const std::vector<int64_t> indptr{0, 2}, times{5, 7}, fresh_times{9, 11, 12}, start{0};
    const std::vector<int32_t> rows{1, 4}, fresh_rows{1, 1, 0}, length{3}, users{-1, 0}, slots{-1, 0};
    const std::vector<int8_t> types{3, 1}, fresh_types{3, 4, 1};
    const std::vector<float> weights{4.0f, 0.5f}, counts{1.0f, 2.0f, 3.0f}, unit{0.0f, 0.25f, 0.0f, 2.0f, 0.0f};
    std::vector<int32_t> where(5, -1), out_rows(5);
    std::vector<int64_t> out_indptr(3), last(5), bought(5), last_event(2);
    std::vector<float> out_weights(5), n_bought(5), n_events(2);
    gather({indptr.data(), {rows.data(), types.data(), weights.data(), times.data()}},
           {start.data(), length.data(), {fresh_rows.data(), fresh_types.data(), counts.data(), fresh_times.data()}},
           users.data(), slots.data(), 2, unit.data(), where.data(),
           {out_indptr.data(), out_rows.data(), out_weights.data(), n_bought.data(), last.data(), bought.data(),
            n_events.data(), last_event.data()});
    CHECK((out_indptr == std::vector<int64_t>{0, 0, 3}));
    CHECK(out_rows[0] == 1 && out_rows[1] == 4 && out_rows[2] == 0);
    CHECK(n_bought[0] == 1.0f && out_weights[0] == 2.0f && last[0] == 11 && bought[0] == 9);
    CHECK(out_weights[1] == 0.5f && out_weights[2] == 0.75f && n_events[1] == 8.0f && last_event[1] == 12);
    CHECK(std::count(where.begin(), where.end(), -1) == 5);

    for (size_t max_history : {0, 1, 2, 3}) {
        std::vector<int64_t> used(3);
        std::vector<int32_t> used_rows(3);
        std::vector<float> confidences(3);
        fold_in_input({out_indptr.data(), out_rows.data(), out_weights.data(), last.data()}, 2, 4, 10.0f, max_history,
                      used.data(), used_rows.data(), confidences.data());
        CHECK(used[1] == 0 && used[2] == static_cast<int64_t>(std::min<size_t>(max_history, 2)));
        if (max_history == 1) CHECK(used_rows[0] == 0 && confidences[0] == 7.5f);
    }
}

}  // namespace

int main() {
    histories_merge_and_the_latest_count();
    threads_share_embeddings();
    for (const BlockPass& pass : block_passes())
        for (size_t n_items : {0, 1, 63, 64, 65, 700})
            for (size_t d : {1, 4, 9, 64}) search_as_a_full_sort_does(pass, n_items, d, 6, 20);
    for (const BlockPass& pass : block_passes())
        for (size_t n_items : {1, 4, 65, 333})
            for (size_t d : {1, 7, 64, 65}) lists_hold_every_item(pass, n_items, d);
    use_block_pass(block_passes().front());
    threads_share_a_scan();
    items_come_and_go_beside_searches();
    fold_in_solves_its_system();
    rows_are_found_again();
    return 0;
}

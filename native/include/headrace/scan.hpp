// Exact search for the items of highest score, by a scan of their factors in 8 bits.
//
// An item's coarse form is Y = round(y / s) with a scale s of its own, in bytes; a query's is Q = round(q / t). What
// rounding takes away is in proportion to the item's scale: |q.y - s t Q.Y| <= s K for one K per query. So s (t Q.Y + K)
// bounds the true score from above, and only items whose bound reaches the k-th best lower bound are scored in float32.
// Those scores add in an order that is written down (`score` below), so they are the same to the bit on every machine
// and beside any companions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "headrace/additions.hpp"

namespace headrace {

constexpr size_t scan_block = 64;    // items in a block of coarse factors
constexpr size_t scan_together = 4;  // queries that one pass over a block serves
constexpr size_t scan_stretch = 1 << 16;  // items between two pauses of the making of coarse factors

// The score: eight sums over every eighth column by fused multiply-add, added in pairs, then what is left of the columns.
float score(const float* item, const float* query, size_t d);

// One entry of a slate under way.
struct Scored {
    float score;
    int32_t row;
};

// Whether a comes before b in a slate: score descending, then row ascending.
inline bool better(const Scored& a, const Scored& b) {
    return a.score > b.score || (a.score == b.score && a.row < b.row);
}

// Keeps the best k of what it is offered.
class Best {
  public:
    explicit Best(size_t k) : k_(k) { kept_.reserve(k); }
    size_t capacity() const { return k_; }
    bool full() const { return kept_.size() == k_; }
    size_t size() const { return kept_.size(); }
    const Scored& worst() const { return kept_.front(); }
    void offer(Scored entry);
    // Best first; nothing can be offered afterwards.
    const std::vector<Scored>& sorted();

  private:
    size_t k_;
    std::vector<Scored> kept_;  // a heap with the worst in front
};

// Rows that one query must not get: any bit of `barred` (shared by all queries), or its own.
struct Bars {
    const uint32_t* barred;  // (>= n_items,)
    const uint32_t* own;     // (>= n_items,), read at `bit`
    uint32_t bit;
    bool allow(size_t row) const { return !(barred[row] | (own[row] >> bit & 1)); }
};

class Scan {
  public:
    // factors : (n_items, d), row after row, finite; must outlive the scan.
    // pause : called after every scan_stretch items, and at the end; it may let go of their rows' memory, where that
    //         comes back by itself.
    Scan(const float* factors, size_t n_items, size_t d, const std::function<void()>& pause = nullptr);

    size_t n_items() const { return n_items_; }
    size_t d() const { return d_; }
    const float* factors(size_t row) const { return factors_ + row * d_; }

    // Offers every item that may belong to the best k of each of n queries; `queries[i]` has d columns. The score of an
    // item is its product with the query plus what `additions` (null, or one a query) has for it.
    void search(const float* const* queries, const Bars* bars, size_t n, Best* best,
                const Additions* additions = nullptr) const;

  private:
    struct Query;
    void collect(Query* queries, size_t n) const;
    void settle(Query& query) const;
    void round_block(size_t block);

    const float* factors_;
    size_t n_items_, d_, quads_, n_blocks_;
    std::unique_ptr<uint8_t[], void (*)(void*)> coarse_;  // (n_blocks, quads, scan_block, 4): 128 + Y
    std::vector<float> scales_;                           // (n_blocks * scan_block,), 0 beyond the items
    double max_error_ = 0, max_length_ = 0;               // of |y - s Y| / s and of |y| / s
};

// What a pass over one block does, by what the processor can; chosen once.
struct BlockPass {
    // Coarse sums of the block's items are 128 sum(Q) + Q.Y; adds `start`, times the items' scales gives `upper`.
    // Sets bit i of masks[q] where upper >= threshold; `upper` of a query is written where its mask is not zero, or was
    // not zero before.
    using Run = void (*)(const uint8_t* block, const float* scales, size_t quads, const int8_t* const* queries,
                         const float* starts, const float* thresholds, size_t n, uint64_t* masks, float* upper);
    const char* name;
    Run run;
    int query_limit;  // largest magnitude of Q that the instructions bear
};

const BlockPass& block_pass();
// All that this processor can run, the portable one last; for tests.
std::vector<BlockPass> block_passes();
// Serve by another one of them from now on; for tests and benchmarks.
void use_block_pass(const BlockPass& pass);

}  // namespace headrace

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

// Scores of n rows that are given by columns, (d, n): each a sum of fused multiply-adds from the first column on.
void score_columns(const float* columns, size_t n, size_t d, const float* query, float* out);

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

// A bit for each of n rows, in 64-bit words.
struct Bits {
    const uint64_t* words = nullptr;
    size_t n = 0;
    bool has(size_t row) const { return row < n && (words[row / 64] >> row % 64 & 1); }
};

// Rows that a search must not offer: dropped ones, any bit of `barred` (shared by all queries), the query's own, and those
// that are offered apart from the search.
struct Bars {
    const uint32_t* barred = nullptr;  // (n_rows,), rows beyond are barred; null: none is
    const uint32_t* own = nullptr;     // (n_rows,), read at `bit`
    uint32_t bit = 0;
    size_t n_rows = 0;
    Bits dropped = {};
    const Additions* apart = nullptr;
    bool allow(size_t row) const {
        if (apart && row / 64 < apart->blocks.size() && apart->has(row)) return false;
        return !dropped.has(row) && (!barred || (row < n_rows && !(barred[row] | (own[row] >> bit & 1))));
    }
};

// The only rows that may be found, and how many they are.
struct Filter {
    Bits rows;
    size_t count;
};

// Memory of 64-byte alignment, in huge pages where it fills some.
using Bytes = std::unique_ptr<uint8_t[], void (*)(void*)>;
Bytes allocate(size_t bytes);

// What else a search is given.
struct Beside {
    const Additions* additions = nullptr;  // one a query, what is added to the scores of some rows
    const Filter* filter = nullptr;        // of all queries; not together with additions
    size_t probes = 0;                     // lists that are scanned at least, where there are any; 0: as usual
    int8_t* exact = nullptr;               // (n,), set to 0 where items of the best may have been missed, else left alone
};

// Finds the items of highest score.
class Search {
  public:
    virtual ~Search() = default;
    virtual size_t n_items() const = 0;
    virtual size_t d() const = 0;
    virtual const float* factors(size_t row) const = 0;
    virtual size_t bytes() const = 0;  // that it holds itself

    // Offers every item that may belong to the best k of each of n queries; `queries[i]` has d columns. The score of an
    // item is its product with the query plus what is added to it.
    virtual void search(const float* const* queries, const Bars* bars, size_t n, Best* best,
                        const Beside& beside = {}) const = 0;
};

// Offers all of a filter's rows below `n_items` that a query may get.
void offer_filtered(const float* factors, size_t n_items, size_t d, const float* query, const Bars& bars,
                    const Filter& filter, Best& best);

class Scan final : public Search {
  public:
    // factors : (n_items, d), row after row, finite; must outlive the scan.
    // pause : called after every scan_stretch items, and at the end; it may let go of their rows' memory, where that
    //         comes back by itself.
    // names : (n_items,) ascending, the rows that the items are known by; null: their places.
    Scan(const float* factors, size_t n_items, size_t d, const std::function<void()>& pause = nullptr,
         const int32_t* names = nullptr);

    size_t n_items() const override { return n_items_; }
    size_t d() const override { return d_; }
    const float* factors(size_t place) const override { return factors_ + place * d_; }
    size_t bytes() const override { return n_blocks_ * scan_block * (quads_ * 4 + sizeof(float)); }
    void search(const float* const* queries, const Bars* bars, size_t n, Best* best,
                const Beside& beside = {}) const override;

  private:
    struct Query;
    size_t row_of(size_t place) const { return names_ ? static_cast<size_t>(names_[place]) : place; }
    uint64_t last_lanes() const { return ~uint64_t{0} >> (n_blocks_ * scan_block - n_items_); }
    void collect(Query* queries, size_t n, const Filter* filter) const;
    void settle(Query& query) const;
    void round_block(size_t block);

    const float* factors_;
    size_t n_items_, d_, quads_, n_blocks_;
    const int32_t* names_;
    Bytes coarse_;                           // (n_blocks, quads, scan_block, 4): 128 + Y
    std::vector<float> scales_;              // (n_blocks * scan_block,), 0 beyond the items
    double max_error_ = 0, max_length_ = 0;  // of |y - s Y| / s and of |y| / s
};

// Items whose codes, 128 + Y, stand one after another, d bytes each. Behind the last one, three more items and 64 bytes
// may be read.
struct Lines {
    const uint8_t* codes;
    const float* scales;
    size_t d;
};

// What passes over coarse factors do, by what the processor can; chosen once.
struct BlockPass {
    // Coarse sums of the block's items are 128 sum(Q) + Q.Y; adds `start`, times the items' scales gives `upper`.
    // Sets bit i of masks[q] where upper >= threshold; `upper` of a query is written where its mask is not zero, or was
    // not zero before.
    using Run = void (*)(const uint8_t* block, const float* scales, size_t quads, const int8_t* const* queries,
                         const float* starts, const float* thresholds, size_t n, uint64_t* masks, float* upper);
    // The bounds scale * (sum + start) of n <= scan_block items, those at places[0 .. n) or, where that is null, the n
    // from `first` on; the query is padded with noughts to whole 64 bytes. Returns the bits of those >= threshold.
    using Line = uint64_t (*)(const Lines& items, size_t first, const uint32_t* places, size_t n, const int8_t* query,
                              float start, float threshold, float* bounds);
    const char* name;
    Run run;
    Line line;
    int query_limit;  // largest magnitude of Q that `run` bears; `line` bears 127
};

const BlockPass& block_pass();
// All that this processor can run, the portable one last; for tests.
std::vector<BlockPass> block_passes();
// Serve by another one of them from now on; for tests and benchmarks.
void use_block_pass(const BlockPass& pass);

}  // namespace headrace

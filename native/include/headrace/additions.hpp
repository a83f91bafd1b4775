// What is added to the factor scores of some items: a sparse vector over the items, in the blocks of the scan.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace headrace {

// Values of the rows whose bit is set: bit i of blocks[b] is row 64 b + i; values stand in order of their rows.
struct Additions {
    std::vector<uint64_t> blocks;  // empty: nothing is added to any row
    std::vector<float> values;

    bool empty() const { return values.empty(); }
    // Calls with every row and its value.
    template <typename Call>
    void each(const Call& call) const {
        const float* value = values.data();
        for (size_t block = 0; block < blocks.size(); ++block)
            for (uint64_t left = blocks[block]; left; left &= left - 1)
                call(block * 64 + static_cast<size_t>(__builtin_ctzll(left)), *value++);
    }
    bool has(size_t row) const { return !blocks.empty() && (blocks[row / 64] >> (row % 64) & 1); }
};

// Sums up one person's additions at a time. The dense vector is the thread's, which keeps it, all nought between
// persons; so an adder stays on the thread that made it, and is the only one there.
class Adder {
  public:
    explicit Adder(size_t n_items);
    void add(size_t row, float value) {
        blocks_[row / 64] |= uint64_t{1} << (row % 64);
        sums_[row] += value;
        ++n_added_;
    }
    // What was added since the last call, each row's values in the order in which they came.
    Additions take();

  private:
    float* sums_;
    std::vector<uint64_t> blocks_;
    size_t n_added_ = 0;
};

}  // namespace headrace

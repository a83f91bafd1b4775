// The items that can be found at one moment: a base that never changes, what was added since, and what was removed.
//
// Every change makes a new one that shares what it can with the old, so that searches under way see no change.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "headrace/scan.hpp"

namespace headrace {

class Items {
  public:
    explicit Items(std::shared_ptr<const Search> base);

    // With these rows' factors, (n, d), in place of what they had, if any. rows : ascending, none twice, not negative.
    Items with(const int32_t* rows, const float* factors, size_t n) const;
    // Without these rows, in any order.
    Items without(const int32_t* rows, size_t n) const;

    size_t d() const { return base_->d(); }
    size_t n_base() const { return base_->n_items(); }
    size_t n_added() const { return added_->rows.size(); }
    size_t bytes() const;
    // Rows that were removed and not added again; they must not be shown, however they are found.
    Bits removed() const { return {removed_->data(), removed_->size() * 64}; }
    // A row's factors, null where it has none.
    const float* factors(size_t row) const;
    // The same, null unless they were added, or null if they were.
    const float* added_factors(size_t row) const;
    const float* base_factors(size_t row) const;
    // As Search::search, over all of them, or over what was added alone, which is exact.
    void search(const float* const* queries, const Bars* bars, size_t n, Best* best, const Beside& beside = {}) const;
    void search_added(const float* const* queries, const Bars* bars, size_t n, Best* best,
                      const Beside& beside = {}) const;

  private:
    struct Added {
        std::vector<int32_t> rows;  // ascending
        std::vector<float> factors;
        std::unique_ptr<const Scan> scan;
    };
    using Words = std::vector<uint64_t>;

    Bits stale() const { return {stale_->data(), stale_->size() * 64}; }
    std::shared_ptr<const Added> changed(const int32_t* rows, const float* factors, size_t n) const;

    std::shared_ptr<const Search> base_;
    std::shared_ptr<const Added> added_;
    std::shared_ptr<const Words> stale_;    // of the base: removed, or with other factors now
    std::shared_ptr<const Words> removed_;  // of all rows
};

}  // namespace headrace

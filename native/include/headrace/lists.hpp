// Approximate search: items in lists around centres, and only the lists that look best are scanned.
//
// What is kept of an item is its list and, in 8 bits, how it lies around that list's centre: with a spread w of each
// column's own, y = c + w o (s Y) with Y = round((y - c) / w / s) in bytes and a scale s of the item's own. A query's
// score is estimated as q.c + s t Q.Y where Q = round(q o w / t); the items of highest estimate, some times as many as are
// wanted, are then scored for good: in float32 by their factors, or by their codes alone.
//
// 64 + 16 bytes an item for 64 columns: code, scale, row, and each row's place and list, for narrow filters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <vector>

#include "headrace/scan.hpp"

namespace headrace {

// Items that are scored for good: so many for each that is wanted, and some.
constexpr size_t finalists = 4, spare = 16;

// Puts a vector where `allocate` does, which spares searches from all over the memory most of their page walks.
template <typename T>
struct InHugePages {
    using value_type = T;
    InHugePages() = default;
    template <typename U>
    InHugePages(const InHugePages<U>&) {}
    T* allocate(size_t n) { return reinterpret_cast<T*>(headrace::allocate(n * sizeof(T)).release()); }
    void deallocate(T* at, size_t) { std::free(at); }
    bool operator==(const InHugePages&) const { return true; }
    bool operator!=(const InHugePages&) const { return false; }
};

// Where items belong: a list each, around a centre each.
struct Clusters {
    const float* centres;  // (n_lists, d)
    size_t n_lists;
    const int32_t* lists;  // (n_items,), in [0, n_lists)
    size_t probes;         // lists that a search scans at least
    bool by_factors;       // whether finalists are scored by their factors, else by their codes
};

class Lists final : public Search {
  public:
    // factors, pause : as for Scan; the clusters' arrays are copied.
    Lists(const float* factors, size_t n_items, size_t d, const Clusters& clusters,
          const std::function<void()>& pause = nullptr);

    size_t n_items() const override { return rows_.size(); }
    size_t d() const override { return d_; }
    const float* factors(size_t row) const override { return factors_ + row * d_; }
    size_t bytes() const override;
    // Scans further lists while fewer items than wanted were found, and the more, the fewer of the best may be shown.
    void search(const float* const* queries, const Bars* bars, size_t n, Best* best,
                const Beside& beside = {}) const override;

  private:
    struct Query;
    struct Spot {
        uint32_t place;
        int32_t list;
    };
    size_t n_lists() const { return starts_.size() - 1; }
    void order(const int32_t* lists);
    void measure_spread(const float* centres, const std::function<void()>& pause);
    void round_item(size_t row, const float* centre);
    void round_query(Query& query) const;
    void scan_lists(Query& query, size_t probes, const Filter* filter) const;
    void scan_list(Query& query, const Filter* filter, size_t list, float offset) const;
    void scan_filter(Query& query, const Filter& filter) const;
    void scan_rows(Query& query, const int32_t* rows, size_t n, const float* offsets) const;
    void scan_places(Query& query, size_t first, const uint32_t* places, size_t n, float offset) const;
    float score_by_code(const Query& query, uint32_t place, float offset) const;
    void settle(Query& query, Best& best) const;

    const float* factors_;
    size_t d_, probes_;
    bool by_factors_;
    std::vector<float> columns_;    // (d, n_lists), the centres
    std::vector<uint32_t> starts_;  // (n_lists + 1,) into the places
    std::vector<int32_t, InHugePages<int32_t>> rows_;  // (n_items,), of the places; ascending within a list
    std::vector<Spot, InHugePages<Spot>> spots_;       // (n_items,), of the rows
    std::vector<float> spread_;     // (d,)
    std::vector<float, InHugePages<float>> scales_;    // (n_items,), of the places; padded, as the codes are
    Bytes codes_;                   // (n_items, d), of the places: 128 + Y
};

}  // namespace headrace

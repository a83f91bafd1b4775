// From people's factors and histories to their slates: search, what they bought before, and what fills a slate.
#pragma once

#include <cstddef>
#include <cstdint>

#include "headrace/blend.hpp"
#include "headrace/items.hpp"

namespace headrace {

// How much buying an item before adds to its score: boost * log(1 + purchases less returns) * exp(-age / days), where
// age is the time from the last purchase of the item to the person's last event of any kind.
struct Lift {
    double boost = 0, days = 1;
};

// Items by popularity, best first, and each row's score then.
struct Popular {
    const int32_t* order;
    const float* popularity;
    size_t n;
};

// n people, their histories and wishes; each slate follows from its own person's alone, bit for bit.
struct People {
    size_t n;
    const float* vectors;  // (n, width); not read for those who are not warm
    size_t width;
    const int8_t* warm;  // whether something usable is known
    const int32_t* limits;
    const int8_t* exclude_purchased;
    const int64_t* history;        // (n + 1,) into the next three
    const int32_t* history_rows;   // without repeats within a person
    const float* n_bought;         // purchases less returns
    const int64_t* last_bought_ms;
    const int64_t* last_event_ms;  // (n,)
    const int64_t* excluded;       // (n + 1,) into excluded_rows
    const int32_t* excluded_rows;
    const int64_t* candidates;  // (n + 1,) into candidate_rows; null: all items are searched
    const int64_t* candidate_rows;
    const uint32_t* barred;  // (n_rows,), not 0 for what nobody may be shown
    size_t n_rows;
    const float* history_weights;  // beside history_rows, as is the next; null: nothing is blended
    const int64_t* history_last_ms;
    int64_t now_ms;
};

// Output: rows and scores (n, k), best first, k the greatest limit; counts of valid entries.
struct Slates {
    size_t k;
    int32_t* rows;
    float* scores;
    int32_t* counts;
    int32_t* found;  // how many of them the search found, before anything was filled; of candidates, how many may be shown
    int8_t* exact;   // whether the search can have missed none; 1 where nothing was searched
};

// Fills every slate as far as there are items that may be shown: for a warm person those of highest score, which is the
// product of factors with what the blend and the lift add, else popular items; then the rows that the factors do not
// know, with score 0.
void retrieve(const Items& items, const Popular& popular, const Lift& lift, const Blend& blend, const People& people,
              const Slates& slates);

}  // namespace headrace

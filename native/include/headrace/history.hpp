// What people did, from the artifact and from the log since, with one entry an item: in columns, for many at once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace headrace {

// Entries of distinct (item row, event type): columns of equal length.
struct HistoryEntries {
    const int32_t* rows;
    const int8_t* types;
    const float* values;  // the artifact's: weights, the log's: counts of events
    const int64_t* times_ms;
};

// The artifact's: a person's entries are indptr[i] … indptr[i + 1] - 1.
struct KnownHistories {
    const int64_t* indptr;
    HistoryEntries entries;
};

// The log's: a person has one slot.
struct FreshHistories {
    const int64_t* start;
    const int32_t* length;
    HistoryEntries entries;
};

// One entry an item row, in order of first appearance; as headrace.kernels.history.Merged has them.
struct MergedHistories {
    int64_t* indptr;  // (n + 1,) into the next five
    int32_t* rows;
    float* weights;   // confidence, before alpha
    float* n_bought;  // purchases less returns, at least 0
    int64_t* last_ms;
    int64_t* last_bought_ms;
    float* n_events;  // (n,) like the next
    int64_t* last_event_ms;
};

// Merges what both know of n people: `users` and `slots` are -1 for none. A return takes one purchase of the item back,
// whichever came first; purchases less returns weigh type_weights[PURCHASE] each, never less than nothing.
// where : one place for every row, all -1, and again so afterwards.
void gather(const KnownHistories& known, const FreshHistories& fresh, const int32_t* users, const int32_t* slots,
            size_t n, const float* type_weights, int32_t* where, const MergedHistories& out);

// Columns of merged histories that fold-in reads.
struct FoldInHistories {
    const int64_t* indptr;
    const int32_t* rows;
    const float* weights;
    const int64_t* last_ms;
};

// Confidences of the items below n_items with a positive weight, at most the latest max_history of each person; of those
// at the same time the first. `indptr` is (n + 1,), `rows` and `confidences` have room for all entries.
void fold_in_input(const FoldInHistories& merged, size_t n, size_t n_items, float alpha, size_t max_history,
                   int64_t* indptr, int32_t* rows, float* confidences);

}  // namespace headrace

// The best items of every user at once, without a matrix of scores: for evaluation and export.
//
// Each user's answer follows from their own rows alone, so it is the same to the bit for any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "headrace/scan.hpp"

namespace headrace {

// Rows of a sparse matrix; `values` is null where only the pattern counts.
struct SparseRows {
    const int64_t* indptr;
    const int32_t* columns;
    const float* values;
};

// Whose rows are ranked, what they must not get, and where the answer goes.
struct Ranking {
    const int32_t* users;  // (n,) rows of the users' side
    size_t n;
    SparseRows masked;  // by row of the users' side, in any order; indptr null: nothing is masked
    size_t k;
    int32_t* items;  // (n, k), score descending, then index ascending; -1 where there are fewer
    float* scores;   // (n, k), 0 there
    size_t n_threads;
};

// By products of factors, as `score` rounds them: (n_users, d) row after row with the scan's items.
// False, with the answer undefined, when a factor is not finite or a product might not be.
bool rank_factors(const Scan& scan, const float* users, const Ranking& ranking);

// By rows of left @ right, summed in the order of left's and right's entries; items that no entry reaches score 0.
// False, with the answer undefined, when a score is NaN or +infinity; -infinity bars an item.
bool rank_products(const SparseRows& left, const SparseRows& right, size_t n_items, const Ranking& ranking);

// Looks for what enters the best: sets bit i of the mask where scores[i] is above the floor, or no number.
struct SelectPass {
    using Run = uint64_t (*)(const float* scores, float floor);  // of 64 scores
    const char* name;
    Run run;
};

// All that this processor can run, the best first; the first one serves unless another is asked for.
std::vector<SelectPass> select_passes();
// Serve by another one of them from now on; for tests.
void use_select_pass(const SelectPass& pass);

}  // namespace headrace

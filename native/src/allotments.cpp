// What an authority outside allots to leaves, and what of it is in use.
#include "headrace/ledger.hpp"

namespace headrace {

using Guard = std::lock_guard<std::mutex>;

void Ledger::hold_to_allotments() {
    Guard guard(mutex_);
    tree_.hold_to_allotments();
}

void Ledger::set_allotments(size_t n, const int32_t* leaves, const int32_t* days, int64_t* micros) {
    Guard guard(mutex_);
    for (size_t i = 0; i < n; ++i) {
        if (!tree_.known(leaves[i]) || !tree_.is_leaf(leaves[i])) throw std::invalid_argument("allotment: no such leaf");
        micros[i] = tree_.set_allotment(leaves[i], days[i], micros[i]);
    }
}

void Ledger::give_back(size_t n, const int32_t* leaves, const int32_t* days) {
    Guard guard(mutex_);
    for (size_t i = 0; i < n && !frozen_; ++i) {
        if (!tree_.known(leaves[i])) continue;
        for (Lease* lease : {current_[leaves[i]], standby_[leaves[i]]}) {
            if (lease != nullptr && lease->day == days[i]) close(*lease);
        }
        tree_.set_allotment(leaves[i], days[i], 0);
    }
}

AllottedBooks Ledger::allotted_books(int32_t leaf, int32_t day) {
    Guard guard(mutex_);
    if (!tree_.known(leaf)) return AllottedBooks{0, 0, 0, 0};
    Totals totals = tree_.day_totals(leaf, day);
    return AllottedBooks{tree_.allotted(leaf, day), totals.committed(), totals.used(), totals.billed};
}

std::vector<LeafDay> Ledger::leaf_days() {
    Guard guard(mutex_);
    std::vector<LeafDay> found;
    for (int32_t leaf = 0; leaf < tree_.size(); ++leaf) {
        if (!tree_.known(leaf) || !tree_.is_leaf(leaf)) continue;
        for (const DayTotals& entry : tree_.days(leaf)) {
            if (entry.totals.committed() != 0) found.push_back(LeafDay{leaf, entry.day, entry.totals.committed()});
        }
    }
    return found;
}

}  // namespace headrace

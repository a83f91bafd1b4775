// Granting leases, closing them, and finding room for them.
#include <algorithm>

#include "headrace/ledger.hpp"

namespace headrace {

using Guard = std::lock_guard<std::mutex>;

namespace {
// A lease holds at least so many reservations of the size that asks for it, as long as the budget does.
constexpr int64_t kLeastReservations = 16;
}  // namespace

std::vector<int64_t> Ledger::plan(int64_t now_ms, int64_t first_lease_id) {
    Guard guard(mutex_);
    std::vector<int64_t> granted;
    std::unordered_map<int32_t, Need> needs;
    needs.swap(needs_);
    if (closed_ != Reason::kOk) return granted;
    for (const auto& [account, need] : needs) {
        int64_t id = std::max(last_lease_ + 1, first_lease_id);
        if (!grant(account, need, id, now_ms)) continue;
        last_lease_ = id;
        granted.push_back(id);
    }
    return granted;
}

bool Ledger::grant(int32_t account, const Need& need, int64_t id, int64_t now_ms) {
    int32_t day = tree_.today(account).day;
    bool waits = need.most > 0;
    Lease* standby = standby_[account];
    Lease* current = current_[account];
    bool coming = (standby != nullptr && standby->state == LeaseState::kPending) ||
                  (current != nullptr && current->state == LeaseState::kPending);
    if (coming || (standby != nullptr && !waits)) return false;
    if (waits) close_own(account);
    if (waits && !make_room(account, day, need.most)) return false;
    int64_t room = tree_.room(account, day);
    int64_t least = std::min(room, std::max(need.sum, kLeastReservations * std::max(need.most, need.hint)));
    int64_t size = std::min(std::max(room / options_.lease_share, least), std::max(options_.lease_max_micros, need.most));
    if (size <= 0 || (!waits && size < kLeastReservations * need.hint)) return false;

    Lease& lease = leases_[id];
    lease.id = id;
    lease.account = account;
    lease.day = day;
    lease.granted = lease.unused = size;
    lease.granted_ms = now_ms;
    (current_[account] == nullptr ? current_ : standby_)[account] = &lease;
    move(lease, Totals{0, 0, 0, size});
    Record record{RecordKind::kGrant};
    record.lease = id;
    record.account = account;
    record.day = day;
    record.a = size;
    record.time_ms = now_ms;
    log_.add(record);
    return true;
}

bool Ledger::make_room(int32_t account, int32_t day, int64_t micros) {
    if (tree_.room(account, day) >= micros) return true;
    for (int32_t node = account; node >= 0; node = tree_.parent(node)) {
        if (tree_.room_at(node, day) >= micros) continue;
        for (int32_t other = 0; other < tree_.size(); ++other) {
            if (!tree_.known(other) || other == account || !tree_.below(other, node)) continue;
            for (Lease* lease : {current_[other], standby_[other]}) {
                if (lease != nullptr && lease->state == LeaseState::kActive) close(*lease);
            }
            if (tree_.room_at(node, day) >= micros) break;
        }
    }
    return tree_.room(account, day) >= micros;
}

void Ledger::close_own(int32_t account) {
    for (Lease* lease : {current_[account], standby_[account]}) {
        if (lease != nullptr) close(*lease);
    }
}

void Ledger::close(Lease& lease) {
    int64_t unused = lease.unused;
    lease.state = LeaseState::kClosed;
    lease.unused = 0;
    lease.returned += unused;
    move(lease, Totals{0, 0, 0, -unused});
    for (std::vector<Lease*>* places : {&current_, &standby_}) {
        if ((*places)[lease.account] == &lease) (*places)[lease.account] = nullptr;
    }
    Record record{RecordKind::kClose};
    record.lease = lease.id;
    // the journal has set that money free already: its records stand before this one
    record.a = unused + lease.unconfirmed;
    log_.add(record);
}

void Ledger::activate(const std::vector<int64_t>& leases) {
    Guard guard(mutex_);
    if (frozen_) return;
    for (int64_t id : leases) {
        Lease* lease = find(id);
        if (lease != nullptr && lease->state == LeaseState::kPending) lease->state = LeaseState::kActive;
    }
}

void Ledger::recall(int32_t account) {
    Guard guard(mutex_);
    for (int32_t other = 0; other < tree_.size() && !frozen_; ++other) {
        if (tree_.known(other) && tree_.below(other, account)) close_own(other);
    }
}

// After a cut: leases whose money lies beyond a limit go back.
void Ledger::close_beyond(int32_t account) {
    for (int32_t other = 0; other < tree_.size() && !frozen_; ++other) {
        if (!tree_.known(other) || !tree_.below(other, account)) continue;
        for (Lease* lease : {current_[other], standby_[other]}) {
            if (lease != nullptr && tree_.room_at(account, lease->day) < 0) close(*lease);
        }
    }
}

void Ledger::recall_stale() {
    Guard guard(mutex_);
    for (int32_t account = 0; account < tree_.size() && !frozen_; ++account) {
        for (Lease* lease : {current_[account], standby_[account]}) {
            if (lease != nullptr && lease->day != tree_.today(account).day) close(*lease);
        }
    }
}

void Ledger::give_back_pool(Lease& lease) {
    Record record{RecordKind::kClose};
    record.lease = lease.id;
    record.a = lease.pool;
    log_.add(record);
    move(lease, Totals{0, 0, -lease.pool, 0});
    lease.returned += lease.pool;
    lease.pool = 0;
    lease.pooled_ms = 0;
}

bool Ledger::close_pool(int64_t id) {
    Guard guard(mutex_);
    Lease* lease = find(id);
    if (frozen_ || lease == nullptr || lease->pool == 0) return false;
    give_back_pool(*lease);
    return true;
}

}  // namespace headrace

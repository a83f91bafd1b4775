// What notices, operators and time do to reservations.
#include <algorithm>

#include "headrace/ledger.hpp"

namespace headrace {

using Guard = std::lock_guard<std::mutex>;

namespace {

struct Turn {
    State to;
    Outcome outcome;
};

constexpr int64_t kMinuteMs = 60'000;

Turn on_win(State from, bool acceptable) {
    switch (from) {
        case State::kReserved:
            return acceptable ? Turn{State::kWon, Outcome::kAccepted} : Turn{State::kDisputed, Outcome::kDisputed};
        case State::kLost:
            return {State::kLostDisputed, Outcome::kDisputed};
        case State::kExpired:
            return {from, Outcome::kLate};
        default:
            return {from, Outcome::kDuplicate};
    }
}

Turn on_bill(State from, bool acceptable) {
    switch (from) {
        case State::kReserved:
        case State::kWon:
            return acceptable ? Turn{State::kBilled, Outcome::kAccepted} : Turn{State::kDisputed, Outcome::kDisputed};
        case State::kDisputed:
            return acceptable ? Turn{State::kBilled, Outcome::kAccepted} : Turn{from, Outcome::kDuplicate};
        case State::kLost:
        case State::kExpired:
        case State::kLostDisputed:
            return {State::kLate, Outcome::kLate};
        default:
            return {from, Outcome::kDuplicate};
    }
}

Turn on_loss(State from) {
    switch (from) {
        case State::kReserved:
        case State::kExpired:
            return {State::kLost, Outcome::kAccepted};
        case State::kLost:
        case State::kLostDisputed:
            return {from, Outcome::kDuplicate};
        default:
            return {from, Outcome::kConflict};
    }
}

Turn on_close(State from, State to, bool acceptable) {
    if (from == to) return {from, Outcome::kDuplicate};
    if (from == State::kLostDisputed && to == State::kLost) return {to, Outcome::kAccepted};  // the claim alone goes
    if (!is_held(from)) return {from, Outcome::kConflict};
    return acceptable ? Turn{to, Outcome::kAccepted} : Turn{from, Outcome::kDisputed};
}

Turn decide(const Notice& notice, State from) {
    bool acceptable = notice.price >= 0 && notice.price <= notice.cpm;
    switch (notice.kind) {
        case NoticeKind::kWin:
            return on_win(from, acceptable);
        case NoticeKind::kBilling:
            return on_bill(from, acceptable);
        case NoticeKind::kLoss:
            return on_loss(from);
        case NoticeKind::kCloseLost:
            return on_close(from, State::kLost, true);
        default:
            return on_close(from, State::kBilled, acceptable);
    }
}

// What the reservation file would say of a token that nothing is known of.
Slot slot_of(const Notice& notice, int64_t issued_ms) {
    return Slot{notice.lease, notice.cpm, issued_ms, static_cast<uint64_t>(notice.exchange) << 32 | notice.serial, 0};
}

// What a claim that we may not accept amounts to: its price, or the reservation where it has none.
int64_t claimed_micros(const Notice& notice) { return ceil_micros(notice.price >= 0 ? notice.price : notice.cpm); }

}  // namespace

int64_t Ledger::settle(const std::vector<Notice>& notices, int64_t now_ms, int8_t* outcomes) {
    Guard guard(mutex_);
    if (frozen_) throw std::runtime_error("the ledger is frozen");
    std::vector<Release> releases;
    for (size_t i = 0; i < notices.size(); ++i) {
        outcomes[i] = static_cast<int8_t>(settle_one(notices[i], now_ms, releases));
    }
    return remember(std::move(releases));
}

Outcome Ledger::settle_one(const Notice& notice, int64_t now_ms, std::vector<Release>& releases) {
    if (!tree_.known(notice.account)) {
        saw_unknown_ = true;
        return Outcome::kRefused;
    }
    bool by_hand = notice.kind == NoticeKind::kCloseLost || notice.kind == NoticeKind::kCloseBilled;
    // an operator may hold a token of long ago, whose lease is rightly gone
    if (by_hand && find(notice.lease) == nullptr) return Outcome::kConflict;
    Lease& lease = lease_of(notice);
    Entry entry = lease.entry(notice.serial);
    if (lease.account != notice.account) return Outcome::kForged;
    if (is_held(entry.state()) && slots_.at(entry.slot()).cpm != notice.cpm) return Outcome::kForged;
    State from = entry.state();
    if (from == State::kAbsent) from = backing(lease, slot_of(notice, now_ms));
    Turn next = decide(notice, from);
    if (next.to == from) return next.outcome;
    bool aside = next.to == State::kLate || next.to == State::kDisputed || next.to == State::kLostDisputed;
    // what was claimed at absurd prices must not keep anybody's notices from being settled
    if (aside && !tree_.can_count(lease.account, claimed_micros(notice))) return Outcome::kRefused;
    if (next.to == State::kWon || next.to == State::kBilled) {
        int64_t counted = from == State::kWon ? win_micros_[entry.slot()] : 0;
        count_spend(lease.account, std::max<int64_t>(ceil_micros(notice.price) - counted, 0), now_ms);
    }
    turn(lease, notice, from, next.to, releases);
    Record record{RecordKind::kSettle};
    record.state = static_cast<uint8_t>(next.to);
    record.account = notice.account;
    record.lease = notice.lease;
    record.serial = notice.serial;
    record.day = lease.day;
    record.a = notice.cpm;
    record.b = notice.price;
    record.time_ms = now_ms;
    record.exchange = notice.exchange;
    log_.add(record);
    return next.outcome;
}

Lease& Ledger::lease_of(const Notice& notice) {
    Lease* found = find(notice.lease);
    if (found != nullptr) return *found;
    saw_unknown_ = true;
    Lease& lease = leases_[notice.lease];
    lease.id = notice.lease;
    lease.account = notice.account;
    lease.day = notice.day;
    lease.state = LeaseState::kClosed;
    return lease;
}

// The state of a token never seen singly: reserved when its lease's pool holds its money, else expired.
State Ledger::backing(Lease& lease, const Slot& claimed) {
    int64_t micros = ceil_micros(claimed.cpm);
    if (lease.pool < micros) return State::kExpired;
    uint32_t serial = claimed.number();
    int64_t slot = slots_.put(lease.id, serial, claimed.exchange(), claimed.cpm, claimed.issued_ms);
    if (slot < 0) throw std::runtime_error("the reservation file cannot grow");
    lease.pool -= micros;
    lease.reserved += micros;
    lease.set(serial, Entry::held(State::kReserved, static_cast<uint32_t>(slot)));
    lease.oldest = std::min(lease.oldest, serial);
    return State::kReserved;
}

void Ledger::turn(Lease& lease, const Notice& notice, State from, State to, std::vector<Release>& releases) {
    uint32_t slot = is_held(from) ? lease.entry(notice.serial).slot() : 0;
    Totals delta;
    leave(lease, notice, from, slot, delta);
    int64_t freed = enter(lease, notice, to, slot, delta);
    if (is_held(to)) {
        lease.set(notice.serial, Entry::held(to, slot));
    } else {
        lease.set(notice.serial, Entry::settled(to));
    }
    if (is_held(from) && !is_held(to)) {
        int64_t back = ceil_micros(notice.cpm) - freed;
        delta.reserved += back;
        lease.unconfirmed += back;
        releases.push_back(Release{lease.id, slot, back});
    }
    lease.reserved += delta.reserved;
    lease.won += delta.won;
    move(lease, delta);
}

void Ledger::leave(Lease& lease, const Notice& notice, State from, uint32_t slot, Totals& delta) {
    int64_t won = from == State::kWon ? win_micros_[slot] : 0;
    delta.won -= won;
    if (is_held(from)) delta.reserved -= ceil_micros(notice.cpm) - won;
    if (from != State::kDisputed && from != State::kLostDisputed) return;
    auto& claims = claims_[lease.id];
    tree_.move_disputed(lease.account, -claims[notice.serial]);
    claims.erase(notice.serial);
    if (claims.empty()) claims_.erase(lease.id);
}

// Takes on the new state; returns what of the reservation is spent for good.
int64_t Ledger::enter(Lease& lease, const Notice& notice, State to, uint32_t slot, Totals& delta) {
    if (to == State::kWon) {
        if (slot >= win_micros_.size()) win_micros_.resize(slots_.capacity());
        win_micros_[slot] = ceil_micros(notice.price);
        delta.won += win_micros_[slot];
        delta.reserved += ceil_micros(notice.cpm) - win_micros_[slot];
    } else if (to == State::kDisputed || to == State::kLostDisputed) {
        if (to == State::kDisputed) delta.reserved += ceil_micros(notice.cpm);
        claims_[lease.id][notice.serial] = claimed_micros(notice);
        tree_.move_disputed(lease.account, claimed_micros(notice));
    } else if (to == State::kLate) {
        tree_.move_late(lease.account, claimed_micros(notice));
    } else if (to == State::kBilled) {
        int64_t before = lease.billed();
        lease.billed_nanos = checked_add(lease.billed_nanos, notice.price);
        delta.billed += lease.billed() - before;
        return delta.billed;
    }
    return 0;
}

void Ledger::count_spend(int32_t account, int64_t micros, int64_t now_ms) {
    if (options_.max_micros_per_minute <= 0) return;
    int32_t root = tree_.root(account);
    Rate& rate = rates_[root];
    if (rate.minute != now_ms / kMinuteMs) rate = Rate{now_ms / kMinuteMs, 0};
    rate.micros = checked_add(rate.micros, micros);
    if (rate.micros <= options_.max_micros_per_minute || brake_advertiser_[root]) return;
    brake_advertiser_[root] = 1;
    tripped_.push_back(root);
}

int64_t Ledger::remember(std::vector<Release>&& releases) {
    if (releases.empty()) return 0;
    tickets_[++last_ticket_] = std::move(releases);
    return last_ticket_;
}

void Ledger::confirm(int64_t ticket) {
    Guard guard(mutex_);
    auto found = tickets_.find(ticket);
    if (frozen_ || found == tickets_.end()) return;
    for (const Release& release : found->second) {
        find(release.lease)->unconfirmed -= release.micros;
        free_money(release);
    }
    tickets_.erase(found);
}

void Ledger::free_money(const Release& release) {
    Lease& lease = *find(release.lease);
    slots_.clear(release.slot);
    lease.reserved -= release.micros;
    switch (lease.state) {
        case LeaseState::kReplaying:
            lease.pool += release.micros;
            break;
        case LeaseState::kClosed:
            lease.returned += release.micros;
            move(lease, Totals{0, 0, -release.micros, 0});
            break;
        default:
            lease.unused += release.micros;
            move(lease, Totals{0, 0, -release.micros, release.micros});
    }
}

int64_t Ledger::expire(int64_t now_ms) {
    Guard guard(mutex_);
    std::vector<Release> releases;
    if (frozen_) return 0;
    for (auto& [id, lease] : leases_) {
        if (lease.reserved == 0 && lease.pool == 0) {
            if (lease.state == LeaseState::kClosed && lease.won == 0 && !lease.entries.packed()) lease.entries.pack();
            continue;
        }
        if (!tree_.expires(lease.account)) continue;
        int64_t after_ms = tree_.expire_after(lease.account);
        if (after_ms == 0) after_ms = options_.expire_after_ms;
        if (lease.pool > 0 && lease.pooled_ms + after_ms <= now_ms) give_back_pool(lease);
        expire_lease(lease, now_ms, after_ms, releases);
    }
    return remember(std::move(releases));
}

void Ledger::expire_lease(Lease& lease, int64_t now_ms, int64_t after_ms, std::vector<Release>& releases) {
    while (lease.oldest < lease.entries.size()) {
        Entry entry = lease.entries[lease.oldest];
        if (entry.state() == State::kReserved) {
            Slot slot = slots_.at(entry.slot());
            if (slot.issued_ms + after_ms > now_ms) return;
            Notice notice{NoticeKind::kLoss, lease.account, lease.id, lease.oldest, lease.day, slot.cpm, -1};
            turn(lease, notice, State::kReserved, State::kExpired, releases);
            Record record{RecordKind::kSettle};
            record.state = static_cast<uint8_t>(State::kExpired);
            record.account = lease.account;
            record.lease = lease.id;
            record.serial = lease.oldest;
            record.day = lease.day;
            record.a = slot.cpm;
            record.b = -1;
            record.time_ms = now_ms;
            record.exchange = slot.exchange();
            log_.add(record);
        }
        ++lease.oldest;
    }
}

}  // namespace headrace

// Settings, reservations and reports.
#include "headrace/ledger.hpp"

#include <algorithm>

namespace headrace {

using Guard = std::lock_guard<std::mutex>;

void Ledger::put_account(int32_t account, const AccountSettings& settings, int64_t balance_micros) {
    Guard guard(mutex_);
    tree_.put(account, settings);
    if (settings.parent < 0) tree_.set_balance(account, balance_micros);
    write_limits(account, log_);
    size_t n = static_cast<size_t>(tree_.size());
    current_.resize(n);
    standby_.resize(n);
    brake_advertiser_.resize(n);
    rates_.resize(n);
    close_beyond(account);
}

void Ledger::set_zone_day(int32_t zone, const ZoneDay& day) {
    Guard guard(mutex_);
    tree_.set_zone_day(zone, day);
}

void Ledger::set_brake_all(bool engaged) {
    Guard guard(mutex_);
    brake_all_ = engaged;
}

void Ledger::set_brake_exchange(int32_t exchange, bool engaged) {
    Guard guard(mutex_);
    if (exchange < 0 || exchange > 0xFFFF) throw std::invalid_argument("brake: exchanges have numbers up to 65535");
    if (exchange >= static_cast<int32_t>(brake_exchange_.size())) brake_exchange_.resize(static_cast<size_t>(exchange) + 1);
    brake_exchange_[exchange] = engaged;
}

void Ledger::set_brake_advertiser(int32_t root, bool engaged) {
    Guard guard(mutex_);
    brake_advertiser_.at(root) = engaged;
}

void Ledger::set_closed(Reason reason) {
    Guard guard(mutex_);
    if (!frozen_) closed_ = reason;
}

void Ledger::freeze() {
    Guard guard(mutex_);
    frozen_ = true;
    closed_ = Reason::kJournalUnavailable;
    log_.take();  // another ledger recovers from the journal as it is: these records are of a past that it never had
    slots_.detach();
}

void Ledger::restate_in_force() {
    Guard guard(mutex_);
    tree_.restate_in_force();
}

std::vector<int32_t> Ledger::take_tripped() {
    Guard guard(mutex_);
    std::vector<int32_t> tripped;
    tripped.swap(tripped_);
    return tripped;
}

int Ledger::reserve(const ReserveBatch& batch, int64_t now_ms, int64_t issued_ms) {
    Guard guard(mutex_);
    bool waits = false;
    for (size_t i = 0; i < batch.n; ++i) {
        if (static_cast<Reason>(batch.reasons[i]) != Reason::kNeedLease) continue;
        int32_t account = batch.accounts[i];
        Reason reason = refuse(account, batch.cpm[i], batch.exchanges[i], now_ms);
        if (reason == Reason::kOk) {
            const Lease* lease = nullptr;
            reason = take(account, batch.cpm[i], batch.exchanges[i], issued_ms, &lease, &batch.serials[i]);
            batch.leases[i] = lease != nullptr ? lease->id : 0;
            batch.days[i] = lease != nullptr ? lease->day : 0;
        }
        batch.reasons[i] = static_cast<int8_t>(reason);
        waits = waits || reason == Reason::kNeedLease;
    }
    return waits ? 2 : needs_.empty() ? 0 : 1;
}

Reason Ledger::refuse(int32_t account, int64_t cpm, int32_t exchange, int64_t now_ms) const {
    if (closed_ != Reason::kOk) return closed_;
    if (!tree_.known(account)) throw std::invalid_argument("reserve: no such account or exchange");
    size_t number = static_cast<size_t>(exchange & 0xFFFF);
    bool exchange_braked = number < brake_exchange_.size() && brake_exchange_[number];
    if (brake_all_ || exchange_braked || brake_advertiser_[tree_.root(account)]) return Reason::kBrake;
    if (options_.max_bid_cpm_micros > 0 && cpm > options_.max_bid_cpm_micros) return Reason::kMaxBid;
    return tree_.in_flight(account, now_ms) ? Reason::kOk : Reason::kBudget;
}

Reason Ledger::take(int32_t account, int64_t cpm, int32_t exchange, int64_t issued_ms, const Lease** used,
                    int64_t* serial) {
    int64_t micros = ceil_micros(cpm);
    int32_t day = tree_.today(account).day;
    Lease* lease = usable(account, micros, day);
    if (lease == nullptr) {
        if (tree_.spendable(account, day) < micros) return Reason::kBudget;
        Need& need = needs_[account];
        need.most = std::max(need.most, micros);
        need.sum = checked_add(need.sum, micros);
        return Reason::kNeedLease;
    }
    uint32_t next = static_cast<uint32_t>(lease->entries.size());
    uint16_t named = static_cast<uint16_t>(static_cast<uint32_t>(exchange) >> 16);
    int64_t slot = slots_.put(lease->id, next, named, cpm, issued_ms);
    if (slot < 0) return Reason::kJournalUnavailable;
    lease->entries.push_back(Entry::held(State::kReserved, static_cast<uint32_t>(slot)));
    lease->unused -= micros;
    lease->reserved += micros;
    tree_.move(account, day, Totals{0, 0, micros, -micros});
    if (lease->unused < lease->granted / 2 && standby_[account] == nullptr) needs_[account].hint = micros;
    *used = lease;
    *serial = next;
    return Reason::kOk;
}

Lease* Ledger::usable(int32_t account, int64_t micros, int32_t day) {
    for (Lease* lease : {current_[account], standby_[account]}) {
        if (lease == nullptr || lease->day == day) continue;
        close(*lease);
    }
    Lease* lease = current_[account];
    if (lease != nullptr && lease->state == LeaseState::kActive && lease->unused >= micros) return lease;
    Lease* standby = standby_[account];
    if (standby == nullptr || standby->state != LeaseState::kActive || standby->unused < micros) return nullptr;
    if (lease != nullptr) close(*lease);
    current_[account] = standby;
    standby_[account] = nullptr;
    return standby;
}

int64_t Ledger::release(size_t n, const int64_t* leases, const int64_t* serials, int64_t now_ms) {
    Guard guard(mutex_);
    std::vector<Release> releases;
    for (size_t i = 0; i < n && !frozen_; ++i) {
        Lease* lease = find(leases[i]);
        uint32_t serial = static_cast<uint32_t>(serials[i]);
        if (lease == nullptr || lease->entry(serial).state() != State::kReserved) continue;
        const Slot& slot = slots_.at(lease->entry(serial).slot());
        Notice notice{NoticeKind::kLoss, lease->account, lease->id, serial, lease->day, slot.cpm, -1, slot.exchange()};
        if (lease->state != LeaseState::kActive) {
            settle_one(notice, now_ms, releases);
            continue;
        }
        // nobody heard of the bid: its money is free at once, and the journal need not be waited for. It must know, though:
        // once the lease is closed, a notice of this token would be replayed with the money of another.
        std::vector<Release> free_now;
        settle_one(notice, now_ms, free_now);
        for (const Release& release : free_now) {
            lease->unconfirmed -= release.micros;
            free_money(release);
        }
    }
    return remember(std::move(releases));
}

int64_t Ledger::spendable(int32_t account, int64_t now_ms) {
    Guard guard(mutex_);
    if (!tree_.known(account) || !tree_.in_flight(account, now_ms)) return 0;
    return tree_.spendable(account, tree_.today(account).day);
}

int64_t Ledger::spent(int32_t account, bool today) {
    Guard guard(mutex_);
    if (!tree_.known(account)) return 0;
    Totals totals = today ? tree_.day_totals(account, tree_.today(account).day) : tree_.totals(account);
    return totals.billed + totals.won;
}

std::vector<AccountReport> Ledger::reports(int64_t stranded_before_ms) {
    Guard guard(mutex_);
    std::vector<AccountReport> reports(static_cast<size_t>(tree_.size()));
    for (int32_t account = 0; account < tree_.size(); ++account) {
        if (!tree_.known(account)) continue;
        reports[account] = {tree_.totals(account), tree_.in_force(account), tree_.late(account), tree_.disputed(account), 0};
    }
    for (const auto& [id, lease] : leases_) {
        int64_t stranded = stranded_in(lease, stranded_before_ms);
        if (stranded == 0) continue;
        for (int32_t node = lease.account; node >= 0; node = tree_.parent(node)) reports[node].stranded += stranded;
    }
    return reports;
}

int64_t Ledger::stranded_in(const Lease& lease, int64_t before_ms) const {
    if (lease.granted_ms >= before_ms) return 0;
    int64_t stranded = lease.pool;
    if (lease.reserved == 0) return stranded;
    // from the first: time passes wins and disputes by, though they hold money
    for (size_t serial = 0; serial < lease.entries.size(); ++serial) {
        Entry entry = lease.entries[serial];
        if (!is_held(entry.state()) || slots_.at(entry.slot()).issued_ms >= before_ms) continue;
        int64_t micros = ceil_micros(slots_.at(entry.slot()).cpm);
        stranded += entry.state() == State::kWon ? micros - win_micros_[entry.slot()] : micros;
    }
    return stranded;
}

int32_t Ledger::first_violation() {
    Guard guard(mutex_);
    for (const auto& [id, lease] : leases_) {
        int64_t parts = lease.unused + lease.reserved + lease.won + lease.billed() + lease.pool + lease.returned;
        bool negative = lease.unused < 0 || lease.reserved < 0 || lease.won < 0 || lease.pool < 0 || lease.returned < 0;
        if (parts != lease.granted || negative) return lease.account;
    }
    return tree_.first_violation();
}

int64_t Ledger::last_lease() {
    Guard guard(mutex_);
    return last_lease_;
}

int64_t Ledger::open_reservations() {
    Guard guard(mutex_);
    return static_cast<int64_t>(slots_.open());
}

Lease* Ledger::find(int64_t id) {
    if (last_found_ != nullptr && last_found_->id == id) return last_found_;
    auto found = leases_.find(id);
    if (found == leases_.end()) return nullptr;
    last_found_ = &found->second;
    return last_found_;
}

void Ledger::move(const Lease& lease, const Totals& delta) { tree_.move(lease.account, lease.day, delta); }

}  // namespace headrace

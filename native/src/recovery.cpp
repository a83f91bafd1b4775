// The journal's records: taking them, replaying them, and condensing them.
#include <algorithm>
#include <limits>
#include <unordered_set>

#include "headrace/ledger.hpp"

namespace headrace {

using Guard = std::lock_guard<std::mutex>;

namespace {

constexpr size_t kStatesPerRecord = 24;
constexpr uint32_t kMaxSerial = 1u << 28;  // beyond what any lease reserves; a damaged record must not take all memory
constexpr int32_t kForgottenDays = std::numeric_limits<int32_t>::min();

// What a record says of a reservation, as the reservation file holds it.
Slot slot_of(const Record& record) {
    return Slot{record.lease, record.a, record.time_ms, static_cast<uint64_t>(record.exchange) << 32 | record.serial, 0};
}

Record open_record(const Slot& slot) {
    Record record{RecordKind::kOpen};
    record.lease = slot.lease;
    record.serial = slot.number();
    record.exchange = slot.exchange();
    record.a = slot.cpm;
    record.time_ms = slot.issued_ms;
    return record;
}

}  // namespace

std::string Ledger::take_records() {
    Guard guard(mutex_);
    return log_.take();
}

void Ledger::replay(const char* bytes, size_t size) {
    Guard guard(mutex_);
    if (size % sizeof(Record) != 0) throw std::invalid_argument("journal: a row is not a whole number of records");
    for (size_t at = 0; at < size; at += sizeof(Record)) {
        Record record;
        std::memcpy(&record, bytes + at, sizeof(Record));
        replay_one(record, true);
    }
}

void Ledger::restore(const char* bytes, size_t size) {
    Guard guard(mutex_);
    for (size_t at = 0; at + sizeof(Record) <= size; at += sizeof(Record)) {
        Record record;
        std::memcpy(&record, bytes + at, sizeof(Record));
        replay_one(record, false);
    }
}

void Ledger::replay_one(const Record& record, bool counted) {
    bool names_account = record.kind == RecordKind::kGrant || record.kind == RecordKind::kLease ||
                         record.kind == RecordKind::kSettle || record.kind == RecordKind::kBase;
    if (names_account && !tree_.known(record.account)) {
        throw std::invalid_argument("journal: a record names an account that is not there");
    }
    if (record.serial > kMaxSerial) throw std::invalid_argument("journal: a record names a token that no lease can have");
    switch (record.kind) {
        case RecordKind::kGrant:
        case RecordKind::kLease: {
            Lease& lease = leases_[record.lease];
            bool open = record.kind == RecordKind::kGrant || record.state == 1;
            lease.id = record.lease;
            lease.account = record.account;
            lease.day = record.day;
            lease.state = open ? LeaseState::kReplaying : LeaseState::kClosed;
            lease.granted = record.a;
            lease.granted_ms = record.time_ms;
            last_lease_ = std::max(last_lease_, record.lease);
            if (record.kind == RecordKind::kLease) {
                lease.returned = record.b;
                break;
            }
            lease.pool = record.a;
            move(lease, Totals{0, 0, record.a, 0});
            break;
        }
        case RecordKind::kMoney: {
            Lease& lease = leases_.at(record.lease);
            lease.billed_nanos = record.a;
            lease.pool = record.b;
            lease.pooled_ms = record.time_ms;
            if (counted) move(lease, Totals{lease.billed(), 0, lease.pool, 0});
            break;
        }
        case RecordKind::kStates: {
            uint8_t states[kStatesPerRecord];
            std::memcpy(states, &record.a, sizeof states);
            Lease& lease = leases_.at(record.lease);
            for (uint8_t state : states) {
                bool ended = state <= static_cast<uint8_t>(State::kLostDisputed) && !is_held(static_cast<State>(state));
                if (!ended) throw std::invalid_argument("journal: a condensed token has a state that holds money");
            }
            for (uint32_t i = 0; i < kStatesPerRecord; ++i) {
                if (states[i] != 0) lease.set(record.serial + i, Entry::settled(static_cast<State>(states[i])));
            }
            break;
        }
        case RecordKind::kSettle:
            replay_settle(record);
            break;
        case RecordKind::kClose:
            replay_close(record);
            break;
        case RecordKind::kOpen: {
            Lease& lease = leases_.at(record.lease);
            if (lease.entry(record.serial).state() == State::kAbsent) {
                backing(lease, slot_of(record));
            }
            break;
        }
        case RecordKind::kBase:
            tree_.move(record.account, record.day, Totals{record.a, 0, 0, 0});
            tree_.move_late(record.account, record.b);
            tree_.move_disputed(record.account, record.time_ms);
            break;
        case RecordKind::kLimits:  // settings are read from their own tables; auditors read them here
            break;
        default:
            throw std::invalid_argument("journal: a record of a kind that this version does not know");
    }
}

// A record that an honest ledger does not write must end the replay: what follows would be read from slots that are not
// there.
void Ledger::check_settle(const Record& record, const Lease& lease, State from) const {
    auto to = static_cast<State>(record.state);
    bool known = to > State::kReserved && to <= State::kLostDisputed;
    if (!known || record.account != lease.account || record.a < 0) {
        throw std::invalid_argument("journal: a settlement of a token is not one");
    }
    if (is_held(to) && !is_held(from)) {
        throw std::invalid_argument("journal: a token that reserved nothing is won or disputed");
    }
    if (is_held(from) && slots_.at(lease.entry(record.serial).slot()).cpm != record.a) {
        throw std::invalid_argument("journal: a token settles as another amount than it reserved");
    }
}

void Ledger::replay_settle(const Record& record) {
    Notice notice{NoticeKind::kLoss, record.account, record.lease, record.serial, record.day, record.a, record.b, record.exchange};
    Lease& lease = lease_of(notice);
    State from = lease.entry(record.serial).state();
    if (from == State::kAbsent) from = backing(lease, slot_of(record));
    check_settle(record, lease, from);
    std::vector<Release> releases;
    turn(lease, notice, from, static_cast<State>(record.state), releases);
    for (const Release& release : releases) {
        lease.unconfirmed -= release.micros;
        free_money(release);
    }
}

void Ledger::replay_close(const Record& record) {
    Lease& lease = leases_.at(record.lease);
    lease.state = LeaseState::kClosed;
    lease.pool -= record.a;
    lease.returned += record.a;
    lease.pooled_ms = record.time_ms;
    move(lease, Totals{0, 0, -record.a, 0});
}

void Ledger::finish_replay(const std::vector<Slot>& open, bool trusted, int64_t now_ms) {
    Guard guard(mutex_);
    saw_unknown_ = false;
    if (trusted) adopt_slots(open);
    for (auto& [id, lease] : leases_) {
        if (lease.state == LeaseState::kClosed && (lease.pool == 0 || lease.pooled_ms > 0)) continue;
        lease.state = LeaseState::kClosed;
        Record record{RecordKind::kClose};
        record.lease = id;
        record.a = trusted ? lease.pool : 0;
        record.time_ms = trusted || lease.pool == 0 ? 0 : now_ms;
        replay_close(record);
        log_.add(record);
    }
    tree_.restate_in_force();
}

void Ledger::adopt_slots(const std::vector<Slot>& open) {
    for (const Slot& slot : open) {
        Lease* lease = find(slot.lease);
        if (lease == nullptr) {
            saw_unknown_ = true;
            continue;
        }
        if (lease->pooled_ms > 0 || lease->entry(slot.number()).state() != State::kAbsent) continue;
        if (backing(*lease, slot) != State::kReserved) {
            throw std::runtime_error("recovery: the reservation file holds more than its leases");
        }
        log_.add(open_record(slot));
    }
}

void Ledger::attach(const std::string& path, const ReservationHeader& header) {
    Guard guard(mutex_);
    slots_.attach(path, header);
}

void Ledger::mark_committed(int64_t sequence) {
    Guard guard(mutex_);
    if (!frozen_) slots_.mark_committed(sequence);
}

void Ledger::record_open() {
    Guard guard(mutex_);
    for (const auto& [id, lease] : leases_) write_open(lease, log_);
}

void Ledger::write_open(const Lease& lease, RecordLog& log) const {
    if (lease.reserved == 0) return;
    for (uint32_t serial = lease.oldest; serial < lease.entries.size(); ++serial) {
        Entry entry = lease.entries[serial];
        if (entry.state() != State::kReserved) continue;
        log.add(open_record(slots_.at(entry.slot())));
    }
}

std::pair<std::string, std::string> Ledger::snapshot() {
    Guard guard(mutex_);
    RecordLog log;
    for (int32_t account = 0; account < tree_.size(); ++account) {
        if (tree_.known(account)) write_limits(account, log);
    }
    write_bases(log);
    for (const auto& [id, lease] : leases_) {
        write_lease(lease, log);
        write_held(lease, log);
    }
    return {log_.take(), log.take()};
}

std::vector<int64_t> Ledger::retirable(int64_t before_ms) {
    Guard guard(mutex_);
    std::unordered_set<int64_t> waiting;  // a release of nothing leaves `unconfirmed` at 0
    for (const auto& [ticket, releases] : tickets_) {
        for (const Release& release : releases) waiting.insert(release.lease);
    }
    std::vector<int64_t> done;
    for (const auto& [id, lease] : leases_) {
        bool settled = lease.reserved == 0 && lease.won == 0 && lease.pool == 0 && lease.unconfirmed == 0;
        bool plain = lease.state == LeaseState::kClosed && lease.granted > 0 && claims_.count(id) == 0;
        if (settled && plain && waiting.count(id) == 0 && lease.granted_ms < before_ms) done.push_back(id);
    }
    return done;
}

std::string Ledger::lease_records(int64_t id) {
    Guard guard(mutex_);
    RecordLog log;
    Lease* lease = find(id);
    if (lease != nullptr) write_lease(*lease, log);
    return log.take();
}

void Ledger::forget(const std::vector<int64_t>& leases) {
    Guard guard(mutex_);
    for (int64_t id : leases) leases_.erase(id);
    last_found_ = nullptr;
}

bool Ledger::has_lease(int64_t lease) {
    Guard guard(mutex_);
    return find(lease) != nullptr;
}

bool Ledger::take_unknown_lease() {
    Guard guard(mutex_);
    bool seen = saw_unknown_;
    saw_unknown_ = false;
    return seen;
}

// All of a lease's held money goes into the snapshot's pool; write_held takes it out again, token by token.
void Ledger::write_lease(const Lease& lease, RecordLog& log) const {
    bool open = lease.state == LeaseState::kActive || lease.state == LeaseState::kPending;
    Record head{RecordKind::kLease};
    head.state = open ? 1 : 0;
    head.account = lease.account;
    head.lease = lease.id;
    head.day = lease.day;
    head.a = lease.granted;
    head.b = lease.returned + (open ? 0 : lease.unconfirmed);
    head.time_ms = lease.granted_ms;
    log.add(head);
    Record money{RecordKind::kMoney};
    money.lease = lease.id;
    money.a = lease.billed_nanos;
    money.b = lease.granted - head.b - lease.billed();
    money.time_ms = lease.pooled_ms;
    log.add(money);
    write_states(lease, log);
}

void Ledger::write_states(const Lease& lease, RecordLog& log) const {
    for (size_t first = 0; first < lease.entries.size(); first += kStatesPerRecord) {
        uint8_t states[kStatesPerRecord] = {};
        size_t last = std::min(first + kStatesPerRecord, lease.entries.size());
        for (size_t serial = first; serial < last; ++serial) {
            State state = lease.entries[serial].state();
            if (!is_held(state)) states[serial - first] = static_cast<uint8_t>(state);
        }
        Record record{RecordKind::kStates};
        record.lease = lease.id;
        record.serial = static_cast<uint32_t>(first);
        std::memcpy(&record.a, states, sizeof states);
        log.add(record);
    }
}

void Ledger::write_held(const Lease& lease, RecordLog& log) const {
    if (lease.state == LeaseState::kClosed) write_open(lease, log);
    auto claims = claims_.find(lease.id);
    for (uint32_t serial = 0; serial < lease.entries.size(); ++serial) {
        Entry entry = lease.entries[serial];
        if (entry.state() == State::kWon) {
            Record record = settle_record(lease, serial, State::kWon);
            record.b = win_micros_[entry.slot()] * kNanosPerMicro;
            log.add(record);
        } else if (entry.state() == State::kDisputed || entry.state() == State::kLostDisputed) {
            Record record = settle_record(lease, serial, entry.state());
            record.b = claims->second.at(serial) * kNanosPerMicro;
            log.add(record);
        }
    }
}

// A token's state, and where it holds money what and since when.
Record Ledger::settle_record(const Lease& lease, uint32_t serial, State state) const {
    Record record{RecordKind::kSettle};
    record.state = static_cast<uint8_t>(state);
    record.account = lease.account;
    record.lease = lease.id;
    record.serial = serial;
    record.day = lease.day;
    if (!is_held(state)) return record;
    const Slot& slot = slots_.at(lease.entry(serial).slot());
    record.a = slot.cpm;
    record.time_ms = slot.issued_ms;
    record.exchange = slot.exchange();
    return record;
}

void Ledger::write_limits(int32_t account, RecordLog& log) const {
    Record record{RecordKind::kLimits};
    record.account = account;
    record.a = tree_.own_limit(account);
    record.b = tree_.daily_limit(account);
    log.add(record);
}

void Ledger::write_bases(RecordLog& log) const {
    std::unordered_map<int32_t, std::unordered_map<int32_t, int64_t>> in_memory;
    std::unordered_map<int32_t, int64_t> claimed;
    for (const auto& [id, lease] : leases_) {
        in_memory[lease.account][lease.day] += lease.billed();
        auto claims = claims_.find(id);
        if (claims == claims_.end()) continue;
        for (const auto& [serial, micros] : claims->second) claimed[lease.account] += micros;
    }
    for (int32_t leaf = 0; leaf < tree_.size(); ++leaf) {
        if (!tree_.known(leaf) || !tree_.is_leaf(leaf)) continue;
        Record rest{RecordKind::kBase};  // what belongs to no day any more
        rest.account = leaf;
        rest.day = kForgottenDays;
        rest.a = tree_.totals(leaf).billed;
        rest.b = tree_.late(leaf);
        rest.time_ms = tree_.disputed(leaf) - claimed[leaf];
        for (const auto& [day, billed] : in_memory[leaf]) rest.a -= billed;
        for (const DayTotals& entry : tree_.days(leaf)) {
            if (entry.day == kForgottenDays) continue;
            Record base{RecordKind::kBase};
            base.account = leaf;
            base.day = entry.day;
            base.a = entry.totals.billed - in_memory[leaf][entry.day];
            rest.a -= base.a;
            if (base.a != 0) log.add(base);
        }
        if (rest.a != 0 || rest.b != 0 || rest.time_ms != 0) log.add(rest);
    }
}

}  // namespace headrace

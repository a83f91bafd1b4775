#include "headrace/accounts.hpp"

#include <algorithm>
#include <limits>

namespace headrace {

namespace {
constexpr int64_t kUnbounded = std::numeric_limits<int64_t>::max();
}

void Totals::add(const Totals& delta) {
    billed = checked_add(billed, delta.billed);
    won = checked_add(won, delta.won);
    reserved = checked_add(reserved, delta.reserved);
    unused = checked_add(unused, delta.unused);
}

void AccountTree::put(int32_t account, const AccountSettings& settings) {
    if (account < 0 || (settings.parent >= 0 && !known(settings.parent))) {
        throw std::invalid_argument("account: the parent must be known first");
    }
    if (settings.zone >= static_cast<int32_t>(zones_.size())) {
        throw std::invalid_argument("account: its zone must have a day first");
    }
    if (account >= size()) {
        size_t n = static_cast<size_t>(account) + 1;
        known_.resize(n);
        settings_.resize(n);
        balance_.resize(n);
        totals_.resize(n);
        in_force_.resize(n);
        late_.resize(n);
        disputed_.resize(n);
        days_.resize(n);
        allotments_.resize(n);
    }
    known_[account] = 1;
    settings_[account] = settings;
    in_force_[account] = std::max(own_limit(account), totals_[account].committed());
    for (DayTotals& entry : days_[account]) {
        entry.in_force = std::max(settings.daily_micros, entry.totals.committed());
    }
}

void AccountTree::set_balance(int32_t root, int64_t balance_micros) {
    balance_[root] = balance_micros;
    in_force_[root] = std::max(own_limit(root), totals_[root].committed());
}

void AccountTree::set_zone_day(int32_t zone, const ZoneDay& day) {
    if (zone >= static_cast<int32_t>(zones_.size())) zones_.resize(static_cast<size_t>(zone) + 1);
    zones_[zone] = day;
}

void AccountTree::hold_to_allotments() { held_ = true; }

int64_t AccountTree::set_allotment(int32_t leaf, int32_t day, int64_t micros) {
    int64_t in_force = std::max(micros, day_totals(leaf, day).committed());
    std::vector<Allotment>& own = allotments_[leaf];
    for (auto entry = own.rbegin(); entry != own.rend(); ++entry) {
        if (entry->day == day) return entry->micros = in_force;
    }
    own.push_back(Allotment{day, in_force});
    return in_force;
}

int64_t AccountTree::allotted(int32_t leaf, int32_t day) const {
    const std::vector<Allotment>& own = allotments_[leaf];
    for (auto entry = own.rbegin(); entry != own.rend(); ++entry) {
        if (entry->day == day) return entry->micros;
    }
    return 0;
}

int32_t AccountTree::root(int32_t account) const {
    while (parent(account) >= 0) account = parent(account);
    return account;
}

int32_t AccountTree::depth(int32_t account) const {
    int32_t depth = 0;
    for (int32_t node = parent(account); node >= 0; node = parent(node)) ++depth;
    return depth;
}

bool AccountTree::below(int32_t account, int32_t ancestor) const {
    while (account >= 0 && account != ancestor) account = parent(account);
    return account == ancestor;
}

const ZoneDay& AccountTree::today(int32_t account) const {
    for (int32_t node = account; node >= 0; node = parent(node)) {
        if (settings_[node].zone >= 0) return zones_[settings_[node].zone];
    }
    return zones_[0];
}

bool AccountTree::expires(int32_t account) const {
    for (int32_t node = account; node >= 0; node = parent(node)) {
        if (settings_[node].mode != Mode::kInherit) return settings_[node].mode == Mode::kExpire;
    }
    return false;
}

int64_t AccountTree::expire_after(int32_t account) const {
    for (int32_t node = account; node >= 0; node = parent(node)) {
        if (settings_[node].expire_after_ms > 0) return settings_[node].expire_after_ms;
    }
    return 0;
}

bool AccountTree::in_flight(int32_t leaf, int64_t now_ms) const {
    for (int32_t node = leaf; node >= 0; node = parent(node)) {
        const AccountSettings& own = settings_[node];
        if (now_ms < own.flight_start_ms || (own.flight_end_ms != 0 && now_ms >= own.flight_end_ms)) return false;
    }
    return true;
}

void AccountTree::move(int32_t leaf, int32_t day, const Totals& delta) {
    for (int32_t node = leaf; node >= 0; node = parent(node)) {
        totals_[node].add(delta);
        lower_in_force(node);
        DayTotals& entry = day_entry(node, day);
        entry.totals.add(delta);
        int64_t limit = settings_[node].daily_micros;
        if (entry.in_force > limit) entry.in_force = std::max(limit, std::min(entry.in_force, entry.totals.committed()));
    }
}

void AccountTree::move_late(int32_t leaf, int64_t micros) {
    for (int32_t node = leaf; node >= 0; node = parent(node)) late_[node] = checked_add(late_[node], micros);
}

void AccountTree::move_disputed(int32_t leaf, int64_t micros) {
    for (int32_t node = leaf; node >= 0; node = parent(node)) disputed_[node] = checked_add(disputed_[node], micros);
}

bool AccountTree::can_count(int32_t leaf, int64_t micros) const {
    int64_t least = kUnbounded - micros;
    int32_t top = root(leaf);  // which has the sums of all
    return late_[top] <= least && disputed_[top] <= least;
}

int64_t AccountTree::own_limit(int32_t account) const {
    int64_t lifetime = settings_[account].lifetime_micros;
    if (parent(account) >= 0) return lifetime;
    return lifetime == kNoLimit ? balance_[account] : std::min(lifetime, balance_[account]);
}

int64_t AccountTree::room_at(int32_t account, int32_t day) const {
    int64_t room = kUnbounded;
    int64_t limit = own_limit(account);
    if (limit != kNoLimit) room = limit - totals_[account].committed();
    int64_t daily = settings_[account].daily_micros;
    if (daily != kNoLimit) room = std::min(room, daily - day_totals(account, day).committed());
    if (held(account)) room = std::min(room, allotted(account, day) - day_totals(account, day).committed());
    return room;
}

int64_t AccountTree::room(int32_t leaf, int32_t day) const {
    int64_t room = kUnbounded;
    for (int32_t node = leaf; node >= 0; node = parent(node)) room = std::min(room, room_at(node, day));
    return room;
}

int64_t AccountTree::spendable(int32_t account, int32_t day) const {
    int64_t left = kUnbounded;
    for (int32_t node = account; node >= 0; node = parent(node)) {
        int64_t limit = own_limit(node);
        if (limit != kNoLimit) left = std::min(left, limit - totals_[node].used());
        int64_t daily = settings_[node].daily_micros;
        if (daily != kNoLimit) left = std::min(left, daily - day_totals(node, day).used());
        if (held(node)) left = std::min(left, allotted(node, day) - day_totals(node, day).used());
    }
    return std::max<int64_t>(left, 0);
}

Totals AccountTree::day_totals(int32_t account, int32_t day) const {
    const std::vector<DayTotals>& days = days_[account];
    for (auto entry = days.rbegin(); entry != days.rend(); ++entry) {
        if (entry->day == day) return entry->totals;
    }
    return Totals{};
}

int64_t AccountTree::in_force(int32_t account) const {
    int64_t least = kUnbounded;
    for (int32_t node = account; node >= 0; node = parent(node)) {
        if (own_limit(node) != kNoLimit) return in_force_[node];
    }
    return least;
}

int32_t AccountTree::first_violation() const {
    for (int32_t node = 0; node < size(); ++node) {
        if (!known_[node]) continue;
        const Totals& own = totals_[node];
        bool negative = own.billed < 0 || own.won < 0 || own.reserved < 0 || own.unused < 0;
        if (negative || own.committed() > in_force(node)) return node;
        if (held(node)) {
            for (const Allotment& own : allotments_[node]) {
                if (day_totals(node, own.day).committed() > own.micros) return node;
            }
        }
        if (settings_[node].daily_micros == kNoLimit) continue;
        for (const DayTotals& entry : days_[node]) {
            if (entry.totals.committed() > entry.in_force) return node;
        }
    }
    return -1;
}

void AccountTree::restate_in_force() {
    for (int32_t node = 0; node < size(); ++node) {
        if (known_[node]) put(node, AccountSettings(settings_[node]));
    }
}

DayTotals& AccountTree::day_entry(int32_t account, int32_t day) {
    std::vector<DayTotals>& days = days_[account];
    for (auto entry = days.rbegin(); entry != days.rend(); ++entry) {
        if (entry->day == day) return *entry;
    }
    days.push_back(DayTotals{day, Totals{}, settings_[account].daily_micros});
    return days.back();
}

void AccountTree::lower_in_force(int32_t account) {
    int64_t limit = own_limit(account);
    if (in_force_[account] > limit) {
        in_force_[account] = std::max(limit, std::min(in_force_[account], totals_[account].committed()));
    }
}

}  // namespace headrace

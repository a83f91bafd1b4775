// The account tree: advertiser -> campaign -> line item, as arrays indexed by account number.
#pragma once

#include <cstdint>
#include <vector>

#include "headrace/money.hpp"

namespace headrace {

constexpr int64_t kNoLimit = -1;

enum class Mode : int8_t { kInherit = 0, kHold = 1, kExpire = 2 };

// Where the committed money of a node is. Held money whose reservation is not known singly counts as reserved.
struct Totals {
    int64_t billed = 0;
    int64_t won = 0;
    int64_t reserved = 0;
    int64_t unused = 0;

    int64_t committed() const { return billed + won + reserved + unused; }
    int64_t used() const { return billed + won + reserved; }
    void add(const Totals& delta);
};

struct DayTotals {
    int32_t day = 0;
    Totals totals;
    int64_t in_force = 0;  // the daily limit in force; meaningless without a daily limit
};

// What a leaf may commit on one budget day, where an authority outside says so.
struct Allotment {
    int32_t day = 0;
    int64_t micros = 0;
};

struct AccountSettings {
    int32_t parent = -1;
    int64_t lifetime_micros = kNoLimit;
    int64_t daily_micros = kNoLimit;
    int64_t flight_start_ms = 0;
    int64_t flight_end_ms = 0;  // 0: open
    int32_t zone = -1;          // -1: the parent's
    Mode mode = Mode::kInherit;
    int64_t expire_after_ms = 0;  // 0: the parent's
};

// One time zone's present local day: [start_ms, end_ms) carries the number `day`.
struct ZoneDay {
    int32_t day = 0;
    int64_t start_ms = 0;
    int64_t end_ms = 0;
};

class AccountTree {
   public:
    // Creates the account or replaces its settings; a limit below what is committed becomes what is committed.
    void put(int32_t account, const AccountSettings& settings);
    void set_balance(int32_t root, int64_t balance_micros);
    void set_zone_day(int32_t zone, const ZoneDay& day);
    // From now on a leaf commits on a budget day what is allotted to it there, beside its limits; at first nothing.
    void hold_to_allotments();
    // Never below what is committed; returns what is in force.
    int64_t set_allotment(int32_t leaf, int32_t day, int64_t micros);
    int64_t allotted(int32_t leaf, int32_t day) const;

    int32_t size() const { return static_cast<int32_t>(settings_.size()); }
    bool known(int64_t account) const { return account >= 0 && account < size() && known_[account]; }
    bool is_leaf(int32_t account) const { return depth(account) == 2; }
    int32_t parent(int32_t account) const { return settings_[account].parent; }
    int32_t root(int32_t account) const;
    int32_t depth(int32_t account) const;
    bool below(int32_t account, int32_t ancestor) const;
    const ZoneDay& today(int32_t account) const;
    bool expires(int32_t account) const;
    int64_t expire_after(int32_t account) const;  // 0: nowhere said
    bool in_flight(int32_t leaf, int64_t now_ms) const;

    // Moves money of a leaf along its whole path.
    void move(int32_t leaf, int32_t day, const Totals& delta);
    void move_late(int32_t leaf, int64_t micros);
    void move_disputed(int32_t leaf, int64_t micros);
    // Whether late and disputed money can be counted with so much more of it.
    bool can_count(int32_t leaf, int64_t micros) const;

    // What may still be granted to the leaf: the least of its path; negative after a cut.
    int64_t room(int32_t leaf, int32_t day) const;
    int64_t room_at(int32_t account, int32_t day) const;
    // What may still be reserved, unused leases of others included.
    int64_t spendable(int32_t account, int32_t day) const;

    const Totals& totals(int32_t account) const { return totals_[account]; }
    Totals day_totals(int32_t account, int32_t day) const;
    int64_t in_force(int32_t account) const;
    int64_t late(int32_t account) const { return late_[account]; }
    int64_t disputed(int32_t account) const { return disputed_[account]; }
    const std::vector<DayTotals>& days(int32_t account) const { return days_[account]; }
    int64_t own_limit(int32_t account) const;
    int64_t daily_limit(int32_t account) const { return settings_[account].daily_micros; }
    // The first node where the money inequality does not hold, or -1.
    int32_t first_violation() const;
    // After a replay: what is committed beyond a limit was committed before the limit was cut.
    void restate_in_force();

   private:
    bool held(int32_t account) const { return held_ && is_leaf(account); }
    DayTotals& day_entry(int32_t account, int32_t day);
    void lower_in_force(int32_t account);

    std::vector<char> known_;
    std::vector<AccountSettings> settings_;
    std::vector<int64_t> balance_;
    std::vector<Totals> totals_;
    std::vector<int64_t> in_force_;
    std::vector<int64_t> late_;
    std::vector<int64_t> disputed_;
    std::vector<std::vector<DayTotals>> days_;
    std::vector<std::vector<Allotment>> allotments_;
    bool held_ = false;
    std::vector<ZoneDay> zones_ = {ZoneDay{}};
};

}  // namespace headrace

// The money ledger: one account tree, its leases and its reservations. Thread-safe: every call takes one mutex.
//
// Nothing here writes the journal. Calls append records, in the order in which they took effect; the owner takes them
// (take_records), commits them, and then says so (activate, confirm). Money that a settlement or an expiry sets free
// may be used again only after its commit.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "headrace/accounts.hpp"
#include "headrace/leases.hpp"
#include "headrace/records.hpp"
#include "headrace/reservations.hpp"

namespace headrace {

enum class Reason : int8_t {
    kOk = 0,
    kBudget = 1,
    kBrake = 2,
    kJournalUnavailable = 3,
    kNotOwner = 4,
    kFenced = 5,
    kMaxBid = 6,
    kNeedLease = 7,  // never leaves the engine: plan a lease, then ask again
    kAuthority = 8,  // whoever allots the money is not reached
};

enum class NoticeKind : int8_t { kWin = 1, kBilling = 2, kLoss = 3, kCloseLost = 4, kCloseBilled = 5 };

enum class Outcome : int8_t {
    kAccepted = 1,
    kDuplicate = 2,
    kLate = 3,
    kDisputed = 4,
    kForged = 5,
    kConflict = 6,
    kRefused = 7,
};

struct Notice {
    NoticeKind kind;
    int32_t account;
    int64_t lease;
    uint32_t serial;
    int32_t day;
    int64_t cpm;    // reserved
    int64_t price;  // CPM; -1: not known
    uint16_t exchange = 0;  // as in records
};

struct LedgerOptions {
    int64_t lease_share = 8;          // a lease is this part of what is left
    int64_t lease_max_micros = 20'000'000;
    int64_t max_bid_cpm_micros = 0;   // 0: none
    int64_t max_micros_per_minute = 0;  // of one advertiser's wins; 0: no breaker
    int64_t expire_after_ms = 3'600'000;  // in expire mode, where no account says more
};

struct ReserveBatch {
    size_t n;
    const int32_t* accounts;
    const int64_t* cpm;
    const int32_t* exchanges;  // the brake's number, and above its 16 bits what records say of the exchange
    int8_t* reasons;   // only rows that hold kNeedLease are worked on
    int64_t* leases;
    int64_t* serials;
    int32_t* days;
};

struct AccountReport {
    Totals totals;
    int64_t in_force;
    int64_t late;
    int64_t disputed;
    int64_t stranded;
};

struct AllottedBooks {
    int64_t allotted;
    int64_t committed;
    int64_t used;
    int64_t billed;
};

struct LeafDay {
    int32_t leaf;
    int32_t day;
    int64_t committed;
};

class Ledger {
   public:
    explicit Ledger(const LedgerOptions& options) : options_(options) {}

    // -- settings
    void put_account(int32_t account, const AccountSettings& settings, int64_t balance_micros);
    void set_zone_day(int32_t zone, const ZoneDay& day);
    void set_brake_all(bool engaged);
    void set_brake_exchange(int32_t exchange, bool engaged);
    void set_brake_advertiser(int32_t root, bool engaged);
    void set_closed(Reason reason);  // kOk: open; otherwise every reserve answers the reason
    void freeze();                   // from now on nothing changes: no slot, no state, no record
    // From now on leaves commit what is allotted to them only.
    void hold_to_allotments();
    // Row i of micros comes back as what is in force: never below what is committed.
    void set_allotments(size_t n, const int32_t* leaves, const int32_t* days, int64_t* micros);
    // Closes the leaves' leases of these days and lowers what is allotted to what is committed then. It may be told to
    // others once the journal's records so far are committed.
    void give_back(size_t n, const int32_t* leaves, const int32_t* days);
    AllottedBooks allotted_books(int32_t leaf, int32_t day);
    std::vector<LeafDay> leaf_days();
    // Advertisers that the spend-rate breaker stopped since the last call.
    std::vector<int32_t> take_tripped();

    // -- reserve
    // What to do next: 0 nothing, 1 plan leases ahead of use, 2 some rows wait for a lease.
    // now_ms: what the requests say; issued_ms: our own time, from which a reservation expires.
    int reserve(const ReserveBatch& batch, int64_t now_ms, int64_t issued_ms);
    std::vector<int64_t> plan(int64_t now_ms, int64_t first_lease_id);
    void activate(const std::vector<int64_t>& leases);
    // Gives back bids that never left the process, as lost; a ticket when some of that must be committed first, else 0.
    int64_t release(size_t n, const int64_t* leases, const int64_t* serials, int64_t now_ms);
    // Closes all leases below an account; their unused money goes back.
    void recall(int32_t account);
    // Closes leases of days that are over.
    void recall_stale();

    // -- settle
    int64_t settle(const std::vector<Notice>& notices, int64_t now_ms, int8_t* outcomes);  // a ticket for confirm
    int64_t expire(int64_t now_ms);
    void confirm(int64_t ticket);
    bool close_pool(int64_t lease);

    // -- journal
    std::string take_records();
    void replay(const char* bytes, size_t size);
    // Ends a replay: adopts the slots of a trusted file, makes the rest whole-lease commitments, closes all leases.
    void finish_replay(const std::vector<Slot>& open, bool trusted, int64_t now_ms);
    // Ends a replay that is only read: budgets in force are those of the owner.
    void restate_in_force();
    void attach(const std::string& path, const ReservationHeader& header);
    void mark_committed(int64_t sequence);
    // Before a drain: makes every open reservation known to the journal.
    void record_open();
    // The records not taken yet, and the whole state after them as records; what forgotten leases billed is in its
    // bases.
    std::pair<std::string, std::string> snapshot();
    // Leases granted before a moment that only a contradicting notice could still change.
    std::vector<int64_t> retirable(int64_t before_ms);
    std::string lease_records(int64_t lease);
    void forget(const std::vector<int64_t>& leases);
    // Brings a forgotten lease back; its money is in the totals already.
    void restore(const char* bytes, size_t size);
    bool has_lease(int64_t lease);
    // Whether a lease was named since the last call that nobody granted.
    bool take_unknown_lease();

    // -- reports
    int64_t spendable(int32_t account, int64_t now_ms);
    int64_t spent(int32_t account, bool today);
    // By account number.
    std::vector<AccountReport> reports(int64_t stranded_before_ms);
    int32_t first_violation();
    int64_t last_lease();
    int64_t open_reservations();

   private:
    struct Release {
        int64_t lease;
        uint32_t slot;
        int64_t micros;
    };
    struct Need {
        int64_t most = 0;
        int64_t sum = 0;
        int64_t hint = 0;  // nobody waits: a lease runs low; the size of its last reservation
    };

    Lease* find(int64_t id);

    Reason refuse(int32_t account, int64_t cpm, int32_t exchange, int64_t now_ms) const;
    Reason take(int32_t account, int64_t cpm, int32_t exchange, int64_t issued_ms, const Lease** used, int64_t* serial);
    Lease* usable(int32_t account, int64_t micros, int32_t day);
    void close(Lease& lease);
    bool grant(int32_t account, const Need& need, int64_t id, int64_t now_ms);
    bool make_room(int32_t account, int32_t day, int64_t micros);
    void close_own(int32_t account);
    void close_beyond(int32_t account);

    Outcome settle_one(const Notice& notice, int64_t now_ms, std::vector<Release>& releases);
    Lease& lease_of(const Notice& notice);
    State backing(Lease& lease, const Slot& claimed);
    void turn(Lease& lease, const Notice& notice, State from, State to, std::vector<Release>& releases);
    void leave(Lease& lease, const Notice& notice, State from, uint32_t slot, Totals& delta);
    int64_t enter(Lease& lease, const Notice& notice, State to, uint32_t slot, Totals& delta);
    void count_spend(int32_t account, int64_t micros, int64_t now_ms);
    void free_money(const Release& release);
    void expire_lease(Lease& lease, int64_t now_ms, int64_t after_ms, std::vector<Release>& releases);
    int64_t remember(std::vector<Release>&& releases);
    void give_back_pool(Lease& lease);

    void replay_one(const Record& record, bool counted);
    void check_settle(const Record& record, const Lease& lease, State from) const;
    void replay_settle(const Record& record);
    void replay_close(const Record& record);
    void adopt_slots(const std::vector<Slot>& open);
    void write_lease(const Lease& lease, RecordLog& log) const;
    void write_states(const Lease& lease, RecordLog& log) const;
    void write_open(const Lease& lease, RecordLog& log) const;
    void write_held(const Lease& lease, RecordLog& log) const;
    void write_bases(RecordLog& log) const;
    void write_limits(int32_t account, RecordLog& log) const;
    Record settle_record(const Lease& lease, uint32_t serial, State state) const;
    void move(const Lease& lease, const Totals& delta);
    int64_t stranded_in(const Lease& lease, int64_t before_ms) const;

    std::mutex mutex_;
    LedgerOptions options_;
    AccountTree tree_;
    ReservationFile slots_;
    std::vector<int64_t> win_micros_;  // by slot: what a won token holds as won
    RecordLog log_;
    std::unordered_map<int64_t, Lease> leases_;
    Lease* last_found_ = nullptr;
    int64_t last_lease_ = 0;
    std::vector<Lease*> current_;  // by account
    std::vector<Lease*> standby_;
    std::unordered_map<int32_t, Need> needs_;
    std::unordered_map<int64_t, std::vector<Release>> tickets_;
    int64_t last_ticket_ = 0;
    std::unordered_map<int64_t, std::unordered_map<uint32_t, int64_t>> claims_;  // disputed micros of a token

    bool frozen_ = false;
    bool saw_unknown_ = false;
    Reason closed_ = Reason::kOk;
    bool brake_all_ = false;
    std::vector<char> brake_exchange_;
    std::vector<char> brake_advertiser_;
    struct Rate {
        int64_t minute = 0;
        int64_t micros = 0;
    };
    std::vector<Rate> rates_;  // by root account
    std::vector<int32_t> tripped_;
};

}  // namespace headrace

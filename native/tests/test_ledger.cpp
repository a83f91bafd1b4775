// The native ledger without Python: settlement, replay from its own records, the reservation file, and threads.
#include <unistd.h>

#include <fstream>
#include <random>
#include <string>
#include <thread>

#include "check.hpp"
#include "headrace/ledger.hpp"

using namespace headrace;

namespace {

constexpr int32_t kLeaf = 2;
constexpr int64_t kNow = 1'000;

void set_up(Ledger& ledger, int64_t balance) {
    AccountSettings root, campaign, line;
    campaign.parent = 0;
    line.parent = 1;
    ledger.put_account(0, root, balance);
    ledger.put_account(1, campaign, 0);
    ledger.put_account(kLeaf, line, 0);
    ledger.set_zone_day(0, ZoneDay{7, 0, 86'400'000});
}

struct Taken {
    std::vector<int8_t> reasons;
    std::vector<int64_t> leases, serials;
    std::vector<int32_t> days;
};

// Reserves n times; grants and activates leases as the owner would.
Taken reserve(Ledger& ledger, size_t n, int64_t cpm, std::string* journal = nullptr) {
    std::vector<int32_t> accounts(n, kLeaf), exchanges(n, 0);
    std::vector<int64_t> amounts(n, cpm);
    Taken taken{std::vector<int8_t>(n, static_cast<int8_t>(Reason::kNeedLease)), std::vector<int64_t>(n),
                std::vector<int64_t>(n), std::vector<int32_t>(n)};
    ReserveBatch batch{n,
                       accounts.data(),
                       amounts.data(),
                       exchanges.data(),
                       taken.reasons.data(),
                       taken.leases.data(),
                       taken.serials.data(),
                       taken.days.data()};
    for (int attempt = 0; attempt < 8 && ledger.reserve(batch, kNow, kNow) != 0; ++attempt) {
        std::vector<int64_t> granted = ledger.plan(kNow, 1);
        if (journal != nullptr) *journal += ledger.take_records();
        ledger.activate(granted);
    }
    return taken;
}

std::vector<Notice> notices(const Taken& taken, NoticeKind kind, int64_t cpm, int64_t price) {
    std::vector<Notice> made;
    for (size_t i = 0; i < taken.leases.size(); ++i) {
        if (taken.reasons[i] != 0) continue;
        made.push_back(
            Notice{kind, kLeaf, taken.leases[i], static_cast<uint32_t>(taken.serials[i]), taken.days[i], cpm, price});
    }
    return made;
}

std::vector<int8_t> settle(Ledger& ledger, const std::vector<Notice>& batch, std::string* journal = nullptr) {
    std::vector<int8_t> outcomes(batch.size());
    int64_t ticket = ledger.settle(batch, kNow, outcomes.data());
    if (journal != nullptr) *journal += ledger.take_records();
    ledger.confirm(ticket);
    return outcomes;
}

AccountReport leaf_of(Ledger& ledger) { return ledger.reports(0)[kLeaf]; }

void test_settles_and_rounds_once() {
    Ledger ledger{LedgerOptions{}};
    set_up(ledger, 1'000'000);
    Taken taken = reserve(ledger, 10, 100);
    CHECK(leaf_of(ledger).totals.reserved == 10);
    for (int8_t outcome : settle(ledger, notices(taken, NoticeKind::kBilling, 100, 100))) CHECK(outcome == 1);
    CHECK(leaf_of(ledger).totals.billed == 1);
    for (int8_t outcome : settle(ledger, notices(taken, NoticeKind::kBilling, 100, 100))) CHECK(outcome == 2);
    CHECK(ledger.first_violation() == -1);
}

void test_money_set_free_waits_for_its_commit() {
    Ledger ledger{LedgerOptions{}};
    set_up(ledger, 100);
    Taken taken = reserve(ledger, 100, 1'000);
    std::vector<Notice> losses = notices(taken, NoticeKind::kLoss, 1'000, -1);
    CHECK(losses.size() == 100);
    std::vector<int8_t> outcomes(losses.size());
    int64_t ticket = ledger.settle(losses, kNow, outcomes.data());
    CHECK(reserve(ledger, 1, 1'000).reasons[0] == static_cast<int8_t>(Reason::kBudget));
    ledger.confirm(ticket);
    CHECK(reserve(ledger, 1, 1'000).reasons[0] == 0);
    CHECK(ledger.first_violation() == -1);
}

void test_a_lease_stays_while_a_release_of_nothing_waits() {
    Ledger ledger{LedgerOptions{}};
    set_up(ledger, 16);
    Taken taken = reserve(ledger, 1, 1'000);
    ledger.recall(0);
    std::vector<Notice> bill = notices(taken, NoticeKind::kBilling, 1'000, 1'000);
    int8_t outcome = 0;
    int64_t ticket = ledger.settle(bill, kNow, &outcome);
    CHECK(ledger.retirable(kNow + 1).empty());
    ledger.forget(ledger.retirable(kNow + 1));
    ledger.confirm(ticket);
    CHECK(ledger.retirable(kNow + 1).size() == 1);
}

// Half a byte an entry, and nothing that is seen from outside differs.
void test_entries_of_a_finished_lease_are_packed() {
    Entries entries;
    for (uint32_t serial = 0; serial < 9; ++serial) {
        entries.push_back(serial == 4 ? Entry::held(State::kWon, 77) : Entry::settled(static_cast<State>(serial)));
    }
    entries.pack();
    CHECK(!entries.packed() && entries[4].slot() == 77);
    for (State state : {State::kReserved, State::kWon, State::kDisputed, State::kBilled}) {
        entries.set(static_cast<size_t>(state), Entry::settled(State::kLate));
    }
    entries.pack();
    CHECK(entries.packed() && entries.size() == 9);
    CHECK(entries[0].state() == State::kAbsent && entries[8].state() == State::kLostDisputed);
    CHECK(entries[3].state() == State::kLate && entries[6].state() == State::kExpired);
    entries.set(10, Entry::held(State::kReserved, 5));
    CHECK(!entries.packed() && entries.size() == 11 && entries[10].slot() == 5);
    CHECK(entries[9].state() == State::kAbsent && entries[7].state() == State::kLate);

    Ledger ledger{LedgerOptions{}};
    set_up(ledger, 1'000'000);
    Taken taken = reserve(ledger, 33, 1'000);
    std::vector<Notice> bills = notices(taken, NoticeKind::kBilling, 1'000, 1'000);
    std::vector<Notice> first(bills.begin(), bills.begin() + 20);
    settle(ledger, first);
    ledger.recall(0);
    ledger.confirm(ledger.expire(kNow));
    settle(ledger, notices(taken, NoticeKind::kLoss, 1'000, -1));
    std::string before = ledger.lease_records(taken.leases[0]);
    ledger.confirm(ledger.expire(kNow));  // packs
    CHECK(ledger.lease_records(taken.leases[0]) == before);
    for (int8_t outcome : settle(ledger, first)) CHECK(outcome == 2);
    CHECK(leaf_of(ledger).totals.billed == 20 && ledger.first_violation() == -1);
}

void test_a_frozen_ledger_writes_nothing() {
    Ledger ledger{LedgerOptions{}};
    set_up(ledger, 100'000);
    reserve(ledger, 3, 1'000);
    ledger.recall(0);
    ledger.freeze();
    ledger.set_closed(Reason::kOk);
    CHECK(ledger.take_records().empty());
    CHECK(reserve(ledger, 1, 1'000).reasons[0] == static_cast<int8_t>(Reason::kJournalUnavailable));
}

void test_replays_its_own_records() {
    std::mt19937 random(7);
    Ledger ledger{LedgerOptions{}};
    set_up(ledger, 100'000);
    std::string journal;
    for (int round = 0; round < 200; ++round) {
        int64_t cpm = 1 + static_cast<int64_t>(random() % 5'000);
        Taken taken = reserve(ledger, 1 + random() % 20, cpm, &journal);
        auto kind = static_cast<NoticeKind>(1 + random() % 3);
        settle(ledger, notices(taken, kind, cpm, static_cast<int64_t>(random() % (cpm + cpm / 8 + 1))), &journal);
        CHECK(ledger.first_violation() == -1);
    }
    ledger.recall(0);
    ledger.record_open();
    auto [rest, state] = ledger.snapshot();
    journal += rest;
    for (const std::string& records : {journal, state}) {
        Ledger again{LedgerOptions{}};
        set_up(again, 100'000);
        again.replay(records.data(), records.size());
        again.finish_replay({}, false, kNow);
        AccountReport was = leaf_of(ledger), is = leaf_of(again);
        CHECK(was.totals.billed == is.totals.billed && was.totals.won == is.totals.won);
        CHECK(was.totals.reserved == is.totals.reserved && is.totals.unused == 0);
        CHECK(was.late == is.late && was.disputed == is.disputed);
        CHECK(again.first_violation() == -1);
    }
}

void test_refuses_a_torn_journal() {
    Ledger ledger{LedgerOptions{}};
    set_up(ledger, 100);
    bool thrown = false;
    try {
        ledger.replay("short", 5);
    } catch (const std::invalid_argument&) {
        thrown = true;
    }
    CHECK(thrown);
}

void test_reservation_file() {
    std::string path = "/tmp/headrace_reservations." + std::to_string(getpid());
    CHECK(!ReservationFile::read(path).readable);
    {
        ReservationFile file;
        file.put(1, 0, 7, 500, kNow);
        ReservationHeader header;
        header.epoch = 3;
        file.attach(path, header);
        for (uint32_t serial = 1; serial < 10'000; ++serial) CHECK(file.put(1, serial, 7, 500, kNow) >= 0);
        file.clear(17);
        file.mark_committed(99);
    }
    ReservationImage image = ReservationFile::read(path);
    CHECK(image.readable && image.open.size() == 9'999 && image.header.epoch == 3 && image.header.sequence == 99);
    {
        std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(sizeof(ReservationHeader) + sizeof(Slot) * 5 + 9);
        file.put('x');
    }
    CHECK(!ReservationFile::read(path).readable);
    truncate(path.c_str(), 20);
    CHECK(!ReservationFile::read(path).readable);
    unlink(path.c_str());
}

void test_overflow_is_an_error() {
    bool thrown = false;
    try {
        checked_add(INT64_MAX, 1);
    } catch (const std::overflow_error&) {
        thrown = true;
    }
    CHECK(thrown);
    CHECK(ceil_micros(INT64_MAX) == INT64_MAX / 1000 + 1);
}

void test_threads() {
    Ledger ledger{LedgerOptions{}};
    set_up(ledger, 1'000'000'000);
    std::vector<std::thread> threads;
    for (int worker = 0; worker < 4; ++worker) {
        threads.emplace_back([&ledger] {
            for (int round = 0; round < 50; ++round) {
                Taken taken = reserve(ledger, 20, 2'000);
                settle(ledger, notices(taken, NoticeKind::kBilling, 2'000, 1'500));
                ledger.spendable(kLeaf, kNow);
                ledger.take_records();
            }
        });
    }
    threads.emplace_back([&ledger] {
        for (int round = 0; round < 50; ++round) {
            ledger.recall(0);
            ledger.confirm(ledger.expire(kNow));
            ledger.snapshot();
            ledger.reports(0);
            ledger.set_brake_exchange(1 + round, true);
            ledger.set_zone_day(1, ZoneDay{round, 0, 86'400'000});
            ledger.forget(ledger.retirable(0));
            CHECK(ledger.first_violation() == -1);
        }
    });
    for (std::thread& thread : threads) thread.join();
    CHECK(ledger.first_violation() == -1);
    CHECK(leaf_of(ledger).totals.reserved == 0);
}

}  // namespace

int main() {
    test_settles_and_rounds_once();
    test_money_set_free_waits_for_its_commit();
    test_a_lease_stays_while_a_release_of_nothing_waits();
    test_entries_of_a_finished_lease_are_packed();
    test_a_frozen_ledger_writes_nothing();
    test_replays_its_own_records();
    test_refuses_a_torn_journal();
    test_reservation_file();
    test_overflow_is_an_error();
    test_threads();
    std::puts("native ledger: all checks hold");
}

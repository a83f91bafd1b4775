// The Python face of the ledger: checks shapes and dtypes, lets the GIL go, calls, converts.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "arrays.hpp"
#include "bindings.hpp"
#include "headrace/ledger.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace headrace {
namespace {

using Unlocked = nb::call_guard<nb::gil_scoped_release>;

template <typename Column>
void check_rows(const Column& array, size_t n) {
    if (array.shape(0) != n) throw std::invalid_argument("arrays of one batch differ in length");
}

void put_account(Ledger& ledger, int32_t account, int32_t parent, const std::vector<int64_t>& limits,
                 const std::vector<int64_t>& flight, int32_t zone, int8_t mode, int64_t expire_after_ms) {
    if (limits.size() != 3 || flight.size() != 2) throw std::invalid_argument("limits: 3 numbers; flight: 2 numbers");
    AccountSettings settings;
    settings.parent = parent;
    settings.lifetime_micros = limits[0];
    settings.daily_micros = limits[1];
    settings.flight_start_ms = flight[0];
    settings.flight_end_ms = flight[1];
    settings.zone = zone;
    settings.mode = static_cast<Mode>(mode);
    settings.expire_after_ms = expire_after_ms;
    ledger.put_account(account, settings, limits[2]);
}

int reserve(Ledger& ledger, In<int32_t> accounts, In<int64_t> cpm, In<int32_t> exchanges, int64_t now_ms,
            int64_t issued_ms, Array<int8_t> reasons, Array<int64_t> leases, Array<int64_t> serials, Array<int32_t> days) {
    size_t n = accounts.shape(0);
    check_rows(cpm, n);
    check_rows(exchanges, n);
    check_rows(reasons, n);
    check_rows(leases, n);
    check_rows(serials, n);
    check_rows(days, n);
    ReserveBatch batch{n,           accounts.data(), cpm.data(),     exchanges.data(), reasons.data(),
                       leases.data(), serials.data(),  days.data()};
    nb::gil_scoped_release unlocked;
    return ledger.reserve(batch, now_ms, issued_ms);
}

int64_t settle(Ledger& ledger, In<int8_t> kinds, In<int32_t> accounts, In<int64_t> leases, In<int64_t> serials,
               In<int32_t> days, In<int64_t> cpm, In<int64_t> prices, In<uint16_t> exchanges, int64_t now_ms, Array<int8_t> outcomes) {
    size_t n = kinds.shape(0);
    check_rows(accounts, n);
    check_rows(leases, n);
    check_rows(serials, n);
    check_rows(days, n);
    check_rows(cpm, n);
    check_rows(prices, n);
    check_rows(exchanges, n);
    check_rows(outcomes, n);
    nb::gil_scoped_release unlocked;
    std::vector<Notice> notices(n);
    for (size_t i = 0; i < n; ++i) {
        notices[i] = Notice{static_cast<NoticeKind>(kinds.data()[i]), accounts.data()[i], leases.data()[i],
                            static_cast<uint32_t>(serials.data()[i]), days.data()[i], cpm.data()[i], prices.data()[i],
                            exchanges.data()[i]};
    }
    return ledger.settle(notices, now_ms, outcomes.data());
}

int64_t release(Ledger& ledger, In<int64_t> leases, In<int64_t> serials, int64_t now_ms) {
    check_rows(serials, leases.shape(0));
    nb::gil_scoped_release unlocked;
    return ledger.release(leases.shape(0), leases.data(), serials.data(), now_ms);
}

void spendable(Ledger& ledger, In<int32_t> accounts, int64_t now_ms, Array<int64_t> out) {
    check_rows(out, accounts.shape(0));
    nb::gil_scoped_release unlocked;
    for (size_t i = 0; i < accounts.shape(0); ++i) out.data()[i] = ledger.spendable(accounts.data()[i], now_ms);
}

void spent(Ledger& ledger, In<int32_t> accounts, bool today, Array<int64_t> out) {
    check_rows(out, accounts.shape(0));
    nb::gil_scoped_release unlocked;
    for (size_t i = 0; i < accounts.shape(0); ++i) out.data()[i] = ledger.spent(accounts.data()[i], today);
}

void set_allotments(Ledger& ledger, In<int32_t> leaves, In<int32_t> days, Array<int64_t> micros) {
    check_rows(days, leaves.shape(0));
    check_rows(micros, leaves.shape(0));
    nb::gil_scoped_release unlocked;
    ledger.set_allotments(leaves.shape(0), leaves.data(), days.data(), micros.data());
}

void give_back(Ledger& ledger, In<int32_t> leaves, In<int32_t> days) {
    check_rows(days, leaves.shape(0));
    nb::gil_scoped_release unlocked;
    ledger.give_back(leaves.shape(0), leaves.data(), days.data());
}

// Rows of (allotted, committed, used, billed), flat.
Array<int64_t> allotted_books(Ledger& ledger, In<int32_t> leaves, In<int32_t> days) {
    check_rows(days, leaves.shape(0));
    std::vector<int64_t> flat;
    for (size_t i = 0; i < leaves.shape(0); ++i) {
        AllottedBooks row = ledger.allotted_books(leaves.data()[i], days.data()[i]);
        flat.insert(flat.end(), {row.allotted, row.committed, row.used, row.billed});
    }
    return numpy_of(std::move(flat));
}

// Rows of (leaf, day, committed) of all that is committed, flat.
Array<int64_t> leaf_days(Ledger& ledger) {
    std::vector<int64_t> flat;
    for (const LeafDay& row : ledger.leaf_days()) flat.insert(flat.end(), {row.leaf, row.day, row.committed});
    return numpy_of(std::move(flat));
}

nb::bytes bytes_of(const std::string& text) { return nb::bytes(text.data(), text.size()); }

nb::bytes take_records(Ledger& ledger) { return bytes_of(ledger.take_records()); }
nb::tuple snapshot(Ledger& ledger) {
    std::pair<std::string, std::string> taken;
    {
        nb::gil_scoped_release unlocked;
        taken = ledger.snapshot();
    }
    auto& [records, state] = taken;
    return nb::make_tuple(bytes_of(records), bytes_of(state));
}

nb::bytes lease_records(Ledger& ledger, int64_t lease) { return bytes_of(ledger.lease_records(lease)); }

void replay(Ledger& ledger, nb::bytes records) {
    const char* data = records.c_str();
    size_t size = records.size();
    nb::gil_scoped_release unlocked;
    ledger.replay(data, size);
}

void restore(Ledger& ledger, nb::bytes records) { ledger.restore(records.c_str(), records.size()); }

// Rows of (billed, won, reserved, unused, budget in force, late, disputed, stranded) by account number, flat.
Array<int64_t> reports(Ledger& ledger, int64_t stranded_before_ms) {
    std::vector<int64_t> flat;
    std::vector<AccountReport> rows;
    {
        nb::gil_scoped_release unlocked;
        rows = ledger.reports(stranded_before_ms);
    }
    for (const AccountReport& report : rows) {
        const Totals& totals = report.totals;
        flat.insert(flat.end(), {totals.billed, totals.won, totals.reserved, totals.unused, report.in_force, report.late,
                                 report.disputed, report.stranded});
    }
    return numpy_of(std::move(flat));
}

void attach(Ledger& ledger, const std::string& path, int64_t epoch, uint64_t ledger_id, uint64_t boot, int64_t sequence) {
    ReservationHeader header;
    header.epoch = epoch;
    header.ledger = ledger_id;
    header.boot = boot;
    header.sequence = sequence;
    ledger.attach(path, header);
}

}  // namespace

void bind_ledger(nb::module_& m) {
    nb::class_<ReservationImage>(m, "ReservationImage")
        .def_ro("readable", &ReservationImage::readable)
        .def_prop_ro("epoch", [](const ReservationImage& image) { return image.header.epoch; })
        .def_prop_ro("ledger", [](const ReservationImage& image) { return image.header.ledger; })
        .def_prop_ro("boot", [](const ReservationImage& image) { return image.header.boot; })
        .def_prop_ro("sequence", [](const ReservationImage& image) { return image.header.sequence; })
        .def("__len__", [](const ReservationImage& image) { return image.open.size(); });
    m.def("read_reservations", &ReservationFile::read, "path"_a);

    nb::class_<Ledger>(m, "Ledger")
        .def(
            "__init__",
            [](Ledger* self, int64_t lease_share, int64_t lease_max_micros, int64_t max_bid_cpm_micros,
               int64_t max_micros_per_minute, int64_t expire_after_ms) {
                new (self) Ledger(LedgerOptions{lease_share, lease_max_micros, max_bid_cpm_micros, max_micros_per_minute,
                                                expire_after_ms});
            },
            "lease_share"_a, "lease_max_micros"_a, "max_bid_cpm_micros"_a, "max_micros_per_minute"_a,
            "expire_after_ms"_a)
        .def("put_account", &put_account, "account"_a, "parent"_a, "limits"_a, "flight"_a, "zone"_a, "mode"_a,
             "expire_after_ms"_a)
        .def(
            "set_zone_day",
            [](Ledger& self, int32_t zone, int32_t day, int64_t start_ms, int64_t end_ms) {
                self.set_zone_day(zone, ZoneDay{day, start_ms, end_ms});
            },
            "zone"_a, "day"_a, "start_ms"_a, "end_ms"_a)
        .def("set_brake_all", &Ledger::set_brake_all, "engaged"_a)
        .def("set_brake_exchange", &Ledger::set_brake_exchange, "exchange"_a, "engaged"_a)
        .def("set_brake_advertiser", &Ledger::set_brake_advertiser, "account"_a, "engaged"_a)
        .def(
            "set_closed", [](Ledger& self, int8_t reason) { self.set_closed(static_cast<Reason>(reason)); }, "reason"_a)
        .def("hold_to_allotments", &Ledger::hold_to_allotments)
        .def("set_allotments", &set_allotments, "leaves"_a.noconvert(), "days"_a.noconvert(), "micros"_a.noconvert())
        .def("give_back", &give_back, "leaves"_a.noconvert(), "days"_a.noconvert())
        .def("allotted_books", &allotted_books, "leaves"_a.noconvert(), "days"_a.noconvert())
        .def("leaf_days", &leaf_days)
        .def("freeze", &Ledger::freeze)
        .def("take_tripped", &Ledger::take_tripped)
        .def("reserve", &reserve, "accounts"_a.noconvert(), "cpm"_a.noconvert(), "exchanges"_a.noconvert(), "now_ms"_a,
             "issued_ms"_a, "reasons"_a.noconvert(), "leases"_a.noconvert(), "serials"_a.noconvert(), "days"_a.noconvert())
        .def("plan", &Ledger::plan, "now_ms"_a, "first_lease_id"_a, Unlocked())
        .def("activate", &Ledger::activate, "leases"_a)
        .def("release", &release, "leases"_a.noconvert(), "serials"_a.noconvert(), "now_ms"_a)
        .def("recall", &Ledger::recall, "account"_a)
        .def("recall_stale", &Ledger::recall_stale)
        .def("settle", &settle, "kinds"_a.noconvert(), "accounts"_a.noconvert(), "leases"_a.noconvert(),
             "serials"_a.noconvert(), "days"_a.noconvert(), "cpm"_a.noconvert(), "prices"_a.noconvert(),
             "exchanges"_a.noconvert(), "now_ms"_a, "outcomes"_a.noconvert())
        .def("expire", &Ledger::expire, "now_ms"_a, Unlocked())
        .def("confirm", &Ledger::confirm, "ticket"_a, Unlocked())
        .def("close_pool", &Ledger::close_pool, "lease"_a)
        .def("take_records", &take_records)
        .def("replay", &replay, "records"_a)
        .def(
            "finish_replay",
            [](Ledger& self, const ReservationImage& image, bool trusted, int64_t now_ms) {
                self.finish_replay(image.open, trusted, now_ms);
            },
            "image"_a, "trusted"_a, "now_ms"_a, Unlocked())
        .def("restate_in_force", &Ledger::restate_in_force, Unlocked())
        .def("attach", &attach, "path"_a, "epoch"_a, "ledger_id"_a, "boot"_a, "sequence"_a, Unlocked())
        .def("mark_committed", &Ledger::mark_committed, "sequence"_a)
        .def("record_open", &Ledger::record_open, Unlocked())
        .def("snapshot", &snapshot)
        .def("retirable", &Ledger::retirable, "before_ms"_a, Unlocked())
        .def("lease_records", &lease_records, "lease"_a)
        .def("forget", &Ledger::forget, "leases"_a)
        .def("restore", &restore, "records"_a)
        .def("has_lease", &Ledger::has_lease, "lease"_a)
        .def("take_unknown_lease", &Ledger::take_unknown_lease)
        .def("spendable", &spendable, "accounts"_a.noconvert(), "now_ms"_a, "out"_a.noconvert())
        .def("spent", &spent, "accounts"_a.noconvert(), "today"_a, "out"_a.noconvert())
        .def("reports", &reports, "stranded_before_ms"_a)
        .def("first_violation", &Ledger::first_violation, Unlocked())
        .def("last_lease", &Ledger::last_lease)
        .def("open_reservations", &Ledger::open_reservations);
}

}  // namespace headrace

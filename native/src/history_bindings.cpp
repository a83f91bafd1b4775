// The Python face of histories: checks shapes and ranges, lets the GIL go, calls.
#include <nanobind/nanobind.h>

#include "arrays.hpp"
#include "bindings.hpp"
#include "headrace/history.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace headrace {
namespace {

void check(bool fits) {
    if (!fits) throw std::invalid_argument("arrays of histories do not fit each other");
}

// Columns of entries, of which some stretches are read.
struct Columns {
    HistoryEntries entries;
    size_t size, n_rows, n_types;

    Columns(const In<int32_t>& rows, const In<int8_t>& types, const In<float>& values, const In<int64_t>& times_ms,
            size_t n_rows, size_t n_types)
        : entries{rows.data(), types.data(), values.data(), times_ms.data()}, size(rows.shape(0)), n_rows(n_rows),
          n_types(n_types) {
        check(types.shape(0) == size && values.shape(0) == size && times_ms.shape(0) == size);
    }

    size_t checked(int64_t first, int64_t n) const {
        check(first >= 0 && n >= 0 && static_cast<size_t>(first) + static_cast<size_t>(n) <= size);
        for (int64_t p = first; p < first + n; ++p) {
            check(entries.rows[p] >= 0 && static_cast<size_t>(entries.rows[p]) < n_rows);
            check(entries.types[p] >= 0 && static_cast<size_t>(entries.types[p]) < n_types);
        }
        return static_cast<size_t>(n);
    }
};

void gather_all(In<int64_t> known_indptr, In<int32_t> known_rows, In<int8_t> known_types, In<float> known_weights,
                In<int64_t> known_times_ms, In<int64_t> start, In<int32_t> length, In<int32_t> rows, In<int8_t> types,
                In<float> counts, In<int64_t> times_ms, In<int32_t> users, In<int32_t> slots, In<float> type_weights,
                Out<int32_t> where, Out<int64_t> indptr, Out<int32_t> out_rows, Out<float> out_weights,
                Out<float> n_bought, Out<int64_t> last_ms, Out<int64_t> last_bought_ms, Out<float> n_events,
                Out<int64_t> last_event_ms) {
    const size_t n = users.shape(0), size = out_rows.shape(0), n_rows = where.shape(0), n_types = type_weights.shape(0);
    check(slots.shape(0) == n && indptr.shape(0) == n + 1 && n_events.shape(0) == n && last_event_ms.shape(0) == n);
    check(out_weights.shape(0) == size && n_bought.shape(0) == size && last_ms.shape(0) == size);
    check(last_bought_ms.shape(0) == size && start.shape(0) == length.shape(0) && known_indptr.shape(0) > 0);
    check(n_types > 4);  // those that have a meaning of their own
    const Columns known(known_rows, known_types, known_weights, known_times_ms, n_rows, n_types);
    const Columns fresh(rows, types, counts, times_ms, n_rows, n_types);
    size_t n_entries = 0;
    for (size_t i = 0; i < n; ++i) {
        const int32_t user = users(i), slot = slots(i);
        check(user < static_cast<int64_t>(known_indptr.shape(0)) - 1 && slot < static_cast<int64_t>(start.shape(0)));
        if (user >= 0) {
            const int64_t* span = known_indptr.data() + user;
            n_entries += known.checked(span[0], span[1] - span[0]);
        }
        if (slot >= 0) n_entries += fresh.checked(start.data()[slot], length.data()[slot]);
    }
    check(n_entries <= size);
    const MergedHistories out{indptr.data(), out_rows.data(), out_weights.data(), n_bought.data(), last_ms.data(),
                              last_bought_ms.data(), n_events.data(), last_event_ms.data()};
    nb::gil_scoped_release unlocked;
    gather({known_indptr.data(), known.entries}, {start.data(), length.data(), fresh.entries}, users.data(),
           slots.data(), n, type_weights.data(), where.data(), out);
}

void fold_in_input_all(In<int64_t> indptr, In<int32_t> rows, In<float> weights, In<int64_t> last_ms, size_t n_items,
                       float alpha, size_t max_history, Out<int64_t> out_indptr, Out<int32_t> out_rows,
                       Out<float> confidences) {
    const size_t n_pointers = indptr.shape(0), size = rows.shape(0);
    check(n_pointers > 0 && out_indptr.shape(0) == n_pointers && weights.shape(0) == size && last_ms.shape(0) == size);
    check(out_rows.shape(0) >= size && confidences.shape(0) >= size);
    check(indptr(0) >= 0 && indptr(n_pointers - 1) <= static_cast<int64_t>(size));
    for (size_t i = 0; i + 1 < n_pointers; ++i) check(indptr(i) <= indptr(i + 1));
    nb::gil_scoped_release unlocked;
    fold_in_input({indptr.data(), rows.data(), weights.data(), last_ms.data()}, n_pointers - 1, n_items, alpha,
                  max_history, out_indptr.data(), out_rows.data(), confidences.data());
}

}  // namespace

void bind_history(nb::module_& m) {
    m.def("gather", &gather_all, "known_indptr"_a.noconvert(), "known_rows"_a.noconvert(), "known_types"_a.noconvert(),
          "known_weights"_a.noconvert(), "known_times_ms"_a.noconvert(), "start"_a.noconvert(), "length"_a.noconvert(),
          "rows"_a.noconvert(), "types"_a.noconvert(), "counts"_a.noconvert(), "times_ms"_a.noconvert(),
          "users"_a.noconvert(), "slots"_a.noconvert(), "type_weights"_a.noconvert(), "where"_a.noconvert(),
          "indptr"_a.noconvert(), "out_rows"_a.noconvert(), "weights"_a.noconvert(), "n_bought"_a.noconvert(),
          "last_ms"_a.noconvert(), "last_bought_ms"_a.noconvert(), "n_events"_a.noconvert(),
          "last_event_ms"_a.noconvert());
    m.def("fold_in_input", &fold_in_input_all, "indptr"_a.noconvert(), "rows"_a.noconvert(), "weights"_a.noconvert(),
          "last_ms"_a.noconvert(), "n_items"_a, "alpha"_a, "max_history"_a, "out_indptr"_a.noconvert(),
          "out_rows"_a.noconvert(), "confidences"_a.noconvert());
}

}  // namespace headrace

// The Python face of rankings of all users: checks shapes and ranges, lets the GIL go, calls.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>

#include "arrays.hpp"
#include "bindings.hpp"
#include "headrace/rank.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace headrace {
namespace {

void check(bool fits) {
    if (!fits) throw std::invalid_argument("arrays of one ranking do not fit each other");
}

void check_rows(const In<int64_t>& indptr, const In<int32_t>& columns, size_t n_rows, size_t n_columns) {
    check(indptr.shape(0) == n_rows + 1 && indptr(0) == 0 && indptr(n_rows) == static_cast<int64_t>(columns.shape(0)));
    for (size_t i = 0; i < n_rows; ++i) check(indptr(i) <= indptr(i + 1));
    for (size_t i = 0; i < columns.shape(0); ++i)
        check(columns(i) >= 0 && static_cast<size_t>(columns(i)) < n_columns);
}

using Indptr = std::optional<In<int64_t>>;
using Columns = std::optional<In<int32_t>>;

Ranking ranking_of(const In<int32_t>& users, size_t n_users, const Indptr& masked_indptr, const Columns& masked,
                   size_t n_items, size_t n_threads, const OutTable<int32_t>& items, const OutTable<float>& scores) {
    const size_t n = users.shape(0);
    check(items.shape(0) == n && scores.shape(0) == n && scores.shape(1) == items.shape(1) && n_threads > 0);
    check(masked_indptr.has_value() == masked.has_value());
    for (size_t i = 0; i < n; ++i) check(users(i) >= 0 && static_cast<size_t>(users(i)) < n_users);
    if (masked) check_rows(*masked_indptr, *masked, n_users, n_items);
    SparseRows rows{masked ? masked_indptr->data() : nullptr, masked ? masked->data() : nullptr, nullptr};
    return {users.data(), n, rows, items.shape(1), items.data(), scores.data(), n_threads};
}

bool factors(InTable<float> user_factors, InTable<float> item_factors, In<int32_t> users, Indptr masked_indptr,
             Columns masked, size_t n_threads, OutTable<int32_t> items, OutTable<float> scores) {
    check(user_factors.shape(1) == item_factors.shape(1));
    const Ranking ranking = ranking_of(users, user_factors.shape(0), masked_indptr, masked, item_factors.shape(0),
                                       n_threads, items, scores);
    nb::gil_scoped_release unlocked;
    const Scan scan(item_factors.data(), item_factors.shape(0), item_factors.shape(1));
    return rank_factors(scan, user_factors.data(), ranking);
}

bool products(In<int64_t> left_indptr, In<int32_t> left_columns, In<float> left_values, In<int64_t> right_indptr,
              In<int32_t> right_columns, In<float> right_values, size_t n_items, In<int32_t> users,
              Indptr masked_indptr, Columns masked, size_t n_threads, OutTable<int32_t> items, OutTable<float> scores) {
    check(left_indptr.shape(0) > 0 && right_indptr.shape(0) > 0 && n_items <= size_t{1} << 31);
    const size_t n_users = left_indptr.shape(0) - 1, n_middle = right_indptr.shape(0) - 1;
    check(left_values.shape(0) == left_columns.shape(0) && right_values.shape(0) == right_columns.shape(0));
    check_rows(left_indptr, left_columns, n_users, n_middle);
    check_rows(right_indptr, right_columns, n_middle, n_items);
    const Ranking ranking = ranking_of(users, n_users, masked_indptr, masked, n_items, n_threads, items, scores);
    const SparseRows left{left_indptr.data(), left_columns.data(), left_values.data()};
    const SparseRows right{right_indptr.data(), right_columns.data(), right_values.data()};
    nb::gil_scoped_release unlocked;
    return rank_products(left, right, n_items, ranking);
}

}  // namespace

void bind_rank(nb::module_& m) {
    m.def("rank_factors", &factors, "user_factors"_a.noconvert(), "item_factors"_a.noconvert(), "users"_a.noconvert(),
          "masked_indptr"_a.none().noconvert(), "masked"_a.none().noconvert(), "n_threads"_a, "items"_a.noconvert(),
          "scores"_a.noconvert());
    m.def("rank_products", &products, "left_indptr"_a.noconvert(), "left_columns"_a.noconvert(),
          "left_values"_a.noconvert(), "right_indptr"_a.noconvert(), "right_columns"_a.noconvert(),
          "right_values"_a.noconvert(), "n_items"_a, "users"_a.noconvert(), "masked_indptr"_a.none().noconvert(),
          "masked"_a.none().noconvert(), "n_threads"_a, "items"_a.noconvert(), "scores"_a.noconvert());
}

}  // namespace headrace

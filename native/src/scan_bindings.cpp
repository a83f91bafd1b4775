// The Python face of search: checks shapes and dtypes, lets the GIL go, calls.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "arrays.hpp"
#include "bindings.hpp"
#include "headrace/blend.hpp"
#include "headrace/lists.hpp"
#include "headrace/retrieve.hpp"
#include "headrace/scan.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace headrace {
namespace {

void check(bool fits) {
    if (!fits) throw std::invalid_argument("arrays of one batch do not fit each other");
}

void check_pointers(const In<int64_t>& pointers, size_t n, size_t size) {
    check(pointers.shape(0) == n + 1 && pointers(0) >= 0 && pointers(n) <= static_cast<int64_t>(size));
    for (size_t i = 0; i < n; ++i) check(pointers(i) <= pointers(i + 1));
}

using Pause = std::optional<nb::callable>;

// Centres of lists, each item's list, the lists that a search scans at least, and whether the factors score at the end.
using ListArrays = std::tuple<InTable<float>, In<int32_t>, size_t, bool>;

Clusters clusters_of(const ListArrays& arrays, size_t n_items, size_t d) {
    const auto& [centres, lists, probes, by_factors] = arrays;
    check(centres.shape(1) == d && centres.shape(0) > 0 && lists.shape(0) == n_items && probes > 0);
    for (size_t i = 0; i < n_items; ++i)
        check(lists(i) >= 0 && static_cast<size_t>(lists(i)) < centres.shape(0));
    return {centres.data(), centres.shape(0), lists.data(), probes, by_factors};
}

// It takes a third of a second for a million items, in which others answer.
std::shared_ptr<const Search> unlocked_search(const InTable<float>& factors, const std::optional<ListArrays>& lists,
                                              const Pause& pause) {
    std::function<void()> call;
    if (pause)
        call = [&pause] {
            nb::gil_scoped_acquire locked;
            (*pause)();
        };
    size_t n_items = factors.shape(0), d = factors.shape(1);
    Clusters clusters{};
    if (lists) clusters = clusters_of(*lists, n_items, d);
    nb::gil_scoped_release unlocked;
    if (lists) return std::make_shared<Lists>(factors.data(), n_items, d, clusters, call);
    return std::make_shared<Scan>(factors.data(), n_items, d, call);
}

// Links that Python keeps, checked; of no items when there are none.
struct LinkArrays {
    In<int64_t> indptr;
    In<int32_t> items;
    In<float> weights;
    size_t n_items;

    LinkArrays(In<int64_t> p, In<int32_t> i, In<float> w) : indptr(std::move(p)), items(std::move(i)), weights(std::move(w)) {
        n_items = indptr.shape(0) ? indptr.shape(0) - 1 : 0;
        check(items.shape(0) == weights.shape(0));
        nb::gil_scoped_release unlocked;
        if (n_items) check_pointers(indptr, n_items, items.shape(0));
        for (size_t j = 0; j < items.shape(0); ++j)
            check(items(j) >= 0 && static_cast<size_t>(items(j)) < n_items);
    }
    Links links() const {
        return n_items ? Links{indptr.data(), items.data(), weights.data()} : Links{};
    }
};

// The blend of a model and the arrays behind it.
struct BlendArrays {
    LinkArrays items, session;
    In<float> decay;
    Blend blend;

    BlendArrays(LinkArrays i, double weight, double new_weight, double power, double half_life_days, double length_power, LinkArrays s,
                double session_weight, double session_ms, In<float> d)
        : items(std::move(i)), session(std::move(s)), decay(std::move(d)) {
        blend.items = {items.links(), weight, new_weight, power, half_life_days, length_power};
        blend.session = {session.links(), session_weight, session_ms, decay.data(), decay.shape(0)};
    }
    bool fits(size_t n_items) const {
        return (!items.n_items || items.n_items == n_items) && (!session.n_items || session.n_items == n_items);
    }
};

// A search over factors that Python keeps, with what else every slate of a model needs; it never changes.
struct Retriever {
    InTable<float> factors;
    In<int32_t> order;
    In<float> popularity;
    Lift lift;
    std::optional<BlendArrays> blend;
    Items items;

    Retriever(InTable<float> f, In<int32_t> o, In<float> p, double boost, double days, const Pause& pause,
              std::optional<BlendArrays> b, const std::optional<ListArrays>& lists)
        : factors(std::move(f)), order(std::move(o)), popularity(std::move(p)), lift{boost, days}, blend(std::move(b)),
          items(unlocked_search(factors, lists, pause)) {
        check(!blend || blend->fits(items.n_base()));
        check(order.shape(0) == items.n_base() && popularity.shape(0) == items.n_base());
        for (size_t i = 0; i < order.shape(0); ++i)
            check(order(i) >= 0 && static_cast<size_t>(order(i)) < items.n_base());
    }
    Retriever(const Retriever& other, Items changed)
        : factors(other.factors), order(other.order), popularity(other.popularity), lift(other.lift),
          blend(other.blend), items(std::move(changed)) {}
};

Retriever with_items(const Retriever& self, In<int32_t> rows, InTable<float> factors) {
    check(factors.shape(0) == rows.shape(0) && factors.shape(1) == self.items.d());
    for (size_t i = 0; i < rows.shape(0); ++i) check(rows(i) >= 0 && (!i || rows(i - 1) < rows(i)));
    auto changed = [&] {
        nb::gil_scoped_release unlocked;
        return self.items.with(rows.data(), factors.data(), rows.shape(0));
    };
    return {self, changed()};
}

Retriever without_items(const Retriever& self, In<int32_t> rows) {
    for (size_t i = 0; i < rows.shape(0); ++i) check(rows(i) >= 0);
    auto changed = [&] {
        nb::gil_scoped_release unlocked;
        return self.items.without(rows.data(), rows.shape(0));
    };
    return {self, changed()};
}

// The best rows of each query, -1 and 0 behind the last.
void search_items(const Retriever& self, InTable<float> vectors, std::optional<In<uint64_t>> filter,
                  OutTable<int32_t> rows, OutTable<float> scores, Out<int8_t> exact, size_t probes) {
    size_t n = vectors.shape(0), k = rows.shape(1), d = self.items.d();
    check(vectors.shape(1) >= d && rows.shape(0) == n && scores.shape(0) == n && scores.shape(1) == k);
    check(exact.shape(0) == n && (!filter || filter->shape(0) * 64 >= self.items.n_base()));
    nb::gil_scoped_release unlocked;
    std::optional<Filter> only;
    if (filter) {
        only = Filter{{filter->data(), filter->shape(0) * 64}, 0};
        for (size_t i = 0; i < filter->shape(0); ++i)
            only->count += static_cast<size_t>(__builtin_popcountll(filter->data()[i]));
    }
    std::fill_n(exact.data(), n, int8_t{1});
    std::vector<Bars> bars(n);
    std::vector<Best> best(n, Best(k));
    std::vector<const float*> queries;
    for (size_t q = 0; q < n; ++q) queries.push_back(vectors.data() + q * vectors.shape(1));
    self.items.search(queries.data(), bars.data(), n, best.data(),
                      {nullptr, only ? &*only : nullptr, probes, exact.data()});
    for (size_t q = 0; q < n; ++q) {
        const std::vector<Scored>& found = best[q].sorted();
        for (size_t i = 0; i < k; ++i) {
            rows.data()[q * k + i] = i < found.size() ? found[i].row : -1;
            scores.data()[q * k + i] = i < found.size() ? found[i].score : 0.0f;
        }
    }
}

void retrieve_slates(const Retriever& self, InTable<float> vectors, In<int8_t> warm, In<int32_t> limits,
                     In<int8_t> exclude_purchased, In<int64_t> history, In<int32_t> history_rows, In<float> n_bought,
                     In<int64_t> last_bought_ms, In<int64_t> last_event_ms, In<int64_t> excluded,
                     In<int32_t> excluded_rows, std::optional<In<int64_t>> candidates,
                     std::optional<In<int64_t>> candidate_rows, In<uint32_t> barred, OutTable<int32_t> rows,
                     OutTable<float> scores, Out<int32_t> counts, Out<int32_t> found,
                     std::optional<In<float>> history_weights, std::optional<In<int64_t>> history_last_ms,
                     int64_t now_ms, std::optional<Out<int8_t>> exact) {
    size_t n = limits.shape(0), n_rows = barred.shape(0), k = rows.shape(1);
    check(vectors.shape(0) == n && vectors.shape(1) >= self.items.d() && warm.shape(0) == n);
    check(exclude_purchased.shape(0) == n && last_event_ms.shape(0) == n && n_rows >= self.items.n_base());
    check(n_bought.shape(0) == history_rows.shape(0) && last_bought_ms.shape(0) == history_rows.shape(0));
    check(rows.shape(0) == n && scores.shape(0) == n && scores.shape(1) == k);
    check(counts.shape(0) == n && found.shape(0) == n && candidates.has_value() == candidate_rows.has_value());
    check(!exact || exact->shape(0) == n);
    bool blended = self.blend.has_value();
    check(!blended || (history_weights && history_weights->shape(0) == history_rows.shape(0)));
    check(!blended || (history_last_ms && history_last_ms->shape(0) == history_rows.shape(0)));
    check_pointers(history, n, history_rows.shape(0));
    check_pointers(excluded, n, excluded_rows.shape(0));
    if (candidates) check_pointers(*candidates, n, candidate_rows->shape(0));
    for (size_t i = 0; i < n; ++i) check(limits(i) >= 0 && static_cast<size_t>(limits(i)) <= k);
    for (int64_t p = history(0); p < history(n); ++p) {
        int32_t row = history_rows(static_cast<size_t>(p));
        check(row >= 0 && static_cast<size_t>(row) < n_rows);
    }
    People people{n, vectors.data(), vectors.shape(1), warm.data(), limits.data(), exclude_purchased.data(),
                  history.data(), history_rows.data(), n_bought.data(), last_bought_ms.data(), last_event_ms.data(),
                  excluded.data(), excluded_rows.data(), candidates ? candidates->data() : nullptr,
                  candidate_rows ? candidate_rows->data() : nullptr, barred.data(), n_rows,
                  blended ? history_weights->data() : nullptr, blended ? history_last_ms->data() : nullptr, now_ms};
    Popular popular{self.order.data(), self.popularity.data(), self.items.n_base()};
    std::vector<int8_t> nobody_asks(exact ? 0 : n);
    Slates slates{k, rows.data(), scores.data(), counts.data(), found.data(), exact ? exact->data() : nobody_asks.data()};
    const Blend& blend = blended ? self.blend->blend : Blend{};
    nb::gil_scoped_release unlocked;
    retrieve(self.items, popular, self.lift, blend, people, slates);
}

}  // namespace

void bind_scan(nb::module_& m) {
    nb::class_<LinkArrays>(m, "Links")
        .def(nb::init<In<int64_t>, In<int32_t>, In<float>>(), "indptr"_a.noconvert(), "items"_a.noconvert(),
             "weights"_a.noconvert());
    nb::class_<BlendArrays>(m, "Blend")
        .def(nb::init<LinkArrays, double, double, double, double, double, LinkArrays, double, double, In<float>>(), "items"_a,
             "item_weight"_a, "new_item_weight"_a, "power"_a, "half_life_days"_a, "length_power"_a, "session"_a, "session_weight"_a,
             "session_ms"_a, "decay"_a.noconvert());
    nb::class_<Retriever>(m, "Retriever")
        .def(
            "__init__",
            [](Retriever* self, InTable<float> factors, In<int32_t> order, In<float> popularity, double boost,
               double days, const Pause& pause, std::optional<BlendArrays> blend,
               const std::optional<ListArrays>& lists) {
                new (self) Retriever(factors, order, popularity, boost, days, pause, std::move(blend), lists);
            },
            "factors"_a.noconvert(), "popular_order"_a.noconvert(), "popularity"_a.noconvert(), "repeat_boost"_a,
            "repeat_days"_a, "pause"_a.none() = nb::none(), "blend"_a.none() = nb::none(), "lists"_a.none() = nb::none())
        .def("with_items", &with_items, "rows"_a.noconvert(), "factors"_a.noconvert())
        .def("without_items", &without_items, "rows"_a.noconvert())
        .def("search", &search_items, "vectors"_a.noconvert(), "filter"_a.none().noconvert(), "rows"_a.noconvert(),
             "scores"_a.noconvert(), "exact"_a.noconvert(), "probes"_a = 0)
        .def_prop_ro("n_bytes", [](const Retriever& self) { return self.items.bytes(); })
        .def_prop_ro("n_added", [](const Retriever& self) { return self.items.n_added(); })
        .def("retrieve", &retrieve_slates, "vectors"_a.noconvert(), "warm"_a.noconvert(), "limits"_a.noconvert(),
             "exclude_purchased"_a.noconvert(), "history"_a.noconvert(), "history_rows"_a.noconvert(),
             "n_bought"_a.noconvert(), "last_bought_ms"_a.noconvert(), "last_event_ms"_a.noconvert(),
             "excluded"_a.noconvert(), "excluded_rows"_a.noconvert(), "candidates"_a.none().noconvert(),
             "candidate_rows"_a.none().noconvert(), "barred"_a.noconvert(), "rows"_a.noconvert(),
             "scores"_a.noconvert(), "counts"_a.noconvert(), "found"_a.noconvert(),
             "history_weights"_a.none().noconvert() = nb::none(), "history_last_ms"_a.none().noconvert() = nb::none(),
             "now_ms"_a = 0, "exact"_a.none().noconvert() = nb::none());
    m.def("scan_passes", [] {
        std::vector<std::string> names;
        for (const BlockPass& pass : block_passes()) names.emplace_back(pass.name);
        return names;
    });
    m.def(
        "use_scan_pass",
        [](const std::string& name) {
            for (const BlockPass& pass : block_passes())
                if (name == pass.name) return use_block_pass(pass);
            throw std::invalid_argument("no such pass on this processor: " + name);
        },
        "name"_a);
}

}  // namespace headrace

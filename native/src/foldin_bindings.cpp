// The Python face of fold-in: checks shapes and ranges, lets the GIL go, calls.
#include <nanobind/nanobind.h>

#include "arrays.hpp"
#include "bindings.hpp"
#include "headrace/embeddings.hpp"
#include "headrace/foldin.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace headrace {
namespace {

void check(bool fits) {
    if (!fits) throw std::invalid_argument("arrays of one fold-in do not fit each other");
}

FoldIn checked_model(const InTable<float>& gram, const InTable<float>& items) {
    const size_t width = gram.shape(0);
    check(gram.shape(1) == width && width % fold_lanes == 0 && width >= items.shape(1));
    return {gram.data(), width, items.data(), items.shape(1)};
}

void check_histories(const In<int64_t>& indptr, const In<int32_t>& rows, const In<float>& confidences, size_t n_items,
                     size_t width, const OutTable<float>& out) {
    const size_t n = out.shape(0);
    check(out.shape(1) == width && confidences.shape(0) == rows.shape(0) && indptr.shape(0) == n + 1);
    check(indptr(0) >= 0 && indptr(n) <= static_cast<int64_t>(rows.shape(0)));
    for (size_t i = 0; i < n; ++i) check(indptr(i) <= indptr(i + 1));
    for (int64_t p = indptr(0); p < indptr(n); ++p) {
        const int32_t row = rows(static_cast<size_t>(p));
        check(row >= 0 && static_cast<size_t>(row) < n_items);
    }
}

// Calls one(rows, confidences, n, out) for each person.
template <typename One>
void each_person(const In<int64_t>& indptr, const In<int32_t>& rows, const In<float>& confidences, const OutTable<float>& out,
                 One one) {
    nb::gil_scoped_release unlocked;
    for (size_t i = 0; i < out.shape(0); ++i) {
        const auto first = static_cast<size_t>(indptr(i)), last = static_cast<size_t>(indptr(i + 1));
        one(rows.data() + first, confidences.data() + first, last - first, out.data() + i * out.shape(1));
    }
}

void fold_in_all(InTable<float> gram, InTable<float> items, In<int64_t> indptr, In<int32_t> rows, In<float> confidences,
                 OutTable<float> out) {
    const FoldIn model = checked_model(gram, items);
    check_histories(indptr, rows, confidences, items.shape(0), model.width, out);
    each_person(indptr, rows, confidences, out, [&](const int32_t* r, const float* c, size_t n, float* to) {
        fold_in(model, r, c, n, to);
    });
}

// What is remembered, over arrays that Python keeps.
struct Remembered {
    InTable<float> gram, items;
    Embeddings embeddings;

    Remembered(InTable<float> g, InTable<float> i, size_t capacity)
        : gram(std::move(g)), items(std::move(i)), embeddings(checked_model(gram, items), capacity) {}

    void of(In<int64_t> indptr, In<int32_t> rows, In<float> confidences, OutTable<float> out) {
        check_histories(indptr, rows, confidences, items.shape(0), gram.shape(0), out);
        each_person(indptr, rows, confidences, out,
                    [&](const int32_t* r, const float* c, size_t n, float* to) { embeddings.of(r, c, n, to); });
    }
};

}  // namespace

void bind_foldin(nb::module_& m) {
    m.attr("FOLD_LANES") = fold_lanes;
    m.def("fold_in", &fold_in_all, "gram"_a.noconvert(), "items"_a.noconvert(), "indptr"_a.noconvert(),
          "rows"_a.noconvert(), "confidences"_a.noconvert(), "out"_a.noconvert());
    nb::class_<Remembered>(m, "Embeddings")
        .def(nb::init<InTable<float>, InTable<float>, size_t>(), "gram"_a.noconvert(), "items"_a.noconvert(),
             "capacity"_a)
        .def("of", &Remembered::of, "indptr"_a.noconvert(), "rows"_a.noconvert(), "confidences"_a.noconvert(),
             "out"_a.noconvert())
        .def_prop_ro("n_folded", [](const Remembered& self) { return self.embeddings.n_folded(); });
}

}  // namespace headrace

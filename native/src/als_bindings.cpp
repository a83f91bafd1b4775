// The Python face of ALS: checks shapes, lets the GIL go, takes it now and then to hear of Ctrl-C.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "arrays.hpp"
#include "bindings.hpp"
#include "headrace/als.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace headrace {
namespace {

using Factors = OutTable<float>;

void check(bool fits) {
    if (!fits) throw std::invalid_argument("arrays of one half sweep do not fit each other");
}

Crew crew_of(size_t n_threads) {
    check(n_threads > 0);
    return {n_threads, [] {
                nb::gil_scoped_acquire locked;
                if (PyErr_CheckSignals()) throw nb::python_error();
            }};
}

size_t width_of(const InTable<float>& factors) {
    check(factors.shape(1) > 0 && factors.shape(1) % als_lanes == 0);
    return factors.shape(1);
}

Observed observed_of(const In<int64_t>& indptr, const In<int32_t>& columns, const In<float>& confidences,
                     size_t n_columns) {
    check(indptr.shape(0) > 0 && indptr(0) == 0 && columns.shape(0) == confidences.shape(0));
    const size_t n = indptr.shape(0) - 1;
    check(indptr(n) == static_cast<int64_t>(columns.shape(0)));
    for (size_t row = 0; row < n; ++row) check(indptr(row) <= indptr(row + 1));
    for (size_t at = 0; at < columns.shape(0); ++at)
        check(columns(at) >= 0 && static_cast<size_t>(columns(at)) < n_columns);
    return {indptr.data(), columns.data(), confidences.data(), n};
}

void gram(InTable<float> factors, OutTable<double> out, size_t n_threads) {
    const size_t width = width_of(factors);
    check(out.shape(0) == width && out.shape(1) == width);
    Crew crew = crew_of(n_threads);
    nb::gil_scoped_release unlocked;
    als_gram(factors.data(), factors.shape(0), width, out.data(), crew);
}

void turn(Factors factors, InTable<float> rotation, size_t n_threads) {
    const size_t width = width_of(rotation);
    check(rotation.shape(0) == width && factors.shape(1) == width);
    Crew crew = crew_of(n_threads);
    nb::gil_scoped_release unlocked;
    als_turn(factors.data(), factors.shape(0), width, rotation.data(), crew);
}

void solve(In<int64_t> indptr, In<int32_t> columns, In<float> confidences, InTable<float> fixed, In<float> spectrum,
           In<float> ridge, Factors factors, size_t n_steps, size_t n_threads) {
    const size_t width = width_of(fixed);
    Observed observed = observed_of(indptr, columns, confidences, fixed.shape(0));
    check(factors.shape(0) == observed.n_rows && factors.shape(1) == width);
    check(spectrum.shape(0) == width && ridge.shape(0) == observed.n_rows);
    Crew crew = crew_of(n_threads);
    nb::gil_scoped_release unlocked;
    als_solve(observed, fixed.data(), width, spectrum.data(), ridge.data(), n_steps, factors.data(), crew);
}

double loss(In<int64_t> indptr, In<int32_t> columns, In<float> confidences, InTable<float> fixed,
            InTable<float> factors, size_t n_threads) {
    const size_t width = width_of(fixed);
    Observed observed = observed_of(indptr, columns, confidences, fixed.shape(0));
    check(factors.shape(0) == observed.n_rows && factors.shape(1) == width);
    Crew crew = crew_of(n_threads);
    nb::gil_scoped_release unlocked;
    return als_loss(observed, fixed.data(), width, factors.data(), crew);
}

}  // namespace

void bind_als(nb::module_& m) {
    m.attr("ALS_LANES") = als_lanes;
    m.def("als_gram", &gram, "factors"_a.noconvert(), "out"_a.noconvert(), "n_threads"_a);
    m.def("als_turn", &turn, "factors"_a.noconvert(), "rotation"_a.noconvert(), "n_threads"_a);
    m.def("als_solve", &solve, "indptr"_a.noconvert(), "columns"_a.noconvert(), "confidences"_a.noconvert(),
          "fixed"_a.noconvert(), "spectrum"_a.noconvert(), "ridge"_a.noconvert(), "factors"_a.noconvert(),
          "n_steps"_a, "n_threads"_a);
    m.def("als_loss", &loss, "indptr"_a.noconvert(), "columns"_a.noconvert(), "confidences"_a.noconvert(),
          "fixed"_a.noconvert(), "factors"_a.noconvert(), "n_threads"_a);
    m.def("als_passes", [] {
        std::vector<std::string> names;
        for (const AlsPass& pass : als_passes()) names.emplace_back(pass.name);
        return names;
    });
    m.def(
        "use_als_pass",
        [](const std::string& name) {
            for (const AlsPass& pass : als_passes())
                if (name == pass.name) return use_als_pass(pass);
            throw std::invalid_argument("no such pass on this processor: " + name);
        },
        "name"_a);
}

}  // namespace headrace

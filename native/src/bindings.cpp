// The extension headrace._native.
#include "bindings.hpp"

namespace nb = nanobind;

NB_MODULE(_native, m) {
    m.doc() = "Headrace's compiled core.";
    // a ledger may live as long as the interpreter does
    nb::set_leak_warnings(false);
    headrace::bind_ledger(m);
    headrace::bind_bids(m);
    headrace::bind_scan(m);
    headrace::bind_slates(m);
}

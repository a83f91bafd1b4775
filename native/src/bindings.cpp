// The extension headrace._native.
#include "bindings.hpp"

#include "headrace/wire.hpp"

namespace nb = nanobind;

NB_MODULE(_native, m) {
    m.doc() = "Headrace's compiled core.";
    // a ledger may live as long as the interpreter does
    nb::set_leak_warnings(false);
    m.def("count_messages", [](uint32_t field, nb::bytes message) {
        return headrace::count_messages({message.c_str(), message.size()}, field);
    });
    headrace::bind_ledger(m);
    headrace::bind_als(m);
    headrace::bind_bids(m);
    headrace::bind_scan(m);
    headrace::bind_rank(m);
    headrace::bind_foldin(m);
    headrace::bind_history(m);
    headrace::bind_hmac(m);
    headrace::bind_slates(m);
}

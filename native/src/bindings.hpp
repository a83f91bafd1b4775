// The parts of the extension; each is bound in a file of its own.
#pragma once

#include <nanobind/nanobind.h>

namespace headrace {

void bind_ledger(nanobind::module_& m);
void bind_als(nanobind::module_& m);
void bind_bids(nanobind::module_& m);
void bind_scan(nanobind::module_& m);
void bind_rank(nanobind::module_& m);
void bind_foldin(nanobind::module_& m);
void bind_history(nanobind::module_& m);
void bind_hmac(nanobind::module_& m);
void bind_slates(nanobind::module_& m);

}  // namespace headrace

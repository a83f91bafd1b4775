// What gRPC's core writes to stderr: some of it is one line for each malformed call, so callers could fill a disk.
#pragma once

namespace headrace {

// From now on at most ten lines a minute, with the number of those left out.
void ration_log();

}  // namespace headrace

#include "door_log.hpp"

#include <grpc/support/log.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>

namespace headrace {
namespace {

constexpr int kLinesAMinute = 10;

// Whether one line more may be written now, and how many were left out in the minute before.
class Ration {
  public:
    bool take(std::chrono::steady_clock::time_point now, int64_t& left_out) {
        std::lock_guard lock(mutex_);
        left_out = 0;
        if (now >= end_) {
            end_ = now + std::chrono::minutes(1);
            left_out = n_ > kLinesAMinute ? n_ - kLinesAMinute : 0;
            n_ = 0;
        }
        return ++n_ <= kLinesAMinute;
    }

  private:
    std::mutex mutex_;
    std::chrono::steady_clock::time_point end_{};
    int64_t n_ = 0;
};

void log_some(gpr_log_func_args* line) {
    static Ration ration;
    int64_t left_out = 0;
    if (!ration.take(std::chrono::steady_clock::now(), left_out)) return;
    if (left_out > 0) std::fprintf(stderr, "gRPC: %lld lines were left out\n", static_cast<long long>(left_out));
    const char* name = std::strrchr(line->file, '/');
    std::fprintf(stderr, "gRPC: %s:%d: %s\n", name != nullptr ? name + 1 : line->file, line->line, line->message);
}

}  // namespace

void ration_log() { gpr_set_log_function(log_some); }

}  // namespace headrace

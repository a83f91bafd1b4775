// Limits of fields, told as headrace.errors.InvalidRequestError tells them.
#pragma once

#include <string>
#include <string_view>

#include "headrace/bid_codec.hpp"

namespace headrace {

inline bool wrong(BodyError& error, const char* what, std::string_view got, std::string expected,
                  const char* hint = "") {
    error.what = what;
    error.text = got;
    error.is_number = false;
    error.expected = std::move(expected);
    error.hint = hint;
    return false;
}

inline bool wrong(BodyError& error, const char* what, int64_t got, std::string expected, const char* hint = "") {
    error.what = what;
    error.number = got;
    error.is_number = true;
    error.expected = std::move(expected);
    error.hint = hint;
    return false;
}

inline bool check_size(size_t size, size_t most, const char* what, BodyError& error) {
    if (size <= most) return true;
    return wrong(error, what, std::to_string(size) + " bytes", "at most " + std::to_string(most) + " bytes",
                 "shorten it");
}

inline bool check_text(std::string_view text, size_t most, bool empty, const char* what, BodyError& error) {
    if (!text.empty() || empty) return check_size(text.size(), most, what, error);
    return wrong(error, what, text, "1 to " + std::to_string(most) + " bytes", "it is needed to name the thing");
}

inline bool check_count(size_t n, size_t least, size_t most, const char* what, BodyError& error) {
    if (n >= least && n <= most) return true;
    std::string limits = least ? std::to_string(least) + " to " : "at most ";
    return wrong(error, what, std::to_string(n) + " entries", limits + std::to_string(most));
}

inline bool check_micros(int64_t amount, const char* what, BodyError& error) {
    if (amount >= 0 && amount <= max_micros) return true;
    return wrong(error, what, amount, "0 to " + std::to_string(max_micros) + " micros",
                 "a million micros are one unit");
}

}  // namespace headrace

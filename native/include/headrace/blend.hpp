// What the server adds to factor scores: the item-item part of a person's history, and transitions of their session.
#pragma once

#include <cstddef>
#include <cstdint>

#include "headrace/additions.hpp"

namespace headrace {

constexpr size_t most_sources = 500;  // entries of a history that the item-item part uses, the latest ones

// Weighted links from items to items, row after row.
struct Links {
    const int64_t* indptr = nullptr;  // (n_items + 1,); null: there are none
    const int32_t* items = nullptr;
    const float* weights = nullptr;
};

// A history's entry h of weight w counts v = w ** power * 2 ** (-age / half_life_days), age being the time from it to the
// person's last event; the item-item part of item i is weight * sum_h v_h links[h, i] / (sum_h v_h) ** length_power.
struct ItemPart {
    Links links;
    double weight = 0, new_weight = 0;                       // the second for slates without what was bought
    double power = 1, half_life_days = 0, length_power = 0;  // half_life_days 0: no ageing
};

// The session is what happened within session_ms before the person's last event, unless that is session_ms ago itself.
// The l-th latest distinct item h of it adds weight * decay[l] * links[h, i] to item i.
struct SessionPart {
    Links links;
    double weight = 0, session_ms = 0;
    const float* decay = nullptr;
    size_t n_lags = 0;
};

struct Blend {
    ItemPart items;
    SessionPart session;
};

// One person's history: distinct rows, of which those from n_items on are passed over.
struct Past {
    const int32_t* rows;
    const float* weights;
    const int64_t* last_ms;
    size_t n;
    int64_t last_event_ms, now_ms;
    bool only_new;  // the slate is one without what was bought
};

void add_blend(const Blend& blend, const Past& past, size_t n_items, Adder& adder);

}  // namespace headrace

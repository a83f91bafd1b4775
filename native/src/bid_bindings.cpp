// The Python face of the bid codec: checks shapes and dtypes, lets the GIL go, calls, converts.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string_view.h>

#include <memory>

#include "arrays.hpp"
#include "bindings.hpp"
#include "headrace/bid_codec.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace headrace {
namespace {

// A column of n values, made from each row's number.
template <typename T, typename Of>
Array<T> column(size_t n, Of&& of) {
    auto* values = new T[n ? n : 1];
    nb::capsule owner(values, [](void* pointer) noexcept { delete[] static_cast<T*>(pointer); });
    for (size_t row = 0; row < n; ++row) values[row] = static_cast<T>(of(row));
    return Array<T>(values, {n}, owner);
}

std::string_view text_of(nb::handle text) {
    Py_ssize_t size;
    const char* data = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
    if (!data) throw nb::python_error();
    return std::string_view(data, static_cast<size_t>(size));
}

nb::object str_of(std::string_view text) {
    PyObject* made = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr);
    if (!made) throw nb::python_error();
    return nb::steal(made);
}

std::vector<std::string_view> views_of(const nb::list& bodies) {
    std::vector<std::string_view> views;
    views.reserve(bodies.size());
    for (nb::handle body : bodies) {
        char* data;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(body.ptr(), &data, &size)) throw nb::python_error();
        views.emplace_back(data, static_cast<size_t>(size));
    }
    return views;
}

nb::list answers_of(const std::vector<std::string>& answers) {
    nb::list list;
    for (const std::string& answer : answers) list.append(nb::bytes(answer.data(), answer.size()));
    return list;
}

// (body, position, bid_request_id, what, got, expected, hint) of each refused body.
nb::list errors_of(const std::vector<BodyError>& errors) {
    nb::list list;
    for (const BodyError& error : errors) {
        nb::object got = error.is_number ? nb::object(nb::int_(error.number)) : str_of(error.text);
        list.append(nb::make_tuple(error.body, error.position, str_of(error.bid_request_id), str_of(error.what), got,
                                   str_of(error.expected), str_of(error.hint)));
    }
    return list;
}

BidKind kind_of(int kind) {
    if (kind < 0 || kind > 2) throw std::invalid_argument("a kind is 0, 1 or 2");
    return static_cast<BidKind>(kind);
}

void add_words(WordRows& rows, const nb::dict& words) {
    for (auto [word, row] : words) rows.add(text_of(word), nb::cast<int32_t>(row));
}

void make_board(BidBoard* self, const nb::tuple& vocabularies, const nb::dict& currencies, const nb::list& names,
                const nb::list& items, In<int64_t> item_indptr) {
    if (vocabularies.size() != 3) throw std::invalid_argument("three vocabularies are needed");
    if (item_indptr.shape(0) != names.size() + 1) throw std::invalid_argument("item_indptr and names do not agree");
    const int64_t* indptr = item_indptr.data();
    for (size_t line = 0; line < names.size(); ++line) {
        if (indptr[line] > indptr[line + 1]) throw std::invalid_argument("item_indptr must ascend");
    }
    if (indptr[0] != 0 || indptr[names.size()] != static_cast<int64_t>(items.size())) {
        throw std::invalid_argument("item_indptr and items do not agree");
    }
    auto board = std::make_unique<BidBoard>();
    for (size_t i = 0; i < 3; ++i) add_words(board->vocabularies[i], nb::cast<nb::dict>(vocabularies[i]));
    add_words(board->currencies, currencies);
    for (nb::handle name : names) {
        auto ids = nb::cast<nb::tuple>(name);
        board->add_line(text_of(ids[0]), text_of(ids[1]), text_of(ids[2]));
    }
    for (nb::handle item : items) board->items.add(text_of(item));
    board->item_indptr.assign(indptr, indptr + names.size() + 1);
    new (self) BidBoard(std::move(*board));
}

void make_calls(BidCalls* self, int kind, const nb::list& bodies) {
    std::vector<std::string_view> views = views_of(bodies);
    BidKind checked = kind_of(kind);
    nb::gil_scoped_release unlocked;
    new (self) BidCalls(checked, views);
}

void make_notices(NoticeCalls* self, const nb::list& bodies) {
    std::vector<std::string_view> views = views_of(bodies);
    nb::gil_scoped_release unlocked;
    new (self) NoticeCalls(views);
}

// names, exchanges, time_ms, first_price, tmax_ms, body and seed of each request; request, floor_cpm and placement of
// each impression.
nb::tuple bid_columns(const BidCalls& calls) {
    const auto& requests = calls.requests();
    size_t n = requests.size(), n_impressions = calls.n_impressions();
    nb::list names, exchanges, placements;
    std::string name;
    for (const BidCalls::Request& request : requests) {
        if (request.anonymous_id.empty()) {
            names.append(str_of(request.user_id));
        } else {
            name.assign(1, '\0').append(request.anonymous_id);
            names.append(str_of(name));
        }
        exchanges.append(str_of(request.exchange));
    }
    auto* of_request = new int32_t[n_impressions + 1];
    nb::capsule request_owner(of_request, [](void* pointer) noexcept { delete[] static_cast<int32_t*>(pointer); });
    auto* floors = new int64_t[n_impressions + 1];
    nb::capsule floor_owner(floors, [](void* pointer) noexcept { delete[] static_cast<int64_t*>(pointer); });
    size_t at = 0;
    for (size_t row = 0; row < n; ++row) {
        for (size_t i = 0; i < requests[row].n_impressions; ++i, ++at) {
            of_request[at] = static_cast<int32_t>(row);
            const BidCalls::Impression& impression = calls.impression(requests[row], i);
            floors[at] = impression.floor_cpm;
            placements.append(str_of(impression.placement));
        }
    }
    return nb::make_tuple(
        names, exchanges, column<int64_t>(n, [&](size_t row) { return requests[row].time_ms; }),
        column<bool>(n, [&](size_t row) { return requests[row].auction_type == 1; }),
        column<uint32_t>(n, [&](size_t row) { return requests[row].tmax_ms; }),
        column<int32_t>(n, [&](size_t row) { return requests[row].body; }),
        column<uint64_t>(n, [&](size_t row) { return hash_text(requests[row].id); }),
        Array<int32_t>(of_request, {n_impressions}, request_owner), Array<int64_t>(floors, {n_impressions}, floor_owner),
        placements);
}

nb::list bid_currencies(const BidCalls& calls) {
    nb::list names;
    for (const auto& request : calls.requests()) {
        std::string_view name = request.currency.empty() ? "USD" : request.currency;
        names.append(nb::str(name.data(), name.size()));
    }
    return names;
}

nb::tuple bid_terms(const BidCalls& calls, const BidBoard& board) {
    std::vector<int32_t> indptr, terms, currency_rows;
    {
        nb::gil_scoped_release unlocked;
        calls.terms(board, indptr, terms, currency_rows);
    }
    return nb::make_tuple(numpy_of(std::move(indptr)), numpy_of(std::move(terms)), numpy_of(std::move(currency_rows)));
}

nb::list bid_answers(const BidCalls& calls, const BidBoard& board, std::string_view version, In<int8_t> reasons,
                     const nb::list& tokens, In<int64_t> bid_cpm, In<int32_t> lines, In<int32_t> positions,
                     In<int64_t> value_cpm, In<double> probability) {
    size_t n = reasons.shape(0);
    if (tokens.size() != n || bid_cpm.shape(0) != n || lines.shape(0) != n || positions.shape(0) != n ||
        value_cpm.shape(0) != n || probability.shape(0) != n) {
        throw std::invalid_argument("arrays of one batch differ in length");
    }
    std::vector<std::string_view> views;
    views.reserve(n);
    for (nb::handle token : tokens) views.push_back(token.is_none() ? std::string_view() : text_of(token));
    BidColumns columns{n,                reasons.data(),   bid_cpm.data(),     lines.data(),
                       positions.data(), value_cpm.data(), probability.data(), views.data()};
    std::vector<std::string> answers;
    {
        nb::gil_scoped_release unlocked;
        answers = calls.answers(board, columns, version);
    }
    return answers_of(answers);
}

nb::tuple notice_columns(const NoticeCalls& calls) {
    const auto &types = calls.types();
    const auto &prices = calls.prices_cpm();
    const auto &minimums = calls.minimums_cpm();
    nb::list tokens;
    for (std::string_view token : calls.tokens()) tokens.append(str_of(token));
    return nb::make_tuple(column<int8_t>(types.size(), [&](size_t row) { return types[row]; }), tokens,
                          column<int64_t>(prices.size(), [&](size_t row) { return prices[row]; }),
                          column<int64_t>(minimums.size(), [&](size_t row) { return minimums[row]; }));
}

Array<uint64_t> hash_texts(const nb::list& texts) {
    std::vector<uint64_t> hashes;
    hashes.reserve(texts.size());
    for (nb::handle text : texts) hashes.push_back(hash_text(text_of(text)));
    return numpy_of(std::move(hashes));
}

nb::list bid_tokens(int kind, const nb::list& answers) {
    nb::list tokens;
    // whoever reads them takes anything but ASCII for no token of ours
    for (std::string_view token : tokens_of(kind_of(kind), views_of(answers))) {
        if (is_utf8(token)) tokens.append(str_of(token));
    }
    return tokens;
}

}  // namespace

void bind_bids(nb::module_& m) {
    nb::class_<BidBoard>(m, "BidBoard")
        .def("__init__", &make_board, "vocabularies"_a, "currencies"_a, "names"_a, "items"_a,
             "item_indptr"_a.noconvert());
    nb::class_<BidCalls>(m, "BidCalls")
        .def("__init__", &make_calls, "kind"_a, "bodies"_a)
        .def("latest_ms", &BidCalls::latest_ms)
        .def("judge", &BidCalls::judge, "now_ms"_a, "earliest_ms"_a, "latest_ms"_a)
        .def("errors", [](const BidCalls& calls) { return errors_of(calls.errors()); })
        .def("columns", &bid_columns)
        .def("terms", &bid_terms, "board"_a)
        .def("currencies", &bid_currencies)
        .def("answers", &bid_answers, "board"_a, "version"_a, "reasons"_a.noconvert(), "tokens"_a,
             "bid_cpm"_a.noconvert(), "lines"_a.noconvert(), "positions"_a.noconvert(), "value_cpm"_a.noconvert(),
             "probability"_a.noconvert())
        .def(
            "refusals",
            [](const BidCalls& calls, int8_t reason, std::string_view version) {
                return answers_of(calls.refusals(reason, version));
            },
            "reason"_a, "version"_a);
    nb::class_<NoticeCalls>(m, "NoticeCalls")
        .def("__init__", &make_notices, "bodies"_a)
        .def("errors", [](const NoticeCalls& calls) { return errors_of(calls.errors()); })
        .def("columns", &notice_columns)
        .def(
            "answers",
            [](const NoticeCalls& calls, In<int8_t> outcomes) {
                return answers_of(calls.answers(outcomes.data(), outcomes.shape(0)));
            },
            "outcomes"_a.noconvert());
    m.def("hash_texts", &hash_texts, "texts"_a);
    m.def("bid_tokens", &bid_tokens, "kind"_a, "answers"_a);
}

}  // namespace headrace

// The bid codec on any bytes: what it reads lies within its limits, and what it writes it can read.
#include "headrace/bid_codec.hpp"

using namespace headrace;

namespace {

void must(bool holds) {
    if (!holds) __builtin_trap();
}

const BidBoard& board() {
    static const BidBoard* made = [] {
        auto* fresh = new BidBoard;
        fresh->vocabularies[0].add("DE", 0);
        fresh->vocabularies[1].add("shoes", 1);
        fresh->vocabularies[2].add("vip", 2);
        fresh->currencies.add("USD", 0);
        fresh->add_line("c", "l", "a");
        fresh->items.add("i");
        fresh->item_indptr = {0, 1};
        return fresh;
    }();
    return *made;
}

void check_answers(BidKind kind, const BidCalls& calls) {
    size_t n = calls.n_impressions();
    std::vector<int8_t> reasons(n);
    std::vector<int64_t> money(n, 5);
    std::vector<int32_t> zeros(n);
    std::vector<double> chance(n, 0.5);
    std::vector<std::string_view> tokens(n, "token");
    BidColumns columns{n,           reasons.data(), money.data(), zeros.data(), zeros.data(), money.data(), chance.data(),
                       tokens.data()};
    std::vector<std::string> answers = calls.answers(board(), columns, "v1");
    std::vector<std::string_view> views(answers.begin(), answers.end());
    must(tokens_of(kind, views).size() == n);
    for (const std::string& answer : calls.refusals(7, "v1")) must(tokens_of(kind, {answer}).empty());
}

void check_requests(BidKind kind, const std::vector<std::string_view>& bodies) {
    BidCalls calls(kind, bodies);
    must(calls.latest_ms() >= 0 && calls.latest_ms() <= latest_request_ms);
    calls.judge(1'700'000'000'000, INT64_MIN, INT64_MAX);
    must(calls.errors().size() <= bodies.size());
    for (const BidCalls::Request& request : calls.requests()) {
        must(!request.id.empty() && request.id.size() <= 128 && is_utf8(request.id));
        must(request.n_impressions >= 1 && request.n_impressions <= max_impressions);
        must(request.n_categories <= max_categories && request.n_segments <= max_segments);
        must(request.time_ms != 0 && request.time_ms <= latest_request_ms);
        must(calls.impression(request, request.n_impressions - 1).id.size() <= max_word_bytes);
    }
    std::vector<int32_t> indptr, terms, currencies;
    calls.terms(board(), indptr, terms, currencies);
    must(indptr.size() == 3 * calls.requests().size() + 1 && currencies.size() == calls.requests().size());
    check_answers(kind, calls);
}

void check_notices(const std::vector<std::string_view>& bodies) {
    NoticeCalls calls(bodies);
    size_t n = calls.types().size();
    must(calls.tokens().size() == n && calls.prices_cpm().size() == n);
    for (size_t i = 0; i < n; ++i) {
        must(calls.types()[i] >= 1 && calls.types()[i] <= 3 && !calls.tokens()[i].empty());
        must(calls.prices_cpm()[i] >= -1 && calls.prices_cpm()[i] <= max_micros);
    }
    std::vector<int8_t> outcomes(n, 1);
    must(calls.answers(outcomes.data(), n).size() == bodies.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view all(reinterpret_cast<const char*>(data), size);
    std::vector<std::string_view> bodies{all.substr(0, size / 2), all.substr(size / 2), all};
    for (BidKind kind : {BidKind::request, BidKind::batch, BidKind::stream}) {
        check_requests(kind, bodies);
        tokens_of(kind, bodies);
    }
    check_notices(bodies);
    return 0;
}

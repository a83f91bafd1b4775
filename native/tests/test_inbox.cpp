// The inbox of the native door: order, removal, and many threads on both ends.
#include "headrace/inbox.hpp"

#include <atomic>
#include <cstdio>
#include <limits>
#include <memory>
#include <random>
#include <thread>

#include "check.hpp"

namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

struct Piece;

struct Owner {
    Piece* waiting = nullptr;
};

struct Piece {
    Piece(Owner& whose, double deadline, int name = 0) : deadline(deadline), name(name), whose(whose) {}
    Owner& owner() { return whose; }
    double deadline;
    int name;
    Owner& whose;
    uint64_t order = 0;
    size_t place = 0;
    Piece* before = nullptr;
    Piece* after = nullptr;
};

using Box = headrace::Inbox<Piece>;

void sooner_comes_first_and_equals_in_order() {
    Box box;
    Owner owner;
    double now = headrace::monotonic_s();
    std::vector<std::unique_ptr<Piece>> pieces;
    for (double left : {60.0, kNever, 5.0, 60.0, kNever}) {
        pieces.push_back(std::make_unique<Piece>(owner, now + left, static_cast<int>(pieces.size())));
        box.push(pieces.back().get());
    }
    std::vector<Piece*> taken, late;
    box.take(10, taken, late);
    std::vector<int> names;
    for (Piece* piece : taken) names.push_back(piece->name);
    CHECK((names == std::vector<int>{2, 0, 3, 1, 4}));
    CHECK(late.empty() && owner.waiting == nullptr && box.size() == 0);
}

void late_ones_are_told_apart_and_do_not_count() {
    Box box;
    Owner owner;
    double now = headrace::monotonic_s();
    Piece late_one(owner, now - 1), a(owner, now + 60), b(owner, now + 61);
    for (Piece* piece : {&b, &late_one, &a}) box.push(piece);
    std::vector<Piece*> taken, late;
    box.take(1, taken, late);
    CHECK(taken == std::vector<Piece*>{&a} && late == std::vector<Piece*>{&late_one});
    CHECK(box.size() == 1);
}

void an_owner_takes_all_of_its_own_back() {
    Box box;
    std::mt19937 random(1);
    std::vector<Owner> owners(20);
    std::vector<std::unique_ptr<Piece>> pieces;
    for (int i = 0; i < 2000; ++i) {
        double deadline = headrace::monotonic_s() + 100 + static_cast<double>(random() % 50);
        pieces.push_back(std::make_unique<Piece>(owners[random() % owners.size()], deadline, i));
        box.push(pieces.back().get());
    }
    std::vector<Piece*> removed;
    for (size_t i = 0; i < owners.size(); i += 2) box.remove_all(owners[i], removed);
    std::vector<Piece*> taken, late;
    box.take(10'000, taken, late);
    CHECK(taken.size() + removed.size() == 2000 && box.size() == 0);
    for (size_t i = 1; i < taken.size(); ++i) {
        const Piece &a = *taken[i - 1], &b = *taken[i];
        CHECK(a.deadline < b.deadline || (a.deadline == b.deadline && a.name < b.name));
    }
    for (Piece* piece : removed) CHECK((&piece->whose - owners.data()) % 2 == 0);
}

// What is pushed is taken or removed exactly once, and everybody goes home after the close.
void many_threads() {
    constexpr int kPushers = 3, kTakers = 3, kEach = 4000;
    Box box;
    std::atomic<int> taken_all{0}, removed_all{0};
    std::vector<std::thread> threads;
    std::vector<std::vector<std::unique_ptr<Piece>>> kept(kPushers);
    std::vector<std::vector<Owner>> owners(kPushers);
    std::vector<std::thread> takers;
    for (int t = 0; t < kTakers; ++t) {
        takers.emplace_back([&] {
            for (;;) {
                std::vector<Piece*> taken, late;
                box.take(7, taken, late);
                if (taken.empty() && late.empty()) return;
                taken_all += static_cast<int>(taken.size());
            }
        });
    }
    for (int t = 0; t < kPushers; ++t) {
        owners[t].resize(kEach);
        threads.emplace_back([&, t] {
            std::mt19937 random(t);
            for (int i = 0; i < kEach; ++i) {
                kept[t].push_back(std::make_unique<Piece>(owners[t][i], headrace::monotonic_s() + 60 + random() % 9));
                box.push(kept[t].back().get());
                if (i % 3 == 0) {
                    std::vector<Piece*> removed;
                    box.remove_all(owners[t][i], removed);
                    removed_all += static_cast<int>(removed.size());
                }
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    box.close();
    for (std::thread& taker : takers) taker.join();
    CHECK(taken_all + removed_all == kPushers * kEach);
}

}  // namespace

int main() {
    sooner_comes_first_and_equals_in_order();
    late_ones_are_told_apart_and_do_not_count();
    an_owner_takes_all_of_its_own_back();
    many_threads();
    std::puts("inbox: ok");
}

#include "headrace/door.hpp"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include <chrono>
#include <cstring>

#include "door_calls.hpp"

namespace headrace {
namespace {

constexpr int kPosted = 16;  // calls of a method that core may fill in before we look

std::vector<grpc_arg> arguments(const DoorSettings& settings) {
    std::vector<grpc_arg> all;
    for (const auto& [name, value] : settings.options) {
        grpc_arg argument{};
        argument.type = GRPC_ARG_INTEGER;
        argument.key = const_cast<char*>(name.c_str());
        argument.value.integer = value;
        all.push_back(argument);
    }
    return all;
}

}  // namespace

DoorCore::DoorCore(DoorSettings given, const DoorCertificates& certificates)
    : settings(std::move(given)), credentials_(certificates) {
    stream_names_.resize(settings.methods.size());
    stream_names_.insert(stream_names_.end(), settings.streams.begin(), settings.streams.end());
    first_aside_ = static_cast<int>(stream_names_.size());
    stream_names_.resize(stream_names_.size() + settings.aside_methods.size());
    stream_names_.insert(stream_names_.end(), settings.aside_streams.begin(), settings.aside_streams.end());
}

DoorCore::~DoorCore() {
    if (queue != nullptr) grpc_completion_queue_destroy(queue);
    for (auto& [method, body] : lost_) grpc_byte_buffer_destroy(body);
}

int DoorCore::listen() {
    std::vector<grpc_arg> all = arguments(settings);
    // core checks a message's length when it has all of it: without a quota a caller could announce a gigabyte and send it
    grpc_resource_quota* quota = grpc_resource_quota_create("door");
    grpc_resource_quota_resize(quota, settings.max_buffer_bytes);
    grpc_arg memory{};
    memory.type = GRPC_ARG_POINTER;
    memory.key = const_cast<char*>(GRPC_ARG_RESOURCE_QUOTA);
    memory.value.pointer = {quota, grpc_resource_quota_arg_vtable()};
    all.push_back(memory);
    grpc_channel_args args{all.size(), all.data()};
    queue = grpc_completion_queue_create_for_next(nullptr);
    server = grpc_server_create(&args, nullptr);
    grpc_resource_quota_unref(quota);
    grpc_server_register_completion_queue(server, queue, nullptr);
    registered.resize(stream_names_.size(), nullptr);
    auto enrol = [&](const std::vector<std::string>& names, size_t first) {
        for (size_t i = 0; i < names.size(); ++i) {
            registered[first + i] = grpc_server_register_method(server, names[i].c_str(), nullptr,
                                                                GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
        }
    };
    enrol(settings.methods, 0);
    enrol(settings.aside_methods, first_aside_);
    int port = grpc_server_add_http2_port(server, settings.listen.c_str(), credentials_.get());
    if (port == 0) {
        grpc_server_destroy(std::exchange(server, nullptr));
        grpc_completion_queue_shutdown(queue);
        poll();
        return 0;
    }
    grpc_server_start(server);
    post();
    for (int i = 0; i < settings.pollers; ++i) pollers_.emplace_back([this] { poll(); });
    return port;
}

void DoorCore::post() {
    auto self = shared_from_this();
    for (int i = 0; i < kPosted; ++i) {
        for (size_t method = 0; method < registered.size(); ++method) {
            if (registered[method] != nullptr) UnaryCall::post(self, static_cast<int>(method));
        }
        Stream::post(self);
    }
}

void DoorCore::poll() {
    for (;;) {
        grpc_event event = grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), nullptr);
        if (event.type == GRPC_QUEUE_SHUTDOWN) return;
        static_cast<Event*>(event.tag)->done(event.success != 0);
    }
}

void DoorCore::take(bool aside_ones, size_t limit, std::vector<Request*>& taken) {
    Inbox<Request>& box = aside_ones ? aside : inbox;
    std::vector<Request*> late;
    do {
        late.clear();
        box.take(limit, taken, late);
        for (Request* request : late) {
            ++counts.expired_waiting;
            if (auto* call = dynamic_cast<UnaryCall*>(&request->owner())) call->expire();
            delete request;
        }
    } while (taken.empty() && !late.empty());
}

bool DoorCore::take_place() {
    if (inbox.size() < room_.load(std::memory_order_relaxed)) {
        if (counts.in_flight.fetch_add(1) < settings.max_in_flight) return true;
        --counts.in_flight;
    }
    ++counts.refused_overload;
    return false;
}

void DoorCore::give_place_back() { --counts.in_flight; }

void DoorCore::enqueue(Request* request) {
    if (is_aside(request->method)) return aside.push(request);
    ++counts.accepted;
    inbox.push(request);
}

void DoorCore::drop_waiting(Rpc& rpc, int method) {
    std::vector<Request*> removed;
    (is_aside(method) ? aside : inbox).remove_all(rpc, removed);
    if (removed.empty()) return;
    double now = monotonic_s();
    for (Request* request : removed) {
        ++(request->deadline <= now ? counts.expired_waiting : counts.cancelled_waiting);
        delete request;
    }
}

void DoorCore::lose(int method, grpc_byte_buffer* body) {
    if (is_aside(method)) return grpc_byte_buffer_destroy(body);
    ++counts.dropped_replies;
    std::lock_guard lock(lost_mutex_);
    lost_.emplace_back(method, body);
}

std::vector<std::pair<int, grpc_byte_buffer*>> DoorCore::take_lost() {
    std::lock_guard lock(lost_mutex_);
    return std::exchange(lost_, {});
}

int DoorCore::find_stream(const grpc_slice& name) const {
    for (size_t i = 0; i < stream_names_.size(); ++i) {
        const std::string& ours = stream_names_[i];
        if (!ours.empty() && ours.size() == GRPC_SLICE_LENGTH(name) &&
            std::memcmp(ours.data(), GRPC_SLICE_START_PTR(name), ours.size()) == 0) {
            return static_cast<int>(i);
        }
    }
    return -1;
}

void DoorCore::opened(Stream& stream) {
    ++counts.open_streams;
    std::lock_guard lock(streams_mutex_);
    streams_.insert(&stream);
}

void DoorCore::closed(Stream& stream) {
    --counts.open_streams;
    std::lock_guard lock(streams_mutex_);
    streams_.erase(&stream);
}

bool DoorCore::worth_compressing(const grpc_byte_buffer* body) const {
    if (settings.compress_above_bytes == 0 || body == nullptr) return false;
    return grpc_byte_buffer_length(const_cast<grpc_byte_buffer*>(body)) >
           static_cast<size_t>(settings.compress_above_bytes);
}

void DoorCore::unuse() {
    if (users_.fetch_sub(1) > 1) return;
    std::lock_guard lock(idle_mutex_);
    idle_.notify_all();
}

void DoorCore::Stopped::done(bool) {
    std::lock_guard lock(mutex);
    over = true;
    changed.notify_all();
}

void DoorCore::drain(double grace_s) {
    std::lock_guard once(drain_mutex_);
    if (drained_) return;
    drained_ = draining_ = true;
    if (server != nullptr) {
        {
            std::lock_guard lock(streams_mutex_);
            for (Stream* stream : streams_) stream->leave();
        }
        grpc_server_shutdown_and_notify(server, queue, &stopped_);
        std::unique_lock lock(stopped_.mutex);
        auto over = [&] { return stopped_.over; };
        if (!stopped_.changed.wait_for(lock, std::chrono::duration<double>(grace_s), over)) {
            grpc_server_cancel_all_calls(server);
            stopped_.changed.wait(lock, over);
        }
        lock.unlock();
        closing_ = true;
        std::unique_lock idle(idle_mutex_);
        idle_.wait(idle, [&] { return users_.load() == 0; });
        idle.unlock();
        grpc_server_destroy(std::exchange(server, nullptr));
        grpc_completion_queue_shutdown(queue);
        for (std::thread& poller : pollers_) poller.join();
    }
    inbox.close();
    aside.close();
}

}  // namespace headrace

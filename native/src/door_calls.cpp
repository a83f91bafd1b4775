#include "door_calls.hpp"

#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>

#include <cstring>
#include <limits>

namespace headrace {

double seconds_of(gpr_timespec deadline) {
    if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0) return std::numeric_limits<double>::infinity();
    gpr_timespec at = gpr_convert_clock_type(deadline, GPR_CLOCK_MONOTONIC);
    return static_cast<double>(at.tv_sec) + at.tv_nsec * 1e-9;
}

grpc_op initial_metadata_op() {
    grpc_op op{};
    op.op = GRPC_OP_SEND_INITIAL_METADATA;
    return op;
}

grpc_op message_op(grpc_byte_buffer* body, bool compress) {
    grpc_op op{};
    op.op = GRPC_OP_SEND_MESSAGE;
    op.flags = compress ? 0 : GRPC_WRITE_NO_COMPRESS;
    op.data.send_message.send_message = body;
    return op;
}

grpc_op status_op(int status, const grpc_slice* text) {
    grpc_op op{};
    op.op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    op.data.send_status_from_server.status = static_cast<grpc_status_code>(status);
    op.data.send_status_from_server.status_details = const_cast<grpc_slice*>(text);
    return op;
}

Request::Request(Rpc& rpc, int method, double deadline, grpc_byte_buffer* body)
    : method(method), deadline(deadline), arrived(monotonic_s()), body(body), rpc_(rpc) {
    rpc_.ref();
}

Request::~Request() {
    grpc_byte_buffer_destroy(body);
    rpc_.unref();
}

Rpc::Rpc(std::shared_ptr<DoorCore> core) : core_(std::move(core)) { grpc_metadata_array_init(&metadata_); }

Rpc::~Rpc() {
    grpc_metadata_array_destroy(&metadata_);
    if (call_ != nullptr) grpc_call_unref(call_);
}

void Rpc::start(const grpc_op* ops, size_t n, Event& event) { grpc_call_start_batch(call_, ops, n, &event, nullptr); }

void Rpc::watch_close(Event& event) {
    grpc_op op{};
    op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    op.data.recv_close_on_server.cancelled = &cancelled_;
    start(&op, 1, event);
}

void Rpc::retire() {
    std::shared_ptr<DoorCore> core = core_;
    unref();
    core->unuse();
}

std::string Rpc::peer() const {
    char* name = grpc_call_get_peer(call_);
    std::string text(name);
    gpr_free(name);
    return text;
}

std::vector<std::string> Rpc::identities() const {
    std::vector<std::string> names;
    grpc_auth_context* context = grpc_call_auth_context(call_);
    if (context == nullptr) return names;
    for (const char* kind : {GRPC_X509_SAN_PROPERTY_NAME, GRPC_X509_CN_PROPERTY_NAME}) {
        grpc_auth_property_iterator each = grpc_auth_context_find_properties_by_name(context, kind);
        while (const grpc_auth_property* property = grpc_auth_property_iterator_next(&each)) {
            names.emplace_back(property->value, property->value_length);
        }
    }
    grpc_auth_context_release(context);
    return names;
}

void UnaryCall::post(const std::shared_ptr<DoorCore>& core, int method) {
    auto* call = new UnaryCall(core, method);
    core->use();
    grpc_server_request_registered_call(core->server, core->registered[method], &call->call_, &call->deadline_,
                                        &call->metadata_, &call->payload_, core->queue, core->queue, &call->arrived_);
}

UnaryCall::~UnaryCall() { grpc_byte_buffer_destroy(body_); }

void UnaryCall::on_arrived(bool ok) {
    if (!ok) return retire();
    post(core_, method_);
    accept();
    watch_close(closed_);
}

void UnaryCall::accept() {
    bool aside = core_->is_aside(method_);
    if (!aside && !core_->take_place()) {
        grpc_byte_buffer_destroy(payload_);
        open_ = false;
        return finish(GRPC_STATUS_UNAVAILABLE, "OverloadedError: too many calls in flight; try again", nullptr);
    }
    grpc_status_code status = GRPC_STATUS_UNIMPLEMENTED;  // for no message at all where one is due
    grpc_byte_buffer* body = payload_ == nullptr ? nullptr : core_->readable(payload_, status);
    if (body == nullptr) {
        ++core_->counts.malformed;
        open_ = false;
        if (!aside) core_->give_place_back();
        return finish(status, "InvalidRequestError: no message, or one that is malformed or too large", nullptr);
    }
    core_->enqueue(new Request(*this, method_, seconds_of(deadline_), body));
}

bool UnaryCall::answer(Request& request, Answer&& answer) {
    // gRPC's core has told a caller whose deadline passed, or is about to
    bool late = request.deadline <= monotonic_s();
    if (!open_.exchange(false)) late = true;
    else if (!core_->is_aside(method_)) core_->give_place_back();
    if (late) {
        grpc_byte_buffer_destroy(answer.body);
        ++core_->counts.dropped_replies;
        return false;
    }
    finish(answer.status, answer.message, answer.body);
    return true;
}

bool UnaryCall::send(grpc_byte_buffer* body) {
    grpc_byte_buffer_destroy(body);
    return false;
}

void UnaryCall::expire() {
    if (open_.exchange(false) && !core_->is_aside(method_)) core_->give_place_back();
}

void UnaryCall::finish(int status, const std::string& text, grpc_byte_buffer* body) {
    ref();
    body_ = body;
    if (status == 0) {
        grpc_op ops[] = {initial_metadata_op(), message_op(body_, core_->worth_compressing(body_)), status_op(0, nullptr)};
        return start(ops, 3, sent_);
    }
    grpc_slice details = grpc_slice_from_copied_buffer(text.data(), text.size());
    grpc_op ops[] = {initial_metadata_op(), status_op(status, &details)};
    start(ops, 2, sent_);
    grpc_slice_unref(details);
}

void UnaryCall::on_sent(bool) { unref(); }

void UnaryCall::on_closed(bool) {
    if (open_.exchange(false)) {
        if (!core_->is_aside(method_)) core_->give_place_back();
        core_->drop_waiting(*this, method_);
    }
    retire();
}

}  // namespace headrace

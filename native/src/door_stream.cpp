#include <grpc/byte_buffer.h>
#include <grpc/slice.h>

#include "door_calls.hpp"

namespace headrace {

Stream::Stream(std::shared_ptr<DoorCore> core) : Rpc(std::move(core)) { grpc_call_details_init(&details_); }

Stream::~Stream() {
    for (grpc_byte_buffer* body : answers_) grpc_byte_buffer_destroy(body);
    grpc_call_details_destroy(&details_);
}

void Stream::post(const std::shared_ptr<DoorCore>& core) {
    auto* stream = new Stream(core);
    core->use();
    grpc_server_request_call(core->server, &stream->call_, &stream->details_, &stream->metadata_, core->queue,
                             core->queue, &stream->arrived_);
}

void Stream::on_arrived(bool ok) {
    if (!ok) return retire();
    post(core_);
    method_ = core_->find_stream(details_.method);
    deadline_ = seconds_of(details_.deadline);
    if (method_ < 0) {
        ++core_->counts.unknown_methods;
        refuse(GRPC_STATUS_UNIMPLEMENTED, "this server does not know the method");
    } else if (!core_->is_aside(method_) && !core_->take_place()) {
        refuse(GRPC_STATUS_UNAVAILABLE, "OverloadedError: too many calls in flight; try again");
    } else {
        counted_ = !core_->is_aside(method_);
        if (counted_) core_->opened(*this);
        std::lock_guard lock(mutex_);
        // a drain that began before this stream was listed did not tell it
        if (counted_ && core_->is_draining()) leaving_ = true;
        read_more();
        write_more();
    }
    watch_close(closed_);
}

void Stream::refuse(int status, const std::string& text) {
    std::lock_guard lock(mutex_);
    ending_ = true;
    finish(status, text);
}

void Stream::read_more() {
    bool full = unanswered_ >= core_->settings.max_stream_messages;
    if (reading_ || half_closed_ || leaving_ || ends() || full) return;
    reading_ = true;
    ref();
    grpc_op op{};
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &payload_;
    start(&op, 1, read_);
}

void Stream::on_read(bool ok) {
    Request* request = nullptr;
    {
        std::lock_guard lock(mutex_);
        reading_ = false;
        grpc_byte_buffer* payload = std::exchange(payload_, nullptr);
        if (ends()) {
            grpc_byte_buffer_destroy(payload);
        } else if (!ok || payload == nullptr) {
            half_closed_ = true;
            write_more();
        } else {
            grpc_status_code status;
            grpc_byte_buffer* body = core_->readable(payload, status);
            if (body == nullptr) {
                ++core_->counts.malformed;
                ending_ = true;
                status_ = status;
                text_ = "InvalidRequestError: a message is malformed or too large";
                write_more();
            } else {
                ++unanswered_;
                request = new Request(*this, method_, deadline_, body);
                // within the lock: whoever ends the stream takes out what waits
                core_->enqueue(request);
                read_more();
            }
        }
    }
    unref();
}

bool Stream::answer(Request& request, Answer&& answer) {
    std::lock_guard lock(mutex_);
    if (ends() || request.answered.exchange(true) || request.deadline <= monotonic_s()) {
        grpc_byte_buffer_destroy(answer.body);
        ++core_->counts.dropped_replies;
        return false;
    }
    if (answer.status != 0) {
        grpc_byte_buffer_destroy(answer.body);
        ending_ = true;
        status_ = answer.status;
        text_ = std::move(answer.message);
    } else {
        answers_.push_back(answer.body);
    }
    write_more();
    if (ending_) core_->drop_waiting(*this, method_);
    return true;
}

bool Stream::send(grpc_byte_buffer* body) {
    std::lock_guard lock(mutex_);
    if (ends()) {
        grpc_byte_buffer_destroy(body);
        return false;
    }
    ++unanswered_;  // its writing takes one off
    answers_.push_back(body);
    write_more();
    return true;
}

void Stream::end() {
    std::lock_guard lock(mutex_);
    if (ends()) return;
    ending_ = true;
    write_more();
}

bool Stream::open() {
    std::lock_guard lock(mutex_);
    return !ends();
}

void Stream::leave() {
    std::lock_guard lock(mutex_);
    leaving_ = true;
    write_more();
}

void Stream::write_more() {
    if (writing_ || finished_ || gone_) return;
    if (!answers_.empty()) {
        writing_ = true;
        ref();
        grpc_op ops[2];
        size_t n = 0;
        if (!began_) ops[n++] = initial_metadata_op();
        began_ = true;
        ops[n] = message_op(answers_.front(), core_->worth_compressing(answers_.front()));
        // what follows at once may share a packet
        if (answers_.size() > 1) ops[n].flags |= GRPC_WRITE_BUFFER_HINT;
        return start(ops, n + 1, written_);
    }
    if (ending_) return finish(status_, text_);
    if (unanswered_ > 0) return;
    if (half_closed_) return finish(GRPC_STATUS_OK, "");
    if (leaving_) finish(GRPC_STATUS_UNAVAILABLE, "UnavailableError: the server is shutting down");
}

void Stream::on_written(bool ok) {
    {
        std::lock_guard lock(mutex_);
        writing_ = false;
        --unanswered_;
        grpc_byte_buffer_destroy(answers_.front());
        answers_.pop_front();
        if (!ok) gone_ = true;
        if (gone_) lose_rest();
        write_more();
        read_more();
    }
    unref();
}

void Stream::finish(int status, const std::string& text) {
    ref();
    ending_ = finished_ = true;
    grpc_slice details = grpc_slice_from_copied_buffer(text.data(), text.size());
    grpc_op ops[2];
    size_t n = 0;
    if (!began_) ops[n++] = initial_metadata_op();
    began_ = true;
    ops[n] = status_op(status, &details);
    start(ops, n + 1, finished_event_);
    grpc_slice_unref(details);
}

void Stream::lose_rest() {
    auto first = answers_.begin() + (writing_ ? 1 : 0);
    for (auto body = first; body != answers_.end(); ++body) core_->lose(method_, *body);
    answers_.erase(first, answers_.end());
}

void Stream::on_finished(bool) { unref(); }

void Stream::on_closed(bool) {
    if (counted_) {
        core_->closed(*this);
        core_->give_place_back();
    }
    {
        std::lock_guard lock(mutex_);
        gone_ = true;
        lose_rest();
        core_->drop_waiting(*this, method_);
    }
    retire();
}

}  // namespace headrace

// The Python face of the door, an extension of its own: headrace._native works where gRPC's library is absent.
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "door_log.hpp"
#include "headrace/door.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace headrace {
namespace {

nb::bytes bytes_of(grpc_byte_buffer* body) {
    const grpc_slice_buffer& slices = body->data.raw.slice_buffer;
    PyObject* bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(slices.length));
    if (bytes == nullptr) throw nb::python_error();
    char* to = PyBytes_AS_STRING(bytes);
    for (size_t i = 0; i < slices.count; ++i) {
        size_t length = GRPC_SLICE_LENGTH(slices.slices[i]);
        memcpy(to, GRPC_SLICE_START_PTR(slices.slices[i]), length);
        to += length;
    }
    return nb::steal<nb::bytes>(bytes);
}

grpc_byte_buffer* buffer_of(PyObject* bytes) {
    char* data;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(bytes, &data, &length) != 0) throw nb::python_error();
    grpc_slice slice = grpc_slice_from_copied_buffer(data, static_cast<size_t>(length));
    grpc_byte_buffer* body = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return body;
}

nb::str text_of(const grpc_slice& slice) {
    auto* data = reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice));
    auto length = static_cast<Py_ssize_t>(GRPC_SLICE_LENGTH(slice));
    PyObject* text = PyUnicode_DecodeLatin1(data, length, nullptr);
    if (text == nullptr) throw nb::python_error();
    return nb::steal<nb::str>(text);
}

bool is_binary(const grpc_slice& key) {
    size_t length = GRPC_SLICE_LENGTH(key);
    return length >= 4 && memcmp(GRPC_SLICE_START_PTR(key) + length - 4, "-bin", 4) == 0;
}

// One call as workers see it: what headrace.front.Call has, what is rarely asked for made on demand.
class PyCall {
   public:
    PyCall(Request* request, nb::str method)
        : method(std::move(method)), body(bytes_of(request->body)), request_(request) {}
    PyCall(PyCall&&) noexcept = default;

    Request& request() const { return *request_; }
    Rpc& rpc() const { return request_->owner(); }

    nb::object metadata() {
        if (metadata_.is_valid()) return metadata_;
        nb::dict all;
        const grpc_metadata_array& pairs = rpc().metadata();
        for (size_t i = 0; i < pairs.count; ++i) {
            const grpc_metadata& pair = pairs.metadata[i];
            if (!is_binary(pair.key)) all[text_of(pair.key)] = text_of(pair.value);
        }
        return metadata_ = all;
    }

    nb::object identities() {
        if (identities_.is_valid()) return identities_;
        nb::list names;
        for (const std::string& name : rpc().identities()) names.append(nb::str(name.data(), name.size()));
        return identities_ = nb::tuple(names);
    }

    nb::object caller() const { return caller_.is_valid() ? caller_ : nb::str(""); }
    void set_caller(nb::str name) { caller_ = std::move(name); }

    nb::str method;
    nb::bytes body;

   private:
    std::unique_ptr<Request> request_;
    nb::object metadata_, identities_, caller_;
};

struct Outgoing {
    Request* request;
    Answer answer;
};

// The attributes of headrace.front.Reply.
Answer answer_of(nb::handle reply) {
    static PyObject* const status = PyUnicode_InternFromString("status");
    static PyObject* const message = PyUnicode_InternFromString("message");
    static PyObject* const body = PyUnicode_InternFromString("body");
    Answer answer;
    answer.status = nb::cast<int>(nb::steal(PyObject_GetAttr(reply.ptr(), status)));
    if (answer.status != 0) {
        answer.message = nb::cast<std::string>(nb::steal(PyObject_GetAttr(reply.ptr(), message)));
    } else {
        nb::object bytes = nb::steal(PyObject_GetAttr(reply.ptr(), body));
        if (!bytes.is_valid()) throw nb::python_error();
        answer.body = buffer_of(bytes.ptr());
    }
    return answer;
}

class PyDoor {
   public:
    PyDoor(DoorSettings settings, const DoorCertificates& certificates)
        : core_(std::make_shared<DoorCore>(std::move(settings), certificates)) {
        const DoorSettings& all = core_->settings;
        for (const auto* names : {&all.methods, &all.streams, &all.aside_methods, &all.aside_streams}) {
            for (const std::string& name : *names) {
                methods_.push_back(nb::steal<nb::str>(PyUnicode_InternFromString(name.c_str())));
            }
        }
    }
    ~PyDoor() { drain(0); }

    int listen() {
        nb::gil_scoped_release unlocked;
        return core_->listen();
    }

    void drain(double grace_s) {
        nb::gil_scoped_release unlocked;
        core_->drain(grace_s);
    }

    nb::list next_batch(size_t limit) { return take(false, limit); }
    nb::list next_aside(size_t limit) { return take(true, limit); }

    nb::list reply(nb::sequence calls, nb::sequence replies) {
        size_t n = nb::len(calls);
        if (n != nb::len(replies)) {
            throw nb::value_error(nb::len(replies) < n ? "replies is shorter than calls" : "replies is longer than calls");
        }
        std::vector<Outgoing> outgoing(n);
        for (size_t i = 0; i < n; ++i) outgoing[i].request = &nb::cast<PyCall&>(calls[i]).request();
        try {
            for (size_t i = 0; i < n; ++i) outgoing[i].answer = answer_of(replies[i]);
        } catch (...) {
            for (Outgoing& each : outgoing) grpc_byte_buffer_destroy(each.answer.body);
            throw;
        }
        std::vector<size_t> dropped;
        {
            nb::gil_scoped_release unlocked;
            DoorCore::Hold held(*core_);
            for (size_t i = 0; i < n; ++i) {
                Request& request = *outgoing[i].request;
                if (!held) {
                    grpc_byte_buffer_destroy(outgoing[i].answer.body);
                    ++core_->counts.dropped_replies;
                    dropped.push_back(i);
                } else if (!request.owner().answer(request, std::move(outgoing[i].answer))) {
                    dropped.push_back(i);
                }
            }
        }
        nb::list positions;
        for (size_t i : dropped) positions.append(i);
        return positions;
    }

    bool send(PyCall& call, nb::bytes body) {
        grpc_byte_buffer* buffer = buffer_of(body.ptr());
        nb::gil_scoped_release unlocked;
        DoorCore::Hold held(*core_);
        if (held) return call.rpc().send(buffer);
        grpc_byte_buffer_destroy(buffer);
        return false;
    }

    void end(PyCall& call) {
        nb::gil_scoped_release unlocked;
        DoorCore::Hold held(*core_);
        if (held) call.rpc().end();
    }

    nb::list take_lost() {
        nb::list all;
        for (auto& [method, body] : core_->take_lost()) {
            nb::bytes bytes = bytes_of(body);
            grpc_byte_buffer_destroy(body);
            all.append(nb::make_tuple(methods_[static_cast<size_t>(method)], bytes));
        }
        return all;
    }

    void set_room(size_t calls) { core_->set_room(calls); }

    nb::dict stats() const {
        const DoorCounts& counts = core_->counts;
        nb::dict all;
        all["accepted"] = counts.accepted.load();
        all["refused_overload"] = counts.refused_overload.load();
        all["expired_waiting"] = counts.expired_waiting.load();
        all["cancelled_waiting"] = counts.cancelled_waiting.load();
        all["dropped_replies"] = counts.dropped_replies.load();
        all["malformed"] = counts.malformed.load();
        all["unknown_methods"] = counts.unknown_methods.load();
        all["in_flight"] = counts.in_flight.load();
        all["open_streams"] = counts.open_streams.load();
        all["waiting"] = core_->inbox.size();
        return all;
    }

   private:
    nb::list take(bool aside, size_t limit) {
        std::vector<Request*> taken;
        {
            nb::gil_scoped_release unlocked;
            core_->take(aside, limit, taken);
        }
        nb::list calls;
        for (Request* request : taken) calls.append(nb::cast(PyCall(request, methods_[request->method])));
        return calls;
    }

    std::shared_ptr<DoorCore> core_;
    std::vector<nb::str> methods_;
};

DoorSettings settings_of(const std::string& listen, nb::dict methods, nb::dict limits,
                         std::vector<std::pair<std::string, int>> options) {
    DoorSettings settings;
    settings.listen = listen;
    auto names = [&](const char* key) { return nb::cast<std::vector<std::string>>(methods[key]); };
    settings.methods = names("methods");
    settings.streams = names("streams");
    settings.aside_methods = names("aside_methods");
    settings.aside_streams = names("aside_streams");
    auto limit = [&](const char* key) { return nb::cast<int>(limits[key]); };
    settings.max_message_bytes = limit("max_message_bytes");
    settings.max_in_flight = limit("max_in_flight");
    settings.max_stream_messages = limit("max_stream_messages");
    settings.compress_above_bytes = limit("compress_above_bytes");
    settings.max_buffer_bytes = nb::cast<int64_t>(limits["max_buffer_bytes"]);
    settings.pollers = limit("pollers");
    settings.options = std::move(options);
    return settings;
}

}  // namespace

void bind_door(nb::module_& m) {
    nb::class_<PyCall>(m, "Call")
        .def_ro("method", &PyCall::method)
        .def_ro("body", &PyCall::body)
        .def_prop_ro("deadline", [](const PyCall& call) { return call.request().deadline; })
        .def_prop_ro("arrived", [](const PyCall& call) { return call.request().arrived; })
        .def_prop_ro("peer", [](const PyCall& call) { return call.rpc().peer(); })
        .def_prop_ro("metadata", &PyCall::metadata)
        .def_prop_ro("identities", &PyCall::identities)
        .def_prop_rw("caller", &PyCall::caller, &PyCall::set_caller)
        .def_prop_ro("ticket", [](nb::handle_t<PyCall> call) { return nb::borrow(call); })
        .def_prop_ro("open", [](const PyCall& call) { return call.rpc().open(); });
    nb::class_<PyDoor>(m, "Door")
        .def("__init__",
             [](PyDoor* self, const std::string& listen, nb::dict methods, nb::dict limits,
                std::vector<std::pair<std::string, int>> options, const std::string& certificate,
                const std::string& key, const std::string& client_ca, bool require_client_certificate) {
                 DoorCertificates files{certificate, key, client_ca, require_client_certificate};
                 new (self) PyDoor(settings_of(listen, methods, limits, std::move(options)), files);
             },
             "listen"_a, "methods"_a, "limits"_a, "options"_a, "certificate"_a = "", "key"_a = "",
             "client_ca"_a = "", "require_client_certificate"_a = false)
        .def("listen", &PyDoor::listen)
        .def("next_batch", &PyDoor::next_batch, "limit"_a)
        .def("next_aside", &PyDoor::next_aside, "limit"_a)
        .def("reply", &PyDoor::reply, "calls"_a, "replies"_a)
        .def("send", &PyDoor::send, "call"_a, "body"_a)
        .def("end", &PyDoor::end, "call"_a)
        .def("stats", &PyDoor::stats)
        .def("take_lost", &PyDoor::take_lost)
        .def("set_room", &PyDoor::set_room, "calls"_a)
        .def("drain", &PyDoor::drain, "grace_s"_a);
}

}  // namespace headrace

NB_MODULE(_door, m) {
    m.doc() = "Headrace's native door.";
    // a door may live as long as the interpreter does
    nb::set_leak_warnings(false);
    headrace::ration_log();
    headrace::bind_door(m);
}

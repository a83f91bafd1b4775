// The Python face of the recommendation codec: what stays in Python is one entry a request, none an item.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "arrays.hpp"
#include "bindings.hpp"
#include "headrace/slate_codec.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace headrace {
namespace {

std::string_view view(nb::handle bytes) {
    if (!PyBytes_Check(bytes.ptr())) throw nb::type_error("a request's body must be bytes");
    return {PyBytes_AS_STRING(bytes.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(bytes.ptr()))};
}

nb::str text(std::string_view value) { return nb::str(value.data(), value.size()); }

template <typename T>
nb::object column(const std::vector<T>& values) {
    auto* data = new T[values.size() ? values.size() : 1];
    std::copy(values.begin(), values.end(), data);
    nb::capsule owner(data, [](void* pointer) noexcept { delete[] static_cast<T*>(pointer); });
    return nb::cast(nb::ndarray<T, nb::numpy, nb::ndim<1>>(data, {values.size()}, owner));
}

// The name of a subject, as headrace.events.identity makes it.
nb::str name_of(const SlateRequest& request) {
    if (!request.user_id.empty()) return text(request.user_id);
    if (request.anonymous_id.empty()) return text({});
    std::string name(1, '\0');
    return text(name.append(request.anonymous_id));
}

// Columns of the good requests, in order, and the positions of the others.
nb::tuple read_requests(nb::list bodies, const ItemRows& items, size_t id_bytes, size_t label_bytes, size_t exclusions,
                        size_t session, uint32_t most, uint32_t usual, int32_t policies) {
    SlateLimits bounds{id_bytes, label_bytes, exclusions, session, most, policies};
    nb::list names, surfaces, min_sequences;
    std::vector<int32_t> limits, excluded_rows, session_rows;
    std::vector<int8_t> repeat_policies, attributes;
    std::vector<int64_t> excluded{0}, sessions{0}, bad;
    size_t n = bodies.size();
    for (size_t i = 0; i < n; ++i) {
        SlateRequest request;
        if (!read_slate_request(view(bodies[i]), request) || !within_limits(request, bounds)) {
            bad.push_back(static_cast<int64_t>(i));
            continue;
        }
        names.append(name_of(request));
        surfaces.append(text(request.surface));
        min_sequences.append(request.min_sequence);
        limits.push_back(static_cast<int32_t>(request.has_limit ? request.limit : usual));
        repeat_policies.push_back(static_cast<int8_t>(request.repeat_policy));
        attributes.push_back(request.include_attributes);
        for (std::string_view id : request.exclude_item_ids) {
            int32_t row = items.find(id);
            if (row >= 0) excluded_rows.push_back(row);
        }
        excluded.push_back(static_cast<int64_t>(excluded_rows.size()));
        for (std::string_view id : request.session_item_ids) {
            int32_t row = items.find(id);
            if (row >= 0) session_rows.push_back(row);
        }
        sessions.push_back(static_cast<int64_t>(session_rows.size()));
    }
    return nb::make_tuple(names, surfaces, min_sequences, column(limits), column(repeat_policies), column(excluded),
                          column(excluded_rows), column(sessions), column(session_rows), column(attributes),
                          column(bad));
}

nb::object split_batch(nb::bytes body) {
    std::vector<std::string_view> requests;
    if (!split_slate_batch(view(body), requests)) return nb::none();
    nb::list out;
    for (std::string_view request : requests) out.append(nb::bytes(request.data(), request.size()));
    return out;
}

nb::bytes join_batch(nb::list responses) {
    std::string out;
    WireWriter writer(out);
    for (nb::handle response : responses) writer.text(1, view(response));
    return nb::bytes(out.data(), out.size());
}

nb::list write_slates(const ItemRows& items, nb::list request_ids, const std::string& artifact_version,
                      uint64_t event_sequence, In<int32_t> tiers, int32_t cold_tier, InTable<int32_t> rows,
                      InTable<float> scores, In<int32_t> counts) {
    size_t n = request_ids.size(), k = rows.shape(1);
    if (tiers.shape(0) != n || rows.shape(0) != n || scores.shape(0) != n || scores.shape(1) != k ||
        counts.shape(0) != n)
        throw std::invalid_argument("arrays of one batch differ in length");
    nb::list out;
    std::string buffer;
    for (size_t i = 0; i < n; ++i) {
        if (counts(i) < 0 || static_cast<size_t>(counts(i)) > k) throw std::invalid_argument("counts: beyond the rows");
        auto count = static_cast<size_t>(counts(i));
        for (size_t j = 0; j < count; ++j)
            if (rows(i, j) < 0 || static_cast<size_t>(rows(i, j)) >= items.size())
                throw std::invalid_argument("rows: beyond the items");
        nb::str id(request_ids[i]);
        SlateAnswer answer{id.c_str(), artifact_version, event_sequence, tiers(i), tiers(i) == cold_tier,
                           rows.data() + i * k, scores.data() + i * k, count};
        buffer.clear();
        write_slate(answer, items, buffer);
        out.append(nb::bytes(buffer.data(), buffer.size()));
    }
    return out;
}

nb::str json_ids(const ItemRows& items, In<int32_t> rows) {
    for (size_t i = 0; i < rows.shape(0); ++i)
        if (rows(i) < 0 || static_cast<size_t>(rows(i)) >= items.size())
            throw std::invalid_argument("rows: beyond the items");
    std::string out;
    write_json_ids(items, rows.data(), rows.shape(0), out);
    return text(out);
}

void check_row(const ItemRows& items, size_t row) {
    if (row >= items.size()) throw nb::index_error("no such row");
}

std::string_view utf8(nb::str value) {
    Py_ssize_t size = 0;
    const char* data = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
    if (!data) throw nb::python_error();
    return {data, static_cast<size_t>(size)};
}

void fill(ItemRows& items, In<int64_t> offsets, In<uint8_t> blob) {
    if (!offsets.shape(0) || offsets(0) != 0) throw std::invalid_argument("offsets: must begin with 0");
    size_t n = offsets.shape(0) - 1, size = blob.shape(0);
    items.reserve(n, size);
    for (size_t i = 0; i < n; ++i) {
        if (offsets(i) > offsets(i + 1) || offsets(i + 1) > static_cast<int64_t>(size))
            throw std::invalid_argument("offsets: beyond the blob");
        auto first = static_cast<size_t>(offsets(i)), last = static_cast<size_t>(offsets(i + 1));
        items.add({reinterpret_cast<const char*>(blob.data()) + first, last - first});
    }
}

}  // namespace

// All of it with the GIL: a batch takes some microseconds, and the GIL guards the rows against those who add to them.
void bind_slates(nb::module_& m) {
    nb::class_<ItemRows>(m, "ItemRows")
        .def(
            "__init__",
            [](ItemRows* self, In<int64_t> offsets, In<uint8_t> blob) {
                new (self) ItemRows();
                nb::gil_scoped_release unlocked;
                fill(*self, offsets, blob);
            },
            "offsets"_a.noconvert(), "blob"_a.noconvert())
        .def("__len__", &ItemRows::size)
        .def("id", [](const ItemRows& self, size_t row) { return check_row(self, row), text(self.id(row)); }, "row"_a)
        .def("find", [](const ItemRows& self, nb::str id) { return self.find(utf8(id)); }, "item_id"_a)
        .def("add", [](ItemRows& self, nb::str id) { return self.add(utf8(id)); }, "item_id"_a)
        .def("price", [](const ItemRows& self, size_t row) { return check_row(self, row), self.price(row); }, "row"_a)
        .def(
            "set_price",
            [](ItemRows& self, size_t row, int64_t micros) { check_row(self, row), self.set_price(row, micros); },
            "row"_a, "price_micros"_a)
        .def("json_ids", &json_ids, "rows"_a.noconvert());
    m.def("read_slate_requests", &read_requests, "bodies"_a, "items"_a, "max_id_bytes"_a, "max_label_bytes"_a,
          "max_exclusions"_a, "max_session"_a, "max_limit"_a, "default_limit"_a, "n_policies"_a);
    m.def("split_slate_batch", &split_batch, "body"_a);
    m.def("join_slate_batch", &join_batch, "responses"_a);
    m.def("write_slates", &write_slates, "items"_a, "request_ids"_a, "artifact_version"_a, "event_sequence"_a,
          "tiers"_a.noconvert(), "cold_tier"_a, "rows"_a.noconvert(), "scores"_a.noconvert(), "counts"_a.noconvert());
}

}  // namespace headrace

"""The API of a release stays readable for clients of the release before."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "headrace_v1.json"
FILES = sorted(path.stem for path in (ROOT / "proto" / "headrace" / "v1").glob("*.proto"))


def describe(file: FileDescriptor) -> dict[str, object]:
    """Names, numbers and types of all that a client's bytes depend on."""
    described: dict[str, object] = {}
    for message in file.message_types_by_name.values():
        described[message.full_name] = {
            field.name: [field.number, field.type, field.is_repeated] for field in message.fields
        }
    for enum in file.enum_types_by_name.values():
        described[enum.full_name] = {value.name: value.number for value in enum.values}
    for service in file.services_by_name.values():
        described[service.full_name] = {
            method.name: [method.input_type.full_name, method.output_type.full_name] for method in service.methods
        }
    return described


def descriptors(name: str) -> FileDescriptor:
    module = importlib.import_module(f"headrace.v1.{name}_pb2")
    descriptor: FileDescriptor = module.DESCRIPTOR
    return descriptor


def test_nothing_released_has_changed() -> None:
    now = {key: value for name in FILES for key, value in describe(descriptors(name)).items()}
    for full_name, members in json.loads(GOLDEN.read_text()).items():
        assert full_name in now, f"{full_name} was released and is gone"
        current = now[full_name]
        assert isinstance(current, dict)
        for member, shape in members.items():
            assert current.get(member) == shape, f"{full_name}.{member} was released as {shape}"


@pytest.mark.parametrize("name", FILES)
def test_conventions(name: str) -> None:
    file = descriptors(name)
    assert file.package == "headrace.v1"
    assert len(file.services_by_name) == 1
    for service in file.services_by_name.values():
        assert service.name.endswith("Service")
        for method in service.methods:
            assert method.input_type.name == f"{method.name}Request"
            assert method.output_type.name == f"{method.name}Response"
    for enum in file.enum_types_by_name.values():
        assert enum.values_by_number[0].name.endswith("_UNSPECIFIED")

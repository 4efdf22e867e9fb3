"""Datum: what a protobuf library reads and writes by Caffe's definition, we do too."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from train.records.datum import Datum, decode, encode


def _message():
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="datum.proto", package="d", syntax="proto2")
    message = file.message_type.add(name="Datum")
    for number, (name, kind) in enumerate(
        [
            ("channels", kinds.TYPE_INT32),
            ("height", kinds.TYPE_INT32),
            ("width", kinds.TYPE_INT32),
            ("data", kinds.TYPE_BYTES),
            ("label", kinds.TYPE_INT32),
            ("float_data", kinds.TYPE_FLOAT),
            ("encoded", kinds.TYPE_BOOL),
        ],
        start=1,
    ):
        label = kinds.LABEL_REPEATED if name == "float_data" else kinds.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=kind, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("d.Datum"))


Message = _message()
INT32 = st.integers(-(2**31), 2**31 - 1)


@given(st.binary(max_size=300), INT32)
def test_an_encoded_image_is_the_message_that_a_protobuf_library_writes(data, label):
    expected = Message(data=data, label=label, encoded=True).SerializeToString()
    assert encode(Datum(data, label, encoded=True)) == expected


@given(st.binary(max_size=300), INT32, *[st.integers(0, 2**31 - 1)] * 3)
def test_a_raw_image_is_too(data, label, channels, height, width):
    message = Message(
        channels=channels, height=height, width=width, data=data, label=label, encoded=False
    )
    datum = Datum(data, label, False, channels, height, width)
    assert encode(datum) == message.SerializeToString()


@given(
    st.binary(max_size=300), INT32, st.booleans(), INT32, st.lists(st.floats(width=32), max_size=5)
)
def test_whatever_such_a_library_writes_is_read(data, label, encoded, height, floats):
    message = Message(data=data, label=label, encoded=encoded, height=height, float_data=floats)
    found = decode(message.SerializeToString())
    assert (bytes(found.data), found.label, found.encoded) == (data, label, encoded)
    assert (found.height, found.channels, found.floats) == (height, 0, len(floats))


def test_fields_in_another_order_and_unknown_ones_are_passed_over():
    unknown = b"\x7a\x03abc" + b"\x81\x01" + bytes(8) + b"\x85\x01" + bytes(4) + b"\x60\x05"
    late = Message(label=7).SerializeToString() + unknown + Message(data=b"xy").SerializeToString()
    assert (bytes(decode(late).data), decode(late).label) == (b"xy", 7)


def test_the_data_is_a_view_of_the_message():
    message = bytearray(encode(Datum(b"abc", 1, True)))
    found = decode(message)
    message[2] = ord("z")
    assert bytes(found.data) == b"zbc"


@given(st.integers(0, 40))
def test_a_truncated_message_is_refused_or_its_fields_were_whole(length):
    message = encode(Datum(bytes(30), 300, False, 3, 2, 5))
    try:
        found = decode(message[:length])
    except ValueError as error:
        assert "truncated" in str(error)  # noqa: PT017  either is right
    else:
        assert len(found.data) in (0, 30)


@pytest.mark.parametrize("junk", [b"\xff" * 12, b"\x0b", b"\x24\x00", b"\x80" * 11])
def test_bytes_that_are_no_message_are_refused(junk):
    with pytest.raises(ValueError, match="byte 0"):
        decode(junk)

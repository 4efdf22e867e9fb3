"""RecordIO: byte for byte what MXNet writes, found from any place, and what damage gets."""

import random
import struct
from pathlib import Path

import pytest

from train.errors import InputError
from train.records import image_record
from train.records.record_index import read_index
from train.records.recordio import MAGIC, MOST_BYTES, RecordFile, encode

MXNET = Path(__file__).parent / "data" / "mxnet.rec"
WORD = struct.pack("<I", MAGIC)


@pytest.fixture
def file(in_tmp):
    def write(data):
        Path("a.rec").write_bytes(data)
        return RecordFile("a.rec")

    return write


def payloads(seed, count=60):
    print("seed", seed)
    draw = random.Random(seed)
    pieces = [WORD, WORD, b"a", b"abcd", bytes(4), WORD[:2]]
    return [b"".join(draw.choices(pieces, k=draw.randrange(20))) for _ in range(count)]


def test_what_mxnet_wrote_is_read_and_written_again_byte_for_byte():
    found = [bytes(payload) for payload in RecordFile(MXNET).records()]
    words = [payload.count(WORD) for payload in found]
    assert words == [0, 3, 1, 2, 6, 4, 7]
    assert b"".join(map(encode, found)) == MXNET.read_bytes()


def test_several_labels_and_the_key_are_what_mxnet_packed():
    found = [image_record.unpack(payload) for payload in RecordFile(MXNET).records()]
    labels = [record.labels for record in found]
    assert labels == [(2,), (0,), (1, 0.5, 7), (1,), (2,), (0, -3), (1,)]
    assert [record.identity for record in found] == [0, 3, 1, 2, 6, 4, 5]
    for payload, record in zip(RecordFile(MXNET).records(), found, strict=True):
        again = image_record.pack(record.labels, record.identity, bytes(record.image))
        assert again == bytes(payload)


@pytest.mark.parametrize("seed", range(5))
def test_any_payload_comes_back_in_sequence_and_at_random(file, seed):
    expected = payloads(seed)
    records = file(b"".join(map(encode, expected)))
    assert list(map(bytes, records.records())) == expected
    heads = list(records.heads(10))
    assert [head.begin for head in heads] == [payload[:10] for payload in expected]
    for head, payload in zip(heads, expected, strict=True):
        assert records.read(head.offset) == (payload, head.end)
        assert bytes(records.read(head.offset, head.end)[0]) == payload


def test_the_next_record_is_found_from_every_byte(file):
    records = file(b"".join(map(encode, payloads(7))))
    offsets = [head.offset for head in records.heads(0)]
    for begin in range(records.size + 5):
        expected = next((offset for offset in offsets if offset >= begin), records.size)
        assert records.find_head(begin) == expected


def test_a_head_astride_two_reads_is_found(file, monkeypatch):
    monkeypatch.setattr("train.records.recordio._SEARCH_BYTES", 8)
    records = file(b"".join(map(encode, payloads(8))))
    offsets = [head.offset for head in records.heads(0)]
    for begin in range(0, records.size, 4):
        expected = next((offset for offset in offsets if offset >= begin), records.size)
        assert records.find_head(begin) == expected


def test_a_record_larger_than_one_read_is_whole(file):
    large = bytes(range(256)) * 5000
    records = file(encode(b"small") + encode(large) + encode(b"end"))
    assert list(map(bytes, records.records())) == [b"small", large, b"end"]


def test_a_record_too_long_for_its_29_bits_is_refused():
    class Long(bytes):
        def __len__(self):
            return MOST_BYTES + 1

    with pytest.raises(ValueError, match="at most 536870911 bytes"):
        encode(Long())


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_truncated_file_is_named_with_the_byte_of_its_last_record(file, cut):
    whole = encode(b"first") + encode(b"abcdefghijk")
    records = file(whole[:-cut])
    for read in (lambda: list(records.records()), lambda: list(records.heads(0))):
        with pytest.raises(InputError, match=r"a.rec: byte 16: truncated"):
            read()


def test_a_wrong_magic_is_named_with_its_byte(file):
    records = file(encode(b"first") + b"\1\2\3\4" + encode(b"second")[4:])
    for read in (lambda: list(records.records()), lambda: records.read(16)):
        with pytest.raises(InputError, match=r"a.rec: byte 16: wrong magic 0x04030201"):
            read()


def test_the_middle_of_a_record_is_not_taken_for_one(file):
    records = file(encode(b"abcd" + WORD + b"efgh"))
    with pytest.raises(InputError, match="byte 12: the middle of a record"):
        records.read(12)


def test_a_record_that_never_ends_is_named(file):
    parts = encode(b"abcd" + WORD + b"efgh")
    records = file(parts[:12] + encode(b"new"))
    with pytest.raises(InputError, match="byte 12: a new record before the one before it"):
        records.read(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0\t0\n1 16\n", "a.idx:2: expected 'key TAB offset'"),
        ("0\tx\n", "a.idx:1: expected"),
        ("0\t0\n1\t400\n", "a.idx:2: a record at byte 400, and the record file has 100"),
        ("0\t-4\n", "a.idx:1: a record at byte -4"),
        ("", "a.idx: the index names no record"),
    ],
)
def test_an_index_that_makes_no_sense_is_named_with_its_line(in_tmp, text, message):
    Path("a.idx").write_text(text)
    with pytest.raises(InputError, match=message):
        read_index("a.idx", 100)


def test_a_record_ends_where_the_next_begins_whatever_the_order_of_the_index(in_tmp):
    Path("a.idx").write_text("5\t40\n2\t0\n9\t16\n")
    index = read_index("a.idx", 100)
    assert list(zip(index.keys, index.offsets, index.ends, strict=True)) == [
        (5, 40, 100), (2, 0, 16), (9, 16, 40),
    ]  # fmt: skip


@pytest.mark.parametrize("payload", [b"", bytes(23), struct.pack("<IfQQ", 3, 0, 0, 0) + bytes(8)])
def test_a_record_shorter_than_its_head_is_no_image(payload):
    with pytest.raises(ValueError, match=f"it has {len(payload)} bytes"):
        image_record.unpack(payload)

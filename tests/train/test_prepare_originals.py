"""What MXNet's and Caffe's own programs wrote: we read it, and write the same bytes."""

import json
from pathlib import Path

import lmdb
import numpy as np
import pytest
from prepare_helpers import done

from train.dataset import open_images
from train.records import image_record
from train.records.datum import decode
from train.records.recordio import RecordFile

DATA = Path(__file__).parent / "data"
MXNET = DATA / "mxnet.rec"


def test_images_that_mxnet_packed_are_read_with_and_without_the_index(in_tmp):
    for name in ("mxnet.rec", "mxnet.idx"):
        Path(name).write_bytes(MXNET.with_name(name).read_bytes())
    with_index = open_images("mxnet.rec")
    Path("mxnet.idx").unlink()
    for images in (with_index, open_images("mxnet.rec")):
        assert list(images.labels) == [2, 0, 1, 1, 2, 0, 1]
        assert images.all_labels(2) == (1, 0.5, 7)
        reds = [np.asarray(images.decode(i, images.read(i))[0])[1, 1, 0] for i in range(7)]
        assert reds == [0, 30, 10, 20, 60, 40, 50]


@pytest.mark.parametrize("kind", ["index", "no index"])
def test_each_of_several_reads_the_part_that_mxnets_reader_gives_it(in_tmp, kind):
    for name in ("mxnet.rec", "mxnet.idx")[: 1 + (kind == "index")]:
        Path(name).write_bytes((DATA / name).read_bytes())
    for theirs in json.loads((DATA / "mxnet.json").read_text())[kind]:
        for number, expected in enumerate(theirs):
            images = open_images("mxnet.rec", part=number, parts=len(theirs))
            found = [image_record.unpack(images.read(i)).identity for i in range(len(images))]
            assert found == expected


def test_the_files_are_those_of_mxnets_im2rec_byte_for_byte(in_tmp):
    theirs = {kind: MXNET.with_suffix(f".{kind}").read_bytes() for kind in ("lst", "rec", "idx")}
    for payload in RecordFile(MXNET).records():
        record = image_record.unpack(payload)
        Path(f"photo {record.identity}.png").write_bytes(record.image)
    Path("x.lst").write_bytes(theirs["lst"])
    done("pack", "x", ".", "--pass-through", "--pack-label")
    assert {kind: Path(f"x.{kind}").read_bytes() for kind in theirs} == theirs


def caffe_items(path):
    environment = lmdb.open(str(path), readonly=True, lock=False)
    with environment, environment.begin() as transaction:
        return list(transaction.cursor())


def test_images_that_caffe_packed_are_read_encoded_and_raw():
    encoded, raw = (open_images(DATA / f"caffe_{kind}") for kind in ("encoded", "raw"))
    sizes = [(4, 3), (2, 5), (5, 2), (1, 1)]
    for images in (encoded, raw):
        assert list(images.labels) == [0, 0, 1, 400]
        assert [images.decode(i, images.read(i))[0].size for i in range(4)] == sizes
    for i in range(4):
        one, other = (x.decode(i, x.read(i))[0].convert("RGB") for x in (encoded, raw))
        np.testing.assert_array_equal(one, other)


def test_keys_and_messages_are_those_of_caffes_convert_imageset_byte_for_byte(in_tmp):
    rows = []
    for key, message in caffe_items(DATA / "caffe_encoded"):
        name, datum = key.decode()[9:], decode(message)
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(datum.data)
        rows.append(f"{name} {datum.label}\n")
    Path("list.txt").write_text("".join(rows))
    done("lmdb", "list.txt", ".", "encoded", "--encoded")
    done("lmdb", "list.txt", ".", "raw")
    for kind in ("encoded", "raw"):
        assert caffe_items(kind) == caffe_items(DATA / f"caffe_{kind}")

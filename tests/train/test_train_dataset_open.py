"""One interface over list files, RecordIO and LMDB: the same images, labels and errors."""

import io
import itertools
import pickle
import struct
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from train.dataset import CentreCrops, RandomCrops, open_images
from train.dataset_images import Preloaded, require_same_classes
from train.errors import InputError
from train.records import image_record
from train.records.datum import Datum
from train.records.datum import encode as encode_datum
from train.records.recordio import encode

COUNT, SIDE = 7, 6
PIXELS = np.random.default_rng(3).integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
LABELS = [i % 3 for i in range(COUNT)]


def png(i):
    out = io.BytesIO()
    Image.fromarray(PIXELS[i]).save(out, "PNG")
    return out.getvalue()


def write_txt():
    for i in range(COUNT):
        Path(f"{i}.png").write_bytes(png(i))
    Path("list.txt").write_text("".join(f"{i}.png {LABELS[i]}\n" for i in range(COUNT)))
    return "list.txt"


def write_lst(name="list.lst"):
    write_txt()
    rows = (f"{i + 10}\t{LABELS[i]:f}\t{i}.png\n" for i in range(COUNT))
    Path(name).write_text("".join(rows))
    return name


def write_rec(name="packed.rec", labels=LABELS, index=False, which=range(COUNT)):
    offset, lines = 0, []
    with open(name, "wb") as file:
        for i in which:
            lines.append(f"{i + 10}\t{offset}\n")
            offset += file.write(encode(image_record.pack([labels[i]], i + 10, png(i))))
    if index:
        Path(name).with_suffix(".idx").write_text("".join(lines))
    return name


def write_indexed():
    return write_rec("indexed.rec", index=True)


def write_lst_and_rec():
    write_rec("list.rec", labels=[9] * COUNT, index=True)
    return write_lst()


def write_folder():
    Path("folder").mkdir()
    write_rec("folder/x_10.rec", which=range(5, COUNT))
    write_rec("folder/x_9.rec", which=range(5), index=True)
    return "folder"


def write_lmdb(make, name="a.lmdb"):
    with lmdb.open(name, map_size=1 << 20) as env, env.begin(write=True) as transaction:
        for i in range(COUNT):
            transaction.put(f"{i:08d}_x/{i}.png".encode(), encode_datum(make(i)))
    return name


def write_encoded():
    return write_lmdb(lambda i: Datum(png(i), LABELS[i], True))


def write_raw():
    planes = PIXELS[:, :, :, ::-1].transpose(0, 3, 1, 2)
    return write_lmdb(lambda i: Datum(planes[i].tobytes(), LABELS[i], False, 3, SIDE, SIDE))


SOURCES = [
    write_txt, write_lst, write_rec, write_indexed, write_lst_and_rec, write_folder,
    write_encoded, write_raw,
]  # fmt: skip


@pytest.fixture(params=SOURCES, ids=lambda write: write.__name__)
def source(request, in_tmp):
    return request.param()


def contents(images):
    found = []
    for i in range(len(images)):
        image, label = images.decode(i, images.read(i))
        found.append((np.asarray(image.convert("RGB")).tobytes(), label))
    return found


EXPECTED = [(PIXELS[i].tobytes(), LABELS[i]) for i in range(COUNT)]


def test_every_source_gives_the_same_images_and_labels(source):
    images = open_images(source, classes=3)
    assert contents(images) == EXPECTED
    assert list(images.labels) == LABELS


def test_crops_of_every_source_are_the_same(source):
    mean = np.random.default_rng(0).uniform(0, 255, (3, SIDE, SIDE)).astype(np.float32)
    crops = RandomCrops(open_images(source), mean, 4, seed=5)
    expected = RandomCrops(open_images(write_txt()), mean, 4, seed=5)
    for i in range(COUNT):
        np.testing.assert_array_equal(crops.example(i, 1)[0], expected.example(i, 1)[0])
        assert crops.example(i, 1)[1] == LABELS[i]


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_the_parts_are_all_of_it_and_share_nothing(source, parts):
    found = [contents(open_images(source, part=i, parts=parts)) for i in range(parts - 1)]
    try:
        found.append(contents(open_images(source, part=parts - 1, parts=parts)))
    except InputError as error:
        # Shares of ceil(7 / 3) images leave none for the last of more parts.
        assert "too few" in str(error) or "no record begins" in str(error)  # noqa: PT017
    assert list(itertools.chain.from_iterable(found)) == EXPECTED


def test_a_selection_and_a_copy_for_a_worker_read_the_same(source):
    images = open_images(source, classes=3)
    chosen = pickle.loads(pickle.dumps(images.select([5, 0])))
    assert contents(chosen) == [EXPECTED[5], EXPECTED[0]]
    assert list(chosen.labels) == [LABELS[5], LABELS[0]]
    assert chosen.where(0) == images.where(5)


def test_what_was_preloaded_needs_its_source_no_more(source):
    images = open_images(source)
    loaded = Preloaded(images)

    def read(index):
        raise AssertionError("read again")

    images.read = read
    assert contents(loaded) == EXPECTED


def test_a_share_preloaded_leaves_the_rest_to_the_source(in_tmp):
    loaded = Preloaded(open_images(write_txt()), range(1, COUNT, 2))
    assert contents(loaded) == EXPECTED
    for i in range(1, COUNT, 2):
        Path(f"{i}.png").unlink()
    assert loaded.read(1) == png(1)
    Path("0.png").unlink()
    with pytest.raises(FileNotFoundError):
        loaded.read(0)


def test_a_record_is_reached_through_the_index_with_one_read(in_tmp, monkeypatch):
    images = open_images(write_lst_and_rec())
    reads = []
    real = __import__("os").pread
    monkeypatch.setattr("os.pread", lambda *args: reads.append(args) or real(*args))
    for index in (6, 0, 3):
        images.read(index)
    assert len(reads) == 3


def test_without_an_index_parts_are_equal_shares_of_the_bytes(in_tmp):
    name = write_rec()
    size = Path(name).stat().st_size
    for number in range(2):
        places = [int(w.split()[-1]) for w in wheres(open_images(name, part=number, parts=2))]
        assert all((place >= size / 2) == bool(number) for place in places)


def wheres(images):
    return [images.where(i) for i in range(len(images))]


def test_what_the_list_names_and_packing_left_out_is_left_out(in_tmp):
    write_rec("list.rec", index=True, which=[4, 1])
    images = open_images(write_lst())
    assert contents(images) == [EXPECTED[1], EXPECTED[4]]


def test_two_views_of_one_lmdb_can_be_open_and_threads_share_it(in_tmp):
    name = write_encoded()
    first, second = open_images(name), open_images(f"./{name}")
    assert contents(first) == contents(second)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_txt, r"list.txt:3: label 2 is out of range, labels are 0 to 1"),
        (write_lst, r"list.lst:3: label 2 is out of range, labels are 0 to 1"),
        (write_rec, r"packed.rec: byte \d+: label 2 is out of range, labels are 0 to 1"),
        (write_indexed, r"indexed.rec: byte \d+: label 2 is out of range, labels are 0 to 1"),
        (write_encoded, r"a.lmdb: key '00000002_x/2.png': label 2 is out of range"),
    ],
)
def test_a_label_out_of_range_is_named_with_file_and_position(in_tmp, write, message):
    with pytest.raises(InputError, match=message):
        open_images(write(), classes=2).labels  # noqa: B018


def test_a_label_that_is_no_whole_number_is_named(in_tmp):
    with pytest.raises(InputError, match=r"byte 0: the label 0.5 is not a whole number"):
        open_images(write_rec(labels=[0.5] * COUNT))


@pytest.mark.parametrize("index", [False, True])
def test_a_truncated_record_file_is_noticed_when_it_is_opened(in_tmp, index):
    data = Path(write_rec(index=index)).read_bytes()
    Path("packed.rec").write_bytes(data[:-5])
    with pytest.raises(InputError, match=r"packed.rec: byte \d+: truncated"):
        open_images("packed.rec")


def test_it_is_where_the_labels_come_from_a_list_too(in_tmp):
    name = write_lst_and_rec()
    Path("list.rec").write_bytes(Path("list.rec").read_bytes()[:-5])
    with pytest.raises(InputError, match=r"list.rec: byte \d+: truncated"):
        open_images(name)


def test_a_truncated_lmdb_is_noticed_when_it_is_opened(in_tmp):
    data = Path(write_encoded(), "data.mdb")
    data.write_bytes(data.read_bytes()[:-4096])
    with pytest.raises(InputError, match=r"a.lmdb/data.mdb: byte \d+: truncated"):
        open_images("a.lmdb")


def test_a_folder_that_holds_neither_is_named(in_tmp):
    Path("empty").mkdir()
    with pytest.raises(InputError, match="empty: neither an LMDB"):
        open_images("empty")
    Path("empty/data.mdb").write_bytes(b"junk" * 5000)
    with pytest.raises(InputError, match="empty: cannot open the LMDB"):
        open_images("empty")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda i: Datum(bytes(12), 0, False, 3, 2, 3), r"a Datum of 3 x 2 x 3 with 12 bytes"),
        (lambda i: Datum(bytes(12), 0, False, 2, 2, 3), r"a Datum of 2 x 2 x 3"),
        (lambda i: Datum(b"", 0, False), r"a Datum of 0 x 0 x 0"),
        (lambda i: Datum(b"junk", 0, True), r"cannot identify image file"),
    ],
)
def test_a_datum_of_another_shape_is_named_with_its_key(in_tmp, make, message):
    crops = CentreCrops(open_images(write_lmdb(make)), np.zeros((3, 1, 1), np.float32), 1)
    with pytest.raises(InputError, match=rf"a.lmdb: key '00000001_x/1.png': .*{message}"):
        crops.example(1, 0)


def test_an_lmdb_of_something_else_is_named_with_its_key(in_tmp):
    with lmdb.open("a.lmdb", map_size=1 << 20) as env, env.begin(write=True) as transaction:
        transaction.put(b"key", b"\xff" * 30)
    with pytest.raises(InputError, match=r"a.lmdb: key 'key': byte 0: no Datum"):
        open_images("a.lmdb").labels  # noqa: B018


def test_a_record_that_is_no_image_is_named_with_its_byte(in_tmp):
    head = struct.pack("<IfQQ", 0, 1, 0, 0)
    Path("a.rec").write_bytes(encode(head + png(0)) + encode(head + b"junk"))
    crops = CentreCrops(open_images("a.rec"), np.zeros((3, SIDE, SIDE), np.float32), 4)
    crops.example(0, 0)
    with pytest.raises(InputError, match=r"a.rec: byte \d+: cannot read the image #1: cannot id"):
        crops.example(1, 0)
    Path("a.rec").write_bytes(encode(b"short"))
    with pytest.raises(InputError, match=r"a.rec: byte 0: no image: it has 5 bytes"):
        open_images("a.rec")


def test_a_class_that_only_one_of_the_two_has_is_named(in_tmp):
    Path("train.txt").write_text("a 0\nb 1\nc 2\n")
    Path("val.txt").write_text("a 0\nb 2\n")
    both = open_images("train.txt"), open_images("val.txt")
    with pytest.raises(InputError, match=r"val.txt: class 1 has no image here.*at train.txt:2"):
        require_same_classes(*both)
    with pytest.raises(InputError, match=r"val.txt: class 1 has no image here"):
        require_same_classes(*reversed(both))
    require_same_classes(both[0], both[0])


def test_a_mean_for_each_colour_fits_images_of_every_size(in_tmp):
    write_txt()
    Image.fromarray(PIXELS[1][:, :5]).save("1.png")
    crops = CentreCrops(open_images("list.txt"), np.full((3, 1, 1), 7, np.float32), 4)
    np.testing.assert_allclose(
        crops.example(1, 0)[0], (PIXELS[1][1:5, :4].transpose(2, 0, 1) - 7.0) / 255, rtol=1e-5
    )
    assert crops.example(0, 0)[0].shape == crops.shape == (3, 4, 4)

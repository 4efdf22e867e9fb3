"""Packing: what is in the packed files, and what an interruption or a bad image leaves behind."""

import io
import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepare_helpers import done, files, jpeg, refused, run, write_tree

from train.dataset import open_images
from train.prepare import sinks
from train.prepare.transform import Recode
from train.records import image_record
from train.records.recordio import RecordFile


@pytest.fixture
def tree(in_tmp):
    write_tree("full", {"a": 4, "b": 5, "c": 3})
    done("list", "x", "full")
    return "full"


@pytest.fixture(params=["pack", "lmdb"])
def command(request, tree):
    """Either packing command with its arguments, and what it writes."""
    if request.param == "pack":
        return ["pack", "x", tree, "--quality", 90], "x.rec"
    return ["lmdb", "x.lst", tree, "x.lmdb", "--encoded"], "x.lmdb"


def contents(source):
    images = open_images(source)
    return [
        (images.decode(i, images.read(i))[0].convert("RGB").tobytes(), images.labels[i])
        for i in range(len(images))
    ]


def outputs():
    """What packing wrote and was meant to leave, without LMDB's lock."""
    found = {name: data for name, data in files(".").items() if not name.startswith("full/")}
    return {name: data for name, data in found.items() if not name.endswith("lock.mdb")}


def test_records_hold_what_a_plain_loop_over_the_list_would_pack(tree):
    done("pack", "x", tree, "--resize", 8, "--quality", 90)
    images = open_images("x.rec")
    index = [line.split("\t") for line in Path("x.idx").read_text().splitlines()]
    records = RecordFile("x.rec")
    for i, line in enumerate(Path("x.lst").read_text().splitlines()):
        key, label, path = line.split("\t")
        record = image_record.unpack(records.read(int(index[i][1]))[0])
        assert (index[i][0], record.identity, record.labels) == (key, int(key), (float(label),))
        with Image.open(Path(tree, path)) as image:
            expected = image.resize((13, 8), Image.Resampling.BILINEAR)
        out = io.BytesIO()
        expected.save(out, "JPEG", quality=90)
        assert bytes(record.image) == out.getvalue()
    assert list(images.labels) == listed_labels()


@pytest.mark.parametrize(
    ("recode", "expected"),
    [
        (Recode(), (20, 12)),
        (Recode(short_edge=7), (11, 7)),
        (Recode(short_edge=24), (40, 24)),
        (Recode(center_crop=True), (12, 12)),
        (Recode(center_crop=True, short_edge=5), (5, 5)),
        (Recode(stretch=(9, 4)), (4, 9)),
    ],
)
def test_the_short_edge_is_exact_and_the_long_one_rounded_down(recode, expected):
    assert recode.image(jpeg(0)).size == expected
    turned = Recode(**{**recode.options(), "stretch": recode.stretch and recode.stretch[::-1]})
    assert turned.image(jpeg(0, 20, 12)).size == expected[::-1]


def test_the_centre_is_cut_from_the_middle():
    image = Recode(center_crop=True).image(jpeg(0))
    whole = Image.open(io.BytesIO(jpeg(0)))
    assert image.tobytes() == whole.crop((4, 0, 16, 12)).tobytes()


def test_colours_are_as_asked():
    rgba = Image.fromarray(np.full((4, 4, 4), 100, np.uint8))
    out = io.BytesIO()
    rgba.save(out, "PNG")
    modes = {
        (colour, encoding): Image.open(
            io.BytesIO(Recode(colour=colour, encoding=encoding)(out.getvalue()))
        ).mode
        for colour in (1, 0, -1)
        for encoding in (".jpg", ".png")
    }
    assert modes == {
        (1, ".jpg"): "RGB", (1, ".png"): "RGB", (0, ".jpg"): "L", (0, ".png"): "L",
        (-1, ".jpg"): "RGB", (-1, ".png"): "RGBA",
    }  # fmt: skip


def test_passed_through_files_are_packed_as_they_are(tree):
    done("pack", "x", tree, "--pass-through")
    images = open_images("x.rec")
    for i, path in enumerate(Path(tree, path[2:]) for path in listed_paths()):
        record = image_record.unpack(images.read(i))
        assert bytes(record.image) == path.read_bytes()
        assert record.labels[0] == listed_labels()[i]


def listed_labels():
    return [int(float(line.split("\t")[1])) for line in Path("x.lst").read_text().splitlines()]


def listed_paths():
    return ["./" + line.split("\t")[2] for line in Path("x.lst").read_text().splitlines()]


def test_all_labels_of_a_line_are_packed_when_asked(tree):
    Path("m.lst").write_text("5\t1\t0.25\ta/photo 00.JPEG\n")
    done("pack", "m", tree, "--pack-label")
    assert open_images("m.rec").all_labels(0) == (1, 0.25)
    done("pack", "m", tree, "--overwrite")
    assert open_images("m.rec").all_labels(0) == (1,)


def test_every_chunk_of_a_prefix_is_packed_and_no_other_list(tree):
    done("list", "y", tree, "--chunks", 3)
    done("list", "y_more", tree)
    done("pack", "y", tree, "--pass-through")
    assert sorted(p.name for p in Path().glob("y*.rec")) == ["y_0.rec", "y_1.rec", "y_2.rec"]
    assert "no list file of this name" in refused("pack", "z", tree)


def test_raw_datums_are_stretched_and_read_back_to_the_pixel(tree):
    done("lmdb", "x.lst", tree, "raw", "--resize", "6x8")
    images = open_images("raw", classes=3)
    for i, path in enumerate(listed_paths()):
        with Image.open(Path(tree, path[2:])) as image:
            expected = np.asarray(image.resize((8, 6), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(images.decode(i, images.read(i))[0], expected)
    assert images.where(0) == f"raw: key '00000000_{listed_paths()[0][2:]}'"
    assert list(images.labels) == listed_labels()


def test_packing_again_does_nothing_and_other_options_are_refused(command):
    arguments, target = command
    done(*arguments)
    before = files(".")
    stamp = os.stat(target).st_mtime_ns
    assert "12 images" in done(*arguments).stdout
    assert os.stat(target).st_mtime_ns == stamp
    option = {"pack": ["--quality", 80], "lmdb": ["--gray"]}[arguments[0]]
    assert f"{target}: exists, made with" in refused(*arguments, *option)
    assert files(".") == before
    done(*arguments, *option, "--overwrite")
    assert files(".") != before


def test_a_file_that_packing_did_not_write_is_not_overwritten(command):
    arguments, target = command
    Path(target).write_bytes(b"precious")
    before = files(".")
    assert "--overwrite replaces it" in refused(*arguments)
    assert files(".") == before
    if target == "x.rec":
        Path(target).unlink()
        Path("x.idx").write_text("precious")
        assert "x.idx: exists without x.rec" in refused(*arguments)
        assert Path("x.idx").read_text() == "precious"


def test_unreadable_images_are_left_out_counted_and_listed(command):
    arguments, target = command
    paths = listed_paths()
    Path("full", paths[3]).write_bytes(b"junk")
    Path("full", paths[7]).unlink()
    result = done(*arguments)
    assert f"2 images cannot be read: {target}.unreadable.txt" in result.stderr
    assert f"{target}: 10 images" in result.stdout
    lines = Path(f"{target}.unreadable.txt").read_text().splitlines()
    assert lines == [
        f"{paths[3][2:]}\tcannot identify image file: it is of no format that Pillow reads",
        f"{paths[7][2:]}\tNo such file or directory",
    ]
    expected = listed_labels()
    assert list(open_images(target).labels) == [
        x for i, x in enumerate(expected) if i not in (3, 7)
    ]


def test_nothing_is_written_where_no_image_can_be_read(command):
    arguments, _ = command
    arguments[arguments.index("full")] = "absent"
    Path("absent").mkdir()
    before = files(".")
    assert "not one of its 12 images can be read" in refused(*arguments)
    assert files(".") == before


def test_a_label_that_caffe_cannot_keep_is_named_before_anything_is_written(tree):
    Path("m.lst").write_text("0\t1\ta/photo 00.JPEG\n1\t0.25\ta/photo 01.JPEG\n")
    before = files(".")
    line = refused("lmdb", "m.lst", tree, "m.lmdb")
    assert "m.lst:2: the label 0.25 is not a whole number" in line
    assert files(".") == before


class Interrupted(Exception):
    """Stands for a lost machine: nothing after it is executed."""


@pytest.mark.parametrize("step", range(12))
def test_interrupted_anywhere_it_goes_on_to_the_same_file(command, monkeypatch, step):
    arguments, target = command
    monkeypatch.setattr(sinks, "_SAFE_IMAGES", 3)
    Path("full", listed_paths()[4]).write_bytes(b"junk")
    done(*arguments)
    expected = outputs()
    expected_images = contents(target)
    done(*arguments, "--overwrite")
    sinks.remove(Path(target))
    Path(f"{target}.unreadable.txt").unlink()

    calls = []
    real = os.fsync

    def fsync(descriptor):
        if len(calls) == step:
            raise Interrupted
        calls.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    result = run(*arguments)
    monkeypatch.setattr(os, "fsync", real)
    if not isinstance(result.exception, Interrupted):
        assert step >= 6, "fewer places to interrupt than there are"
        return
    if Path(target).exists():
        contents(target)  # nothing half-written is ever seen
    done(*arguments)
    found = outputs()
    assert contents(target) == expected_images
    # An LMDB has its transactions counted in it.
    different = [n for n in found if found[n] != expected[n] and "lmdb" not in n]
    assert (found.keys(), different) == (expected.keys(), [])


@pytest.mark.parametrize("limit", [0, 100, 1500, 4096, 5000, 7000])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(command, monkeypatch, limit):
    arguments, target = command
    monkeypatch.setattr(sinks, "_SAFE_IMAGES", 3)
    if target == "x.lmdb":
        limit *= 8
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        result = run(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    assert not Path(target).exists()
    assert "File too large" in result.stderr or "Input/output error" in result.stderr
    done(*arguments)
    expected = listed_labels()
    assert list(open_images(target).labels) == expected
    assert len(contents(target)) == 12


def test_an_interrupted_file_is_not_gone_on_with_by_other_options(command, monkeypatch):
    arguments, target = command
    with monkeypatch.context() as patch:
        patch.setattr(sinks.Sink, "finish", lambda self: 1 / 0)
        assert isinstance(run(*arguments).exception, ZeroDivisionError)
    option = {"pack": ["--quality", 80], "lmdb": ["--gray"]}[arguments[0]]
    line = refused(*arguments, *option)
    assert ".journal: was begun with" in line
    done(*arguments)
    assert "made_of" in json.loads(Path(f"{target}.json").read_text())


def test_options_that_contradict_each_other_are_refused(tree):
    assert "--pass-through leaves images" in refused("pack", "x", tree, "--pass-through",
                                                     "--resize", 8)  # fmt: skip
    assert "expected HEIGHTxWIDTH" in refused("lmdb", "x.lst", tree, "y", "--resize", "256")
    assert "No such option" in refused("pack", "x", tree, "--sharpen")


def test_a_draft_shorter_than_its_journal_is_not_gone_on_with(tree, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sinks.Sink, "finish", lambda self: 1 / 0)
        assert isinstance(run("pack", "x", tree).exception, ZeroDivisionError)
    os.truncate(".x.rec.partial", 10)
    assert ".x.rec.partial: shorter than .x.rec.journal says" in refused("pack", "x", tree)
    done("pack", "x", tree, "--overwrite")

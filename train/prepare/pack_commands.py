"""The commands that pack: to RecordIO, as im2rec does, and to LMDB, as convert_imageset does."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from train.errors import InputError
from train.prepare.command_line import (
    overwrite_option,
    progress_bar,
    tell_unreadable,
    threads_option,
)
from train.prepare.pack import Make, MakeEncodedDatum, MakeRawDatum, MakeRecord, pack
from train.prepare.sinks import LmdbSink, RecordSink, Sink
from train.prepare.transform import PassThrough, Recode, Transform
from train.prepare.tree import Tree, open_tree

PATH = click.Path(path_type=Path)
quality_option = click.option(
    "--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of JPEGs."
)


@click.command("pack")
@click.argument("prefix", type=PATH)
@click.argument("root", type=PATH)
@click.option("--resize", type=click.IntRange(0), default=0, help="Short edge in pixels; 0: as is.")
@click.option("--center-crop", is_flag=True, help="Cut out the middle square first.")
@click.option("--pass-through", is_flag=True, help="Pack the files as they are.")
@click.option("--encoding", type=click.Choice([".jpg", ".png"]), default=".jpg", show_default=True)
@click.option("--color", type=click.Choice(["1", "0", "-1"]), default="1", help="RGB, grey, as is.")
@click.option("--pack-label", is_flag=True, help="Pack all labels of a line, not the first alone.")
@quality_option
@threads_option
@overwrite_option
def pack_command(
    prefix: Path,
    root: Path,
    resize: int,
    center_crop: bool,
    pass_through: bool,
    encoding: str,
    color: str,
    pack_label: bool,
    quality: int,
    threads: int,
    overwrite: bool,
) -> None:
    """Pack the images of each list PREFIX*.lst (or of the one list PREFIX) into .rec and .idx.

    Run it again after an interruption: it goes on where it was. Images that cannot be read are
    left out, counted and listed.
    """
    transform: Transform = Recode(
        short_edge=resize,
        center_crop=center_crop,
        colour=int(color),
        quality=quality,
        encoding=encoding,
    )
    if pass_through:
        if resize or center_crop:
            raise click.UsageError("--pass-through leaves images as they are: no --resize, no crop")
        transform = PassThrough()
    tree = open_tree(root)
    for source in _lists(prefix):
        make = MakeRecord(transform, pack_label)
        target = source.with_suffix(".rec")
        _pack(source, tree, target, RecordSink, make, threads, overwrite)


@click.command("lmdb")
@click.argument("source", type=PATH)
@click.argument("root", type=PATH)
@click.argument("target", type=PATH)
@click.option(
    "--resize", metavar="HxW", help="Stretch to this many pixels; Caffe's script: 256x256."
)
@click.option("--encoded", is_flag=True, help="Keep images encoded; otherwise raw pixels.")
@click.option("--encoding", type=click.Choice([".jpg", ".png"]), default=".jpg", show_default=True)
@click.option("--gray", is_flag=True, help="One channel.")
@quality_option
@threads_option
@overwrite_option
def lmdb_command(
    source: Path,
    root: Path,
    target: Path,
    resize: str | None,
    encoded: bool,
    encoding: str,
    gray: bool,
    quality: int,
    threads: int,
    overwrite: bool,
) -> None:
    """Pack the images of the list SOURCE into the LMDB folder TARGET, as Datum messages.

    Encoded images that nothing is done to are packed as their files are. Run it again after an
    interruption: it goes on where it was.
    """
    recode = Recode(
        stretch=_size(resize), colour=0 if gray else 1, quality=quality, encoding=encoding
    )
    make: Make = MakeRawDatum(recode)
    if encoded:
        make = MakeEncodedDatum(recode if resize or gray else PassThrough())
    _pack(source, open_tree(root), target, LmdbSink, make, threads, overwrite)


def _pack(
    source: Path,
    tree: Tree,
    target: Path,
    sink: Callable[[Path, dict[str, Any]], Sink],
    make: Make,
    threads: int,
    overwrite: bool,
) -> None:
    with progress_bar(target.name) as progress:
        report = pack(source, tree, target, sink, make, threads, progress, overwrite=overwrite)
    tell_unreadable(report.unreadable, target.with_name(f"{target.name}.unreadable.txt"))
    click.echo(f"{target}: {report.images} images, {report.bytes} bytes")


def _lists(prefix: Path) -> list[Path]:
    if prefix.is_file():
        return [prefix]
    # Chunks and shares of this prefix, and not the lists of a longer one.
    pattern = re.compile(re.escape(prefix.name) + r"(_\d+)?(_train|_val|_test)?\.lst")
    if prefix.parent.is_dir():
        found = [path for path in prefix.parent.iterdir() if pattern.fullmatch(path.name)]
        if found:
            return sorted(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])
    raise InputError(f"{prefix}: no list file of this name, nor {prefix.name}*.lst beside it")


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or not all(map(int, match.groups())):
        raise click.UsageError(f"--resize {text}: expected HEIGHTxWIDTH, such as 256x256")
    return int(match[1]), int(match[2])

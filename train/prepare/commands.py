"""The commands that work on trees of images: filter, split, list, enlarge, mean."""

from pathlib import Path

import click
import numpy as np
from PIL import Image

from swapmem.files import replacing
from train.compute_mean import mean_image
from train.dataset import open_images
from train.errors import InputError
from train.prepare import choose, classes, lists
from train.prepare.command_line import (
    OneLineErrors,
    overwrite_option,
    progress_bar,
    tell_unreadable,
    threads_option,
    write_new,
)
from train.prepare.enlarge import enlarge
from train.prepare.pack_commands import lmdb_command, pack_command
from train.prepare.transform import Recode
from train.prepare.tree import EXTENSIONS, Folder, Tree, open_tree

PATH = click.Path(path_type=Path)

exts_option = click.option(
    "--exts",
    multiple=True,
    default=EXTENSIONS,
    show_default=True,
    help="What names of images end with; may be given several times.",
)


@click.group(cls=OneLineErrors, no_args_is_help=True)
def prepare() -> None:
    """Get images ready for training.

    A ROOT is a folder of class folders, a folder of class tars, or a tar of either, as ImageNet
    comes; tars are read where they lie.
    """


prepare.add_command(pack_command)
prepare.add_command(lmdb_command)


@prepare.command("filter")
@click.argument("root", type=PATH)
@click.option("--more-than", type=click.IntRange(0), default=500, show_default=True)
@click.option("--to", type=PATH, help="Where removed classes go; ROOT_filtered by default.")
@click.option("--list", "listing", type=PATH, help="Move nothing; write the kept classes here.")
@exts_option
@overwrite_option
def filter_command(
    root: Path,
    more_than: int,
    to: Path | None,
    listing: Path | None,
    exts: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Keep the classes that have more than so many images; move the others out of ROOT."""
    tree = open_tree(root, exts)
    found = choose.filter_classes(tree, more_than)
    if listing:
        write_new({listing: classes.class_file(list(found.kept))}, overwrite)
    else:
        folder = _movable(tree, "--list")
        choose.move_classes(folder, list(found.removed), to or _beside(root, "_filtered"))
    for name, count in sorted({**found.kept, **found.removed}.items()):
        click.echo(f"{'keep' if name in found.kept else 'remove'} {name}, {count} images")
    click.echo(f"{len(found.kept)} classes kept, {len(found.removed)} removed")


@prepare.command("split")
@click.argument("root", type=PATH)
@click.option("--per-class", type=click.IntRange(1), default=50, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same images.")
@click.option("--to", type=PATH, help="Where they go; ROOT_val by default.")
@click.option("--list", "prefix", type=PATH, help="Move nothing; write PREFIX_train and _val.")
@click.option("--classes", "class_path", type=PATH, help="With --list: the class file.")
@click.option("--only", is_flag=True, help="Leave out classes that the class file does not name.")
@click.option("--format", "kind", type=click.Choice(list(lists.FORMATS)), default="lst")
@exts_option
@overwrite_option
def split_command(
    root: Path,
    per_class: int,
    seed: int,
    to: Path | None,
    prefix: Path | None,
    class_path: Path | None,
    only: bool,
    kind: str,
    exts: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Draw so many images of each class for validation, and move or list them."""
    tree = open_tree(root, exts)
    if prefix is None:
        target = to or _beside(root, "_val")
        moved = choose.move_validation(_movable(tree, "--list"), target, per_class, seed)
        click.echo(f"{moved} images moved to {target}")
        return
    class_path, names, files = _classes(tree, prefix, class_path, 0, seed, overwrite)
    rows = lists.entries(tree, names, str(class_path), only=only)
    by_class: dict[str, list[str]] = {}
    for row in rows:
        by_class.setdefault(names[row.label], []).append(row.path)
    chosen = choose.choose_validation(root, by_class, per_class, seed)
    drawn = {path for paths in chosen.values() for path in paths}
    rows = lists.shuffled(rows, 100)
    for share in ("_train", "_val"):
        part = [row for row in rows if (row.path in drawn) == (share == "_val")]
        files[_named(prefix, f"{share}.{kind}")] = lists.FORMATS[kind](part)
    write_new(files, overwrite)
    click.echo(f"{len(rows) - len(drawn)} images for training, {len(drawn)} for validation")


@prepare.command("list")
@click.argument("prefix", type=PATH)
@click.argument("root", type=PATH)
@click.option(
    "--classes",
    "class_path",
    type=PATH,
    help="The class file: read if it is there, else written; PREFIX_classes.txt by default.",
)
@click.option("--only", is_flag=True, help="Leave out classes that the class file does not name.")
@click.option("--sample", type=click.IntRange(1), help="Draw so many classes (mini-ImageNet).")
@click.option("--chunks", type=click.IntRange(1), default=1, show_default=True)
@click.option("--train-ratio", type=click.FloatRange(0, 1), default=1.0, show_default=True)
@click.option("--test-ratio", type=click.FloatRange(0, 1), default=0.0, show_default=True)
@click.option("--shuffle/--no-shuffle", default=True, show_default=True)
@click.option("--seed", type=int, default=100, show_default=True)
@click.option("--format", "kind", type=click.Choice(list(lists.FORMATS)), default="lst")
@exts_option
@overwrite_option
def list_command(
    prefix: Path,
    root: Path,
    class_path: Path | None,
    only: bool,
    sample: int | None,
    chunks: int,
    train_ratio: float,
    test_ratio: float,
    shuffle: bool,
    seed: int,
    kind: str,
    exts: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Write list files of ROOT: PREFIX.lst, in chunks PREFIX_0.lst and so on."""
    tree = open_tree(root, exts)
    class_path, names, files = _classes(tree, prefix, class_path, sample or 0, seed, overwrite)
    rows = lists.entries(tree, names, str(class_path), only=only or bool(sample))
    if shuffle:
        rows = lists.shuffled(rows, seed)
    for suffix, part in lists.cut(rows, chunks, train_ratio, test_ratio):
        files[_named(prefix, f"{suffix}.{kind}")] = lists.FORMATS[kind](part)
    write_new(files, overwrite)
    for path in files:
        click.echo(f"{path}")
    click.echo(f"{len(rows)} images of {len(names)} classes")


@prepare.command("enlarge")
@click.argument("root", type=PATH)
@click.argument("target", type=PATH)
@click.option("--size", type=click.IntRange(1), default=2560, show_default=True)
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True)
@threads_option
@exts_option
def enlarge_command(
    root: Path, target: Path, size: int, quality: int, threads: int, exts: tuple[str, ...]
) -> None:
    """Write every image of ROOT as SIZE x SIZE pixels under the same path in TARGET."""
    recode = Recode(stretch=(size, size), quality=quality, filter=Image.Resampling.BICUBIC)
    with progress_bar("enlarge") as progress:
        count, unreadable = enlarge(open_tree(root, exts), target, recode, threads, progress)
    tell_unreadable(unreadable, target.with_name(f"{target.name}.unreadable.txt"))
    click.echo(f"{count} images of {size}x{size} in {target}")


@prepare.command("mean")
@click.argument("source", type=PATH)
@click.option("--root", "-R", default=".", help="Directory that a list's paths start from.")
@click.option("--output", "-o", type=PATH, default=Path("mean.npy"), show_default=True)
@click.option("--per-channel", is_flag=True, help="One value a colour; fits images of any size.")
@threads_option
def mean_command(source: Path, root: str, output: Path, per_channel: bool, threads: int) -> None:
    """Write the mean of the images of a list, a .rec file or an LMDB."""
    images = open_images(source, root)
    with progress_bar("mean") as progress:
        mean = mean_image(images, threads, per_channel=per_channel, progress=progress)
    with replacing(output) as file:
        np.save(file, mean)
    click.echo(f"{output}: the mean of {len(images)} images, {'x'.join(map(str, mean.shape))}")


def _classes(
    tree: Tree, prefix: Path, path: Path | None, sample: int, seed: int, overwrite: bool
) -> tuple[Path, list[str], dict[Path, str]]:
    """Returns the class file, the classes, and the class file's text where it is to be written."""
    path = path or _named(prefix, "_classes.txt")
    if path.exists() and not (sample and overwrite):
        names = classes.read_classes(path)
        if sample and len(names) != sample:
            raise InputError(f"{path}: exists with {len(names)} classes, --sample draws {sample}")
        return path, names, {}
    names = list(tree.classes())
    if sample > len(names):
        raise InputError(f"{tree.root}: --sample {sample}, and it has {len(names)} classes")
    names = classes.draw(names, sample, seed) if sample else names
    return path, names, {path: classes.class_file(names)}


def _movable(tree: Tree, instead: str) -> Folder:
    if not isinstance(tree, Folder):
        raise InputError(f"{tree.root}: out of an archive nothing can be moved: use {instead}")
    return tree


def _beside(root: Path, suffix: str) -> Path:
    root = root.resolve()
    return root.with_name(root.name + suffix)


def _named(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix)

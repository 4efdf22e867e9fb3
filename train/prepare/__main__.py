"""``python -m train.prepare``."""

from train.prepare.commands import prepare

if __name__ == "__main__":
    prepare(prog_name="prepare")

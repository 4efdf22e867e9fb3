"""What is in npz files, and whether it is the same."""

import numpy as np


def arrays(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def assert_identical(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)

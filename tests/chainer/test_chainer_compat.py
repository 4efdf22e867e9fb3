"""Each shim is needed on this NumPy, and what it mends works."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import types

import chainer
import numpy
import pytest

from swapmem.chainer import compat

F = chainer.functions
NUMPY = tuple(int(part) for part in numpy.__version__.split(".")[:2])


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter with this one's path."""
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(NUMPY < (2, 0), reason="Chainer still imports on this NumPy")
def test_chainer_alone_cannot_be_imported():
    result = run("import chainer")
    assert result.returncode != 0
    assert "AttributeError" in result.stderr or "ModuleNotFoundError" in result.stderr


@pytest.mark.skipif(NUMPY < (2, 0), reason="Chainer still imports on this NumPy")
def test_chainer_can_be_imported_after_an_import_without_the_shims_has_failed():
    result = run(
        "try:\n    import chainer\nexcept Exception:\n    print('failed')\n"
        "import swapmem.chainer, chainer\n"
        "import numpy\n"
        "print(chainer.functions.relu(numpy.array([-1.0, 2.0], numpy.float32)).array)"
    )
    assert result.stdout.split("\n")[:2] == ["failed", "[0. 2.]"], result.stderr


def test_importing_chainer_says_nothing():
    result = run("import swapmem.chainer, chainer")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_names_that_numpy_had_come_back_with_their_meaning():
    assert numpy.float is float
    assert numpy.float32 in numpy.sctypes["float"]
    assert numpy.int64 in numpy.sctypes["int"]


def test_shims_leave_names_alone_that_numpy_still_has(monkeypatch):
    kept = {"int": []}
    monkeypatch.setattr(numpy, "sctypes", kept)
    compat._restore_numpy_names()
    assert numpy.sctypes is kept


def test_a_second_import_changes_nothing():
    finders = list(sys.meta_path)
    module = sys.modules["chainer.functions.connection.deconvolution_2d"]
    corrected = module.Deconvolution2DFunction._set_cover_all
    importlib.reload(compat)
    assert sys.meta_path == finders
    assert module.Deconvolution2DFunction._set_cover_all is corrected


def test_a_chainer_that_was_imported_before_is_corrected_too():
    """What Chainer needs to be imported at all comes from elsewhere here, as it did on NumPy 1."""
    result = run(
        "import sys, types, numpy\n"
        "numpy.float, numpy.sctypes = float, {'int': [numpy.int64], 'float': [numpy.float32]}\n"
        "check = types.ModuleType('chainer._environment_check')\n"
        "check.check = lambda: None\n"
        "sys.modules[check.__name__] = check\n"
        "import chainer\n"
        "D = chainer.functions.connection.deconvolution_2d.Deconvolution2DFunction\n"
        "print(hasattr(D._set_cover_all, '__wrapped__'))\n"
        "import swapmem.chainer\n"
        "print(hasattr(D._set_cover_all, '__wrapped__'))\n"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["False", "True"]


def test_resizing_images_works():
    x = numpy.arange(16, dtype=numpy.float32).reshape(1, 1, 4, 4)
    for mode in ("bilinear", "nearest"):
        y = F.resize_images(x, (8, 8), mode=mode)
        assert y.shape == (1, 1, 8, 8)
    numpy.testing.assert_array_equal(F.resize_images(x, (4, 4)).array, x)


def test_as_strided_has_a_gradient():
    x = chainer.Variable(numpy.arange(4, dtype=numpy.float32))
    F.sum(F.as_strided(x, (2, 2), (1, 1))).backward()
    numpy.testing.assert_array_equal(x.grad, [1, 2, 1, 0])


def gradient_of_deconvolution_weight():
    x = numpy.ones((1, 2, 3, 3), numpy.float32)
    weight = chainer.Parameter(numpy.ones((2, 1, 2, 2), numpy.float32))
    F.sum(F.deconvolution_2d(x, weight)).backward()
    return weight.grad


def test_deconvolution_without_a_gradient_of_its_input(monkeypatch):
    weight_gradient = gradient_of_deconvolution_weight()
    numpy.testing.assert_array_equal(weight_gradient, numpy.full((2, 1, 2, 2), 9))
    module = sys.modules["chainer.functions.connection.deconvolution_2d"]
    function = module.Deconvolution2DFunction
    monkeypatch.setattr(function, "_set_cover_all", function._set_cover_all.__wrapped__)
    with pytest.raises((TypeError, ValueError)):
        gradient_of_deconvolution_weight()


def log_probability():
    p = numpy.array([[0.25, 0.75], [0.5, 0.5]], numpy.float32)
    return chainer.distributions.Categorical(p=p).log_prob(numpy.array([1, 0]))


def test_categorical_log_probability(monkeypatch):
    numpy.testing.assert_allclose(numpy.exp(log_probability().array), [0.75, 0.5], rtol=1e-6)
    if NUMPY >= (2, 0):
        module = sys.modules["chainer.distributions.categorical"]
        monkeypatch.setattr(module, "numpy", numpy)
        with pytest.raises(TypeError):
            log_probability()


def test_requirements_are_checked_without_pkg_resources():
    result = run(
        "import sys\n"
        "import swapmem.chainer.compat as compat\n"
        "real, compat.importlib.util.find_spec = compat.importlib.util.find_spec, lambda n: None\n"
        "import chainer.testing.helper as helper\n"
        "compat.importlib.util.find_spec = real\n"
        "def skipped(requirement):\n"
        "    test = helper.with_requires(requirement)(lambda: None)\n"
        "    return getattr(test, '__unittest_skip__', False)\n"
        "print('pkg_resources' in sys.modules)\n"
        "print(skipped('numpy>=1.10'), skipped('numpy<1.0'), skipped('no-such-package'))\n"
    )
    assert result.stdout.split() == ["False", "False", "True", "True"], result.stderr


def test_the_multi_node_slave_reads_a_size_of_shape_one():
    module = types.SimpleNamespace()
    compat._fix_multi_node_iterator(module)
    assert module.int(numpy.ones((1,), numpy.float32) * 7) == 7
    assert module.int(True) == 1
    if NUMPY >= (2, 4):
        with pytest.raises(TypeError):
            int(numpy.ones((1,), numpy.float32) * 7)


def cuda_module(*, available: bool, major: int = 14) -> types.SimpleNamespace:
    def elementwise(in_params, out_params, operation, name, **keywords):
        return keywords

    def raw(code, name):
        return code

    return types.SimpleNamespace(
        available=available,
        _cupy_major=major,
        check_cuda_available=types.SimpleNamespace(),
        elementwise=elementwise,
        raw=raw,
        Stream="the stream",
    )


def test_kernels_that_name_half_get_its_header():
    cuda = cuda_module(available=True)
    updater = types.SimpleNamespace(cuda=cuda)
    compat._include_half_elementwise(updater)
    preamble = updater.cuda.elementwise("T x", "T y", "y = x", "copy")["preamble"]
    assert preamble == "#include <cupy/float16.cuh>\n"
    assert updater.cuda.Stream == "the stream"

    package = types.SimpleNamespace(backends=types.SimpleNamespace(cuda=cuda), cuda=cuda, other=1)
    utility = types.SimpleNamespace(chainer=package)
    compat._include_half_raw(utility)
    assert utility.chainer.cuda.raw("code", "name") == "#include <cupy/float16.cuh>\ncode"
    assert utility.chainer.other == 1
    assert package.cuda is cuda


def test_nothing_of_cupy_is_touched_where_there_is_none():
    cuda = cuda_module(available=False)
    module = types.SimpleNamespace(cuda=cuda)
    compat._include_half_elementwise(module)
    assert module.cuda is cuda
    compat._silence_cudnn_warning(cuda)
    assert not hasattr(cuda.check_cuda_available, "_already_warned")


def test_the_missing_cudnn_is_said_where_it_could_be_installed():
    new, old = cuda_module(available=True, major=14), cuda_module(available=True, major=13)
    compat._silence_cudnn_warning(new)
    compat._silence_cudnn_warning(old)
    assert new.check_cuda_available._already_warned
    assert not hasattr(old.check_cuda_available, "_already_warned")


CHILD = """
import multiprocessing
{first}
import swapmem.chainer, chainer
context = multiprocessing.get_context("forkserver")
data = chainer.datasets.TupleDataset([1, 2, 3])
receive, send = context.Pipe(False)
process = context.Process(target=send.send, args=(data,))
process.start()
send.close()
try:
    print(len(receive.recv()), multiprocessing.forkserver._forkserver._preload_modules)
except EOFError:
    print("the child died")
process.join()
"""


def test_a_child_of_the_fork_server_unpickles_chainer():
    result = run(CHILD.format(first=""))
    assert result.stdout == "3 ['__main__', 'swapmem.chainer.compat']\n", result.stderr


def test_what_the_program_preloads_into_the_fork_server_stays():
    result = run(CHILD.format(first="multiprocessing.set_forkserver_preload(['json'])"))
    assert result.stdout == "3 ['json', 'swapmem.chainer.compat']\n", result.stderr


def test_every_corrected_module_exists_in_chainer():
    for name in [*compat._CORRECTIONS, compat._HELPER]:
        path = name.replace(".", os.sep) + ".py"
        assert any(os.path.exists(os.path.join(entry, path)) for entry in sys.path), name

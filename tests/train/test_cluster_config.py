"""Configs: every key of the seed in both spellings, and what is said of the others."""

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from train.cluster.config import Config, load_config
from train.errors import InputError

#: The table of the TSUBAME set-up, as it spells the keys.
TABLE = {
    "nnodetype": "h_node",
    "nnodes": 2,
    "walltime": "00:20:00",
    "jobname": "imagenet",
    "stdout": "out.log",
    "stderr": "err.log",
    "others": {"m": "abe"},
    "modules": "modules.sh",
    "nclasses": 32,
    "mean.npy": "data/mean.npy",
    "arch": "googlenetbn",
    "epoch": 90,
    "batchsize": 32,
    "loaderjob": 4,
    "out": "out",
    "resume": None,
    "initmodel": None,
    "test": None,
    "communicator": "hierarchical",
    "loadtype": "custom",
    "iterator": "thread",
    "optimizer": "rmsprop_warmup",
}


def write(name: str, values: dict) -> str:
    if name.endswith(".json"):
        Path(name).write_text(json.dumps(values, indent=1))
    else:
        with open(name, "w") as file:
            YAML().dump(values, file)
    return name


def refused(name: str) -> str:
    with pytest.raises(InputError) as caught:
        load_config(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


FORMATS = pytest.mark.parametrize("name", ["c.yaml", "c.yml", "c.json"])


@FORMATS
def test_every_key_of_the_table_is_read(name):
    config = load_config(write(name, TABLE))
    read = config.model_dump()
    for key, value in TABLE.items():
        assert read[{"nnodetype": "nodetype", "mean.npy": "mean"}.get(key, key)] == value


@FORMATS
def test_both_spellings_say_the_same(name):
    one = load_config(write(name, TABLE))
    other = {{"nnodetype": "nodetype", "mean.npy": "mean"}.get(k, k): v for k, v in TABLE.items()}
    assert load_config(write(name, other)) == one


@FORMATS
def test_two_spellings_at_once_are_refused(name):
    message = refused(write(name, TABLE | {"mean": "other.npy"}))
    assert message.endswith("'mean' says 'mean' a second time")


@FORMATS
@pytest.mark.parametrize(
    ("wrong", "near"),
    [("nnode", "nnodes"), ("batch_size", "batchsize"), ("Arch", "arch"), ("meannpy", "mean.npy")],
)
def test_an_unknown_key_is_refused_with_its_line_and_the_nearest_name(name, wrong, near):
    message = refused(write(name, TABLE | {wrong: 1}))
    last = len(Path(name).read_text().rstrip("}\n").splitlines())
    assert message.startswith(f"{name}:{last}: unknown key {wrong!r}: did you mean {near}? known:")


@pytest.mark.parametrize(
    ("key", "wrong", "near"),
    [
        ("nnodetype", "fnode", "f_node"),
        ("arch", "resnet-50", "resnet50"),
        ("communicator", "pure-nccl", "pure_nccl"),
        ("loadtype", "costum", "custom"),
        ("iterator", "multiprocess", "process"),
        ("optimizer", "rmsprop_warm", "rmsprop_warmup"),
    ],
)
def test_an_unknown_value_is_refused_with_the_nearest(key, wrong, near):
    message = refused(write("c.json", TABLE | {key: wrong}))
    line = 2 + list(TABLE).index(key) + (2 if list(TABLE).index(key) > 6 else 0)
    assert message.startswith(f"c.json:{line}: {key!r} is {wrong!r}: unknown")
    assert f"did you mean {near}?" in message


@FORMATS
@pytest.mark.parametrize("key", ["nnodes", "walltime", "nclasses", "arch", "epoch", "batchsize"])
def test_a_missing_key_is_named(name, key):
    message = refused(write(name, {k: v for k, v in TABLE.items() if k != key}))
    assert message == f"{name}: the key {key!r} is missing"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nnodes", 0),
        ("nnodes", "two"),
        ("epoch", 1.5),
        ("walltime", "20 minutes"),
        ("walltime", "00:61:00"),
        ("nclasses", 9),
        ("jobname", "a b"),
        ("jobname", "1st"),
        ("stdout", "a\n#$ -l f_node=9"),
        ("others", {"m": "abe\n#$ -l f_node=9"}),
        ("others", {"m\n": "abe"}),
        ("others", ["m"]),
        ("mean.npy", "a\nb"),
        ("test", "often"),
        ("batchsize", None),
        ("device_memory", "4GiB"),
    ],
)
def test_a_value_that_no_job_can_have_is_refused_with_its_line(key, value):
    message = refused(write("c.json", TABLE | {key: value}))
    assert message.startswith("c.json:") or key == "device_memory"
    assert key in message


def test_a_walltime_of_an_hour_is_no_number_in_yaml():
    Path("c.yaml").write_text(
        "nodetype: s_gpu\nnnodes: 1\nwalltime: 1:20:00\nnclasses: 8\narch: nin\n"
        "epoch: 1\nbatchsize: 4\ntest: true\n"
    )
    assert load_config("c.yaml").walltime == "1:20:00"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.yaml", "nnodes: 1\narch: [nin\n", "c.yaml:3: not YAML"),
        ("c.yaml", "arch: nin\narch: alex\n", "c.yaml:2: not YAML: found duplicate key"),
        ("c.yaml", "- nnodes\n", "c.yaml: a config is a list of 'key: value'"),
        ("c.yaml", "", "c.yaml: a config is a list of 'key: value'"),
        ("c.json", '{"nnodes": 1,\n "arch": }', "c.json:2: not JSON"),
        ("c.json", '{"arch": "nin",\n\n "arch": "alex"}', "c.json:3: the key 'arch' stands here"),
        ("c.json", "[]", "c.json: a config is a list of 'key: value'"),
        ("c.txt", "", "c.txt: the name of a config ends in .yaml, .yml or .json"),
    ],
)
def test_a_file_that_is_no_config_is_refused_with_its_line(name, text, said):
    Path(name).write_text(text)
    assert refused(name).startswith(said)


def test_a_file_that_is_missing_or_no_text_is_named():
    assert refused("none.yaml") == "none.yaml: cannot read the config: No such file or directory"
    Path("c.yaml").write_bytes(b"arch: \xff\n")
    assert refused("c.yaml") == "c.yaml: not UTF-8 text, at byte 6"


def test_the_documented_config_is_valid():
    page = Path(__file__).parents[2].joinpath("docs/cluster.md").read_text()
    Path("c.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    assert load_config("c.yaml").optimizer == "rmsprop_warmup"
    undocumented = [key for key in Config.model_fields if key not in page]
    assert undocumented == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"resume": "a", "initmodel": "b"}, "'resume' and 'initmodel' are both given"),
        ({"spill_dir": "/tmp"}, "'spill_dir' is for training out of core: add 'ooc: true'"),
        ({"gpu": False, "communicator": "flat"}, "'communicator' 'flat' needs GPUs: take 'naive'"),
        ({"gpu": False, "ooc": True, "host_memory": "1GiB"}, "'host_memory' is pinned for a GPU"),
        ({"nnodetype": None}, "'nodetype' is missing: one of f_node, h_node, q_node, s_gpu; or"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(changes, said):
    message = refused(write("c.json", TABLE | changes))
    assert message.startswith("c.json: " + said)


@pytest.mark.parametrize("wanted", [True, False, "auto", "swap", "recompute"])
def test_training_out_of_core_is_asked_for_as_in_the_trainer(wanted):
    assert load_config(write("c.yaml", TABLE | {"ooc": wanted})).ooc is wanted or isinstance(
        wanted, str
    )
    assert "did you mean swap?" in refused(write("c.json", TABLE | {"ooc": "swop"}))

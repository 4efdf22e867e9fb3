"""The example in docs/recompute.md runs."""

import re
from pathlib import Path

import chainer

DOCUMENT = Path(__file__).parents[2] / "docs" / "recompute.md"


def test_the_example_runs_and_recomputes_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    names = {}
    exec(compile(program, str(DOCUMENT), "exec"), names)
    gradients = {name: p.grad for name, p in names["model"].namedparams()}
    assert all(gradient is not None for gradient in gradients.values())
    assert isinstance(names["loss"], chainer.Variable)
    ran = []

    class Runs(chainer.FunctionHook):
        def forward_preprocess(self, function, in_data):
            ran.append(names["swapmem"].chainer.segments.current())

    with Runs():
        names["loss"].backward()
    assert set(ran) - {None} == {"block1", "block2"}

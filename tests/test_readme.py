"""What the README shows runs."""

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=["numpy", "by hand", "chainer"])
def test_an_example_of_the_readme_runs(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    # The second example goes on from the imports of the first.
    exec(compile(f"import numpy as np\nimport swapmem\n{example}", str(README), "exec"), {})
    if "report()" in example:
        assert "swapmem report" in capsys.readouterr().out

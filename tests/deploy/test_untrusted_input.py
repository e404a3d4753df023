"""No input is executed: our code does not unpickle it, evaluate it or pass it to a shell."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("bench", "cli", "deploy", "drills", "engine", "feeds", "jobs", "kernels", "page", "schemas", "udfs")
MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "jsonpickle", "joblib", "marshal", "shelve", "yaml"}  # yaml: PyYAML
NAMES = {"eval", "exec", "compile", "__import__"}
FUNCTIONS = {"os.system", "os.popen", "pd.read_pickle", "Types.PICKLED_BYTE_ARRAY"}
FLAGS = {"shell", "allow_pickle"}


def dangers(text: str) -> list[str]:
    """The calls in a module's text that could execute input, with their lines."""
    dangerous: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            named = [module] if module else [alias.name for alias in node.names]
            dangerous += [f"{node.lineno}: import {name}" for name in named if name.partition(".")[0] in MODULES]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in NAMES | FUNCTIONS:
                dangerous.append(f"{node.lineno}: {called}")
            for keyword in node.keywords:
                is_off = isinstance(keyword.value, ast.Constant) and not keyword.value.value
                if keyword.arg in FLAGS and not is_off:
                    dangerous.append(f"{node.lineno}: {keyword.arg}")
            # Left out, it is ruamel.yaml's round trip, which makes no objects either.
            kinds = [*node.args, *(word.value for word in node.keywords if word.arg in ("typ", None))]
            if called.endswith("YAML") and any(ast.unparse(kind) not in ("'safe'", "'rt'") for kind in kinds):
                dangerous.append(f"{node.lineno}: {called} that is not safe")
    return dangerous


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as p",
        "eval(message)",
        "import yaml",
        "YAML(typ='unsafe')",
        "YAML(typ=['unsafe'])",
        "YAML(**kind)",
        "np.load(file, allow_pickle=True)",
        "subprocess.run(command, shell=is_shell)",
        "os.system(command)",
        "state = Types.PICKLED_BYTE_ARRAY()",
    ],
)
def test_what_would_run_its_input_is_seen(text: str) -> None:
    assert dangers(text)


@pytest.mark.parametrize(
    "text", ["orjson.loads(message)", "YAML(typ='safe')", "YAML()", "re.compile(x)", "np.load(f, allow_pickle=False)"]
)
def test_what_only_reads_it_is_not(text: str) -> None:
    assert dangers(text) == []


def test_only_a_jobs_own_state_is_unpickled_and_nothing_else_is_run() -> None:
    files = (path for folder in PRODUCT for path in sorted((ROOT / folder).rglob("*.py")))
    modules = [path for path in files if "site-packages" not in path.parts]  # of the benches' peers
    assert len(modules) > 50
    dangerous = [f"{path.relative_to(ROOT)}:{danger}" for path in modules for danger in dangers(path.read_text())]
    assert [re.sub(r":\d+:", ":", where) for where in dangerous] == ["engine/host.py: Types.PICKLED_BYTE_ARRAY"]

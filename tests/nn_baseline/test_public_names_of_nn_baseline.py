"""`import nn_baseline` offers what users need, and loads it when it is asked for."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import nn_baseline

ROOT = Path(__file__).parents[2]
NAMES = [
    *("Network", "Options", "start_network", "train", "Status", "samples", "evaluate", "Layers"),
    *("save_training", "load_training", "dense_network", "stage_trace", "network_trace"),
    *("Wrapped", "wrap", "block_report", "choose", "crop", "write_trace", "load_state"),
    *("problem_of", "soft_cross_entropy", "cropping", "data"),
    *("grow", "Plan", "TurnpikeClassifier", "deployed", "Deployed"),
]


def test_the_public_names_are_these():
    assert sorted(nn_baseline.__all__) == sorted(NAMES) == dir(nn_baseline)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_says_what_it_is(name):
    value = getattr(nn_baseline, name)
    assert value.__doc__ and name in dir(nn_baseline)
    assert callable(value) or isinstance(value, ModuleType)


def test_no_file_of_the_package_hides_a_public_function():
    # importing a file sets an attribute of its name, so the two must differ
    files = {info.name for info in pkgutil.iter_modules(nn_baseline.__path__)} - {"__main__"}
    for file in files:
        importlib.import_module(f"nn_baseline.{file}")
    for name in nn_baseline.__all__:
        public_file = isinstance(getattr(nn_baseline, name), ModuleType)
        assert (name in files) == public_file, name


def test_a_fresh_import_and_the_list_of_names_load_no_torch():
    code = (
        "import sys, nn_baseline; dir(nn_baseline); nn_baseline.__all__\n"
        "assert not {'torch', 'numpy', 'rich'} & set(sys.modules)\n"
        "nn_baseline.Options\n"
        "assert 'torch' not in sys.modules\n"
        "from nn_baseline import train, data\n"
        "assert callable(train) and 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        nn_baseline.nothing  # noqa: B018

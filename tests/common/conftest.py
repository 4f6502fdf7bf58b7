"""Puts transformers' own tests, fetched by `fetch.py`, within reach as the package `transformers_tests`.

They run only when asked for by this folder's name: plain `pytest` leaves them out.
"""

import importlib.util
import sys
import types
from pathlib import Path

HERE = Path(__file__).parent
MARKERS = "accelerate_tests flash_attn_test flash_attn_3_test flash_attn_4_test torch_compile_test"
_spec = importlib.util.spec_from_file_location("fetch_transformers_tests", HERE / "fetch.py")
_fetch = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fetch)


def _asked_for() -> bool:
    return any(Path(argument.split("::")[0]).resolve() in (HERE, *HERE.glob("*.py")) for argument in sys.argv[1:])


def _package(name: str, *path: str, **attributes: object) -> None:
    module = types.ModuleType(name)
    module.__path__ = list(path)
    vars(module).update(attributes)
    sys.modules[name] = module


if _asked_for() and _fetch.folder().is_dir():
    _package("transformers_tests", str(_fetch.folder() / "tests"))
    # not part of the source distribution: generation and exporters, which image classifiers of ours do not use
    _package("transformers_tests.exporters")
    _package("transformers_tests.exporters.test_export", ExportTesterMixin=type("ExportTesterMixin", (), {}))
    # settings of every configuration, different from their defaults
    common = {"return_dict": False, "output_hidden_states": True, "chunk_size_feed_forward": 5, "dtype": "float16"}
    _package("transformers_tests.utils")
    _package("transformers_tests.utils.test_configuration_utils", config_common_kwargs=common)
    _package("transformers_tests.generation")
    _package("transformers_tests.generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
else:
    collect_ignore_glob = ["test_*.py"]


def pytest_configure(config):
    for marker in MARKERS.split():
        config.addinivalue_line("markers", f"{marker}: of transformers")

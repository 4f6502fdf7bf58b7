"""The demo Space on this machine."""

import importlib.util
import os
import sys
from pathlib import Path

from tailmoe.hub_cards.space import space_folder
from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluation.evaluate import load_model

SHIPPED = Path(__file__).parent / "models"
SHIPPED_PAIR = ("icl-moe-fashion-mnist-lt", "cross-entropy-fashion-mnist-lt")


def run_demo(model: str | None = None, baseline: str | None = None, port: int | None = None) -> None:
    """Become the process that serves the Space's page.

    Args:
        model: A run's folder or a Hub id; the pair that ships with the project if None.
        baseline: Likewise, to compare with; the run's own baseline if None.
        port: Of the page; the first free one from 7860 on if None.

    Raises:
        BadInputError: If there is no such model, or what the page needs is not installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise BadInputError("The demo needs gradio: `pip install 'tailmoe[demo]'`.")
    app = space_folder() / "app.py"
    if model is None:
        model, pair = (str(SHIPPED / name) for name in SHIPPED_PAIR)
        baseline = baseline or pair
    elif baseline is None and (Path(model) / "baseline" / "config.json").is_file():
        baseline = str(Path(model) / "baseline")
    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False"}
    for variable, name in (("MODEL_ID", model), ("BASELINE_ID", baseline)):
        environment.pop(variable, None)
        if name is not None:
            load_model(name)  # so that a wrong name is told here and not by the page
            environment[variable] = str(Path(name).resolve()) if Path(name).exists() else name
    if port is not None:
        environment["GRADIO_SERVER_PORT"] = str(port)
    os.execve(sys.executable, [sys.executable, str(app)], environment)

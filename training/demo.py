"""The demo Space on this machine."""

import importlib.util
import os
import sys
from pathlib import Path

from tailmoe.training.errors import BadInputError
from tailmoe.training.evaluation import load_model

APP = Path(__file__).parents[1] / "spaces" / "image_classification" / "app.py"


def run_demo(model: str, port: int | None = None) -> None:
    """Become the process that serves the Space's page for a model.

    Args:
        model: A run's folder or a Hub id.
        port: Of the page; the first free one from 7860 on if None.

    Raises:
        BadInputError: If there is no such model, or what the page needs is not installed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise BadInputError("The demo needs gradio: `pip install 'tailmoe[demo]'`.")
    if not APP.is_file():
        raise BadInputError(
            f"There is no {APP}: the demo runs from the source tree, installed with `pip install -e .`."
        )
    load_model(model)  # so that a wrong name is told here and not by the page
    model_id = str(Path(model).resolve()) if Path(model).exists() else model
    environment = os.environ | {"MODEL_ID": model_id, "GRADIO_ANALYTICS_ENABLED": "False"}
    if port is not None:
        environment["GRADIO_SERVER_PORT"] = str(port)
    os.execve(sys.executable, [sys.executable, str(APP)], environment)

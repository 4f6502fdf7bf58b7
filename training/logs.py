"""What the command line and its processes say: our own messages, and of the libraries errors alone."""

import logging
import os
import sys


def set_up_logging() -> None:
    """Write our messages to the standard error, of several processes those of the first."""
    import datasets
    from transformers.utils import logging as transformers_logging

    level = logging.INFO if is_main_process() else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    for library in ("httpx2", "datasets", "huggingface_hub", "matplotlib", "fsspec"):
        logging.getLogger(library).setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()


def is_main_process() -> bool:
    """Whether this is the only process, or the first of those that `torchrun` or `accelerate launch` started."""
    return os.environ.get("RANK", "0") == "0"

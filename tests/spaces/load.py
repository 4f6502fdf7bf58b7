"""Visitors of the page at once: how long they wait. `python tests/spaces/load.py URL IMAGE --visitors 20`."""

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gradio_client import Client, handle_file


def load(url: str, image: Path, visitors: int, images_each: int) -> dict:
    """Seconds from each visitor's upload to the answer, all visitors at once."""
    clients = [Client(url, verbose=False) for _ in range(visitors)]

    def visit(client: Client) -> list[float | str]:
        waits = []
        for _ in range(images_each):
            start = time.perf_counter()
            try:
                client.predict(handle_file(str(image)), api_name="/classify")
            except Exception as error:
                waits.append(str(error))
            else:
                waits.append(time.perf_counter() - start)
        return waits

    with ThreadPoolExecutor(visitors) as pool:
        waits = [wait for one in pool.map(visit, clients) for wait in one]
    seconds = sorted(wait for wait in waits if isinstance(wait, float))
    return {
        "visitors": visitors,
        "answers": len(seconds),
        "errors": len(waits) - len(seconds),
        "median_seconds": statistics.median(seconds) if seconds else None,
        "95th_percentile_seconds": statistics.quantiles(seconds, n=20)[-1] if len(seconds) > 1 else None,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="of the page")
    parser.add_argument("image", type=Path)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--images-each", type=int, default=5)
    args = parser.parse_args()
    sys.stdout.write(json.dumps(load(args.url, args.image, args.visitors, args.images_each), indent=2) + "\n")

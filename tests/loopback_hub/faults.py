"""Faults that tests inject: refused and lost answers, cut connections, cut downloads, delays."""

import asyncio
import re
from dataclasses import dataclass, field
from typing import Literal

from starlette.requests import Request
from starlette.responses import JSONResponse


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of `method` whose path matches `path`.

    Args:
        action: `"status"` answers with `status`; `"reset"` closes the connection before any work; `"lose_answer"` does
            the work and closes it then; `"truncate"` closes it after `size` bytes of the answer; `"delay"` waits.
        path: Regular expression, searched in the path.
        method: `"*"` for all.
        times: How many requests.
        status: Of the answer.
        headers: Of the answer.
        size: Bytes of a cut answer.
        seconds: Of a delay.
    """

    action: Literal["status", "reset", "lose_answer", "truncate", "delay"]
    path: str
    method: str = "*"
    times: int = 1
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    size: int = 0
    seconds: float = 0.0

    def meets(self, request: Request) -> bool:
        return self.times > 0 and self.method in ("*", request.method) and bool(re.search(self.path, request.url.path))


def close(send) -> None:
    """End the connection as a crash would."""
    send.__self__.transport.abort()


async def refuse(fault: Fault, request: Request, scope, receive, send) -> bool:
    """Do what a fault does before the work; whether the request ends with it."""
    if fault.action == "reset":
        close(send)
    elif fault.action == "status":
        await request.body()
        await JSONResponse({"error": "injected"}, fault.status, headers=fault.headers)(scope, receive, send)
    elif fault.action == "delay":
        await asyncio.sleep(fault.seconds)
    return fault.action in ("reset", "status")


def cut(fault: Fault, send):
    """A `send` that closes the connection after the fault's bytes of the body."""
    left = fault.size

    async def send_some(message) -> None:
        nonlocal left
        if message["type"] != "http.response.body":
            await send(message)
            return
        part = message.get("body", b"")[:left]
        left -= len(part)
        await send({"type": "http.response.body", "body": part, "more_body": True})
        if left <= 0:
            await asyncio.sleep(0.05)
            close(send)
            raise ConnectionAbortedError

    return send_some

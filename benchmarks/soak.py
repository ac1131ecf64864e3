"""The live server under many clients: every answer is the single client's, and its memory does not grow.

    proponent view RUN --port 8321 --no-browser &
    python benchmarks/soak.py http://localhost:8321 --pid $! --clients 8 --minutes 10 --prompts prompts.txt

The file of prompts has a prompt and a target a line, with a tab between them.  Each is traced by one client
first; then all clients trace them in random order.  Clients that are told to come again later (429) do.
An eleventh part has more clients than the server's queue has room for.
Prints the numbers of answers, of wrong ones and of those told to wait, the times, and the server's memory.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POLL = 0.02  # seconds between two looks at a trace

Asked = tuple[str, str]


@dataclass
class Found:
    """What the clients of a soak saw.

    seconds: of each answer.  wrong: answers other than the single client's.  later: requests answered with
    429.  unhinted: those of them that did not say when to come again.  failed: whatever else went wrong.
    """

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    later: int = 0
    unhinted: int = 0
    failed: list[str] = field(default_factory=list)


def trace(address: str, asked: Asked, found: Found, until: float = float("inf")) -> Any:
    """The row of one trace, asked for until the queue has room; None where time is up before."""
    prompt, target = asked
    body = {"prompt": prompt, "target": target, "method": "trackstar", "k": 3}
    while time.monotonic() < until:
        try:
            id = _request(f"{address}/api/traces", body)["id"]
            break
        except urllib.error.HTTPError as error:
            if error.code != 429:
                raise
            found.later += 1
            hint, words = error.headers.get("Retry-After"), json.load(error).get("detail", "")
            found.unhinted += not (hint and "try again" in words)
            time.sleep(min(1.0, float(hint or 1)))
    else:
        return None
    while (status := _request(f"{address}/api/traces/{id}"))["state"] in ("queued", "running"):
        time.sleep(POLL)
    return status["row"]


def soak(address: str, asked: Sequence[Asked], clients: int, seconds: float) -> Found:
    """Let so many clients ask at once for so long."""
    found, lock = Found(), threading.Lock()
    expected = {one: trace(address, one, found) for one in asked}
    until = time.monotonic() + seconds

    def client(number: int) -> None:
        chosen = random.Random(number)
        while time.monotonic() < until:
            one, own, began = chosen.choice(asked), Found(), time.monotonic()
            try:
                row = trace(address, one, own, until)
            except (OSError, ValueError, KeyError) as error:
                own.failed.append(str(error))
                row = None
            with lock:
                found.later, found.unhinted = found.later + own.later, found.unhinted + own.unhinted
                found.failed += own.failed
                if row is not None:
                    found.seconds.append(time.monotonic() - began)
                    found.wrong += row != expected[one]

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def memory(pid: int) -> float:
    """Resident MiB of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096 / 2**20


def _request(address: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def main() -> None:
    """Soak a server in ten parts and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address")
    parser.add_argument("--pid", type=int, required=True, help="of the server")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--overload", type=int, default=48, help="clients of one more part, at the end")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--prompts", type=Path, required=True)
    given = parser.parse_args()
    lines = given.prompts.read_text(encoding="utf-8").splitlines()
    asked = [(prompt, target) for prompt, _, target in (line.partition("\t") for line in lines)]
    print("| minute | answers | wrong | told to wait | without a hint | failed | median s | memory MiB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    minutes = [f"{part * given.minutes / 10:g}" for part in range(1, 11)]
    for minute, clients in [*((minute, given.clients) for minute in minutes), ("overload", given.overload)]:
        found = soak(given.address, asked, clients, given.minutes * 6)
        counts = (len(found.seconds), found.wrong, found.later, found.unhinted, len(found.failed))
        median = statistics.median(found.seconds) if found.seconds else float("nan")
        cells = " | ".join(map(str, counts))
        print(f"| {minute} | {cells} | {median:.2f} | {memory(given.pid):.0f} |", flush=True)


if __name__ == "__main__":
    main()

"""Load on a running server: throughput, latency, overload, invalid requests. Every answer is compared.

    pairjax predict MODEL pairs.tsv --output expected.jsonl
    pairjax serve MODEL --port 8080
    python -m tests.torture.load predict --pairs expected.jsonl --model MODEL
    python -m tests.torture.load throughput --pairs expected.jsonl --clients 64 --requests 4000
    python -m tests.torture.load throughput --pairs expected.jsonl --clients 1 --requests 500
    python -m tests.torture.load overload --pairs expected.jsonl --clients 600 --seconds 30
    python -m tests.torture.load mixed --pairs expected.jsonl --clients 16 --requests 20000 --pid PID

The clients speak HTTP over sockets of their own, so that they cost little.
"""

import argparse
import asyncio
import collections
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 2e-6
"""Largest difference of a probability; predictions are rounded to six digits."""


class Connection:
    """One HTTP/1.1 connection that is kept open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, body: bytes, *, path: str = "/predict", method: str = "POST") -> tuple[int, bytes]:
        """Sends a request and returns the status and the body of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(f"{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        try:
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            status, lines = int(head[9:12]), head.lower().split(b"\r\n")
            length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
            answer = await reader.readexactly(length)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.close()
            raise
        if b"connection: close" in lines:
            self.close()
        return status, answer

    async def vanish(self, body: bytes, *, cut: bool) -> None:
        """Closes the connection after a request, or in the middle of it, without waiting for the answer."""
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        writer.write(head + (body[: len(body) // 2] if cut else body))
        await writer.drain()
        writer.close()

    def close(self) -> None:
        """Closes the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def read_pairs(path: Path) -> list[dict[str, Any]]:
    """Reads the output of `pairjax predict`."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def request(row: dict[str, Any]) -> bytes:
    return json.dumps({"inputs": [row["sentence1"], row["sentence2"]]}).encode()


def is_right(answer: bytes, row: dict[str, Any]) -> bool:
    scores = {item["label"]: item["score"] for item in json.loads(answer)}
    return all(abs(scores[label] - share) <= TOLERANCE for label, share in row["probabilities"].items())


def summary(name: str, seconds: list[float]) -> str:
    if not seconds:
        return f"{name}: none"
    middle, high = np.percentile(seconds, [50, 99])
    return f"{name}: {len(seconds):,}; median {1e3 * middle:.1f} ms, 99th percentile {1e3 * high:.1f} ms"


async def throughput(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Sends single pairs, each client one after another."""
    numbers, times, wrong = iter(range(options.requests)), list[float](), 0

    async def client() -> None:
        nonlocal wrong
        connection = Connection(options.port)
        for number in numbers:
            row, start = rows[number % len(rows)], time.monotonic()
            status, answer = await connection.send(request(row))
            times.append(time.monotonic() - start)
            wrong += status != 200 or not is_right(answer, row)
        connection.close()

    start = time.monotonic()
    await asyncio.gather(*(client() for _ in range(options.clients)))
    print(f"{options.requests / (time.monotonic() - start):,.1f} pairs/s, {wrong} wrong; {summary('answers', times)}")


async def overload(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Sends as much as the clients can for some time; a refused client waits a little and tries again."""
    times: dict[int, list[float]] = collections.defaultdict(list)
    end, wrong = time.monotonic() + options.seconds, 0

    async def client(number: int) -> None:
        nonlocal wrong
        connection, generator = Connection(options.port), random.Random(number)
        while time.monotonic() < end:
            row, start = generator.choice(rows), time.monotonic()
            status, answer = await connection.send(request(row))
            times[status].append(time.monotonic() - start)
            wrong += status == 200 and not is_right(answer, row)
            if status == 429:
                await asyncio.sleep(generator.uniform(0.5, 1.0))
        connection.close()

    await asyncio.gather(*(client(number) for number in range(options.clients)))
    for status, seconds in sorted(times.items()):
        print(summary(f"status {status}", seconds))
    print(f"{wrong} wrong; {memory(options.pid)}")


INVALID: tuple[tuple[str, bytes, str, str, tuple[int, ...]], ...] = (
    ("cut JSON", b'{"inputs": ["a", "b"', "/predict", "POST", (400,)),
    ("wrong type", b'{"inputs": [["a", 3]]}', "/predict", "POST", (422,)),
    ("not an object", b"[1, 2]", "/predict", "POST", (422,)),
    ("megabyte text", json.dumps({"inputs": ["a " * 500_000, "b"]}).encode(), "/predict", "POST", (200,)),
    ("too large", b'{"inputs": ["' + b"a" * 2_000_001, "/predict", "POST", (413,)),
    ("lone surrogate", b'{"inputs": ["\\ud800", "b"]}', "/predict", "POST", (422,)),
    ("NUL", b'{"inputs": ["a \\u0000", "b"]}', "/predict", "POST", (200,)),
    ("not UTF-8", b'{"inputs": ["\xff\xfe", "b"]}', "/predict", "POST", (400,)),
    ("empty text", b'{"inputs": ["a", " "]}', "/predict", "POST", (422,)),
    ("too many", json.dumps({"inputs": [["a", "b"]] * 1001}).encode(), "/predict", "POST", (413,)),
    ("wrong method", b"", "/predict", "GET", (405,)),
    ("no route", b"{}", "/nothing", "POST", (404,)),
    ("no vector", b'{"inputs": "a"}', "/embed", "POST", (424,)),
)
"""Name, body, path, method and expected status of each kind of odd request."""
VANISH = ("vanish after the request", "vanish within the request")


async def mixed(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Sends single pairs, a fifth of the requests being odd."""
    counts: collections.Counter[str] = collections.Counter()
    numbers, before = iter(range(options.requests)), memory(options.pid)

    async def odd(connection: Connection, generator: random.Random) -> None:
        kind = generator.randrange(len(INVALID) + len(VANISH))
        if kind >= len(INVALID):
            name = VANISH[kind - len(INVALID)]
            await connection.vanish(request(generator.choice(rows)), cut="within" in name)
            counts[name] += 1
            return
        name, body, path, method, expected = INVALID[kind]
        try:
            status, _ = await connection.send(body, path=path, method=method)
        except (ConnectionError, asyncio.IncompleteReadError):
            # A refused body of megabytes may end the connection before the client has read the answer.
            counts[f"{name}: connection closed"] += 1
            return
        counts[name if status in expected else f"WRONG {name}: status {status}"] += 1

    async def client(number: int) -> None:
        connection, generator = Connection(options.port), random.Random(number)
        for _ in numbers:
            if generator.random() < 0.2:
                await odd(connection, generator)
                continue
            row = generator.choice(rows)
            status, answer = await connection.send(request(row))
            counts["right" if status == 200 and is_right(answer, row) else f"WRONG pair: status {status}"] += 1
        connection.close()

    await asyncio.gather(*(client(number) for number in range(options.clients)))
    for name, count in sorted(counts.items()):
        print(f"{name}: {count:,}")
    print(f"memory before: {before}; after: {memory(options.pid)}")


async def predict(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Times `model.predict` on the same pairs, after a pass that compiles every shape."""
    import pairjax
    from pairjax.step.compilation import use_compilation_cache

    use_compilation_cache(None)
    model = pairjax.load(options.model)
    pairs = [(row["sentence1"], row["sentence2"]) for row in rows]
    model.predict(pairs)
    start = time.monotonic()
    model.predict(pairs)
    print(f"{len(pairs) / (time.monotonic() - start):,.1f} pairs/s without a server")


def memory(pid: int | None) -> str:
    """Returns the memory of a process."""
    if pid is None:
        return "memory not measured"
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(f"{int(line.split()[1]) / 1024:,.0f} MB" for line in lines if line.startswith("VmRSS"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("throughput", "overload", "mixed", "predict"))
    parser.add_argument("--pairs", type=Path, required=True, help="output of `pairjax predict`")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--pid", type=int, help="the server, whose memory is printed")
    parser.add_argument("--model", help="the model folder, for the mode predict")
    options = parser.parse_args()
    run = {"throughput": throughput, "overload": overload, "mixed": mixed, "predict": predict}[options.mode]
    asyncio.run(run(options, read_pairs(options.pairs)))


if __name__ == "__main__":
    main()

"""SIGTERM under load: every request that was sent before the signal is answered, and the exit code is 0.

    python -m tests.torture.signals --rounds 20

Each round starts `pairjax serve` on a tiny model. Clients send pairs one after another, and a signal comes at a random
moment. A request that is sent after the signal may find a closed connection; it is counted apart.
"""

import argparse
import asyncio
import collections
import json
import os
import random
import signal
import tempfile
import time
from pathlib import Path

from tests.serve.served import PAIRS, write_models
from tests.serve.test_process import start_server
from tests.torture.load import Connection


async def play(port: int, pid: int, *, clients: int, seed: int) -> collections.Counter[str]:
    """Sends requests until the server has ended, and counts what became of them."""
    counts: collections.Counter[str] = collections.Counter()
    signalled = 0.0

    async def client(number: int) -> None:
        connection, generator = Connection(port), random.Random(seed * 1000 + number)
        while True:
            pairs = [list(generator.choice(PAIRS)) for _ in range(generator.randint(1, 20))]
            start = time.monotonic()
            try:
                status, answer = await connection.send(json.dumps({"inputs": pairs}).encode())
            except (ConnectionError, asyncio.IncompleteReadError):
                late = signalled and start >= signalled
                counts["sent after the signal, closed" if late else "LOST"] += 1
                return
            counts["answered" if status == 200 and len(json.loads(answer)) == len(pairs) else f"STATUS {status}"] += 1

    async def stop() -> None:
        nonlocal signalled
        await asyncio.sleep(random.Random(seed).uniform(0.2, 1.5))
        signalled = time.monotonic()
        os.kill(pid, signal.SIGTERM)

    await asyncio.gather(stop(), *(client(number) for number in range(clients)))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    total: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        model = write_models(Path(folder))["nli"]
        for seed in range(options.rounds):
            process, address = start_server(str(model))
            counts = asyncio.run(play(int(address.rpartition(":")[2]), process.pid, clients=options.clients, seed=seed))
            counts[f"exit code {process.wait(timeout=60)}"] += 1
            total += counts
            print(f"round {seed + 1}: {dict(counts)}", flush=True)
    print(dict(total))


if __name__ == "__main__":
    main()

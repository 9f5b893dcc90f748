"""Serve a model with Ray Serve: several replicas of the application of `pairjax serve`, each with its own batches.

Command: pip install 'ray[serve]' 'pairjax[serve]'; python experiments/serving/ray_serve.py runs/quickstart --replicas 2
Every route of `pairjax serve` answers at http://localhost:8000. It runs until Ctrl+C.
"""

import argparse
import os
import time
from pathlib import Path

import ray
from ray import serve
from starlette.applications import Starlette


def make_application(folder: str, replicas: int) -> serve.Application:
    """Returns a deployment in which each replica loads the model and compiles it."""

    def build() -> Starlette:
        """Builds the application; runs in each replica."""
        from pairjax.base.serve_config import ServeConfig
        from pairjax.inference.load import load
        from pairjax.serve.app import build_app, build_server
        from pairjax.step.compilation import use_compilation_cache

        use_compilation_cache(None)
        server = build_server({Path(folder).name: load(folder)}, ServeConfig())
        # Ray sends requests to a replica as soon as it is built, so everything is compiled before.
        for model in server.models.values():
            model.warm_up()
        return build_app(server)

    @serve.deployment(num_replicas=replicas, max_ongoing_requests=64, health_check_timeout_s=120)
    @serve.ingress(build)
    class Replica:
        """A replica; the application answers."""

    return Replica.bind()  # type: ignore[attr-defined]


def main() -> None:
    """Serves until an interrupt."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="a model folder, or a run folder")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    ray.init(num_cpus=max(options.replicas + 2, os.cpu_count() or 1), include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": options.port})
    serve.run(make_application(str(Path(options.model).resolve()), options.replicas))
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        serve.shutdown()


if __name__ == "__main__":
    main()

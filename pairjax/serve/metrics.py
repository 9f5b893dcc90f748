"""The server's Prometheus metrics; each application has a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pairjax.serve.models import Times

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TOKENS = (16, 64, 256, 1024, 4096, 16384, 65536)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "pairjax_requests", "Requests by route and status", ["route", "status"], registry=self._registry
        )
        self._failures = Counter(
            "pairjax_failures", "Failed requests by kind of error", ["route", "kind"], registry=self._registry
        )
        self._seconds = Histogram(
            "pairjax_request_seconds", "Whole requests", ["route"], buckets=SECONDS, registry=self._registry
        )
        by_stage = {
            "tokenise": "Tokenisation of a request",
            "queue": "Time that a request's rows wait for the device",
            "compute": "Time that the device takes for the batches of a request",
        }
        self._stages = {
            stage: Histogram(f"pairjax_{stage}_seconds", text, ["model"], buckets=SECONDS, registry=self._registry)
            for stage, text in by_stage.items()
        }
        self._batch_rows = Histogram(
            "pairjax_batch_rows", "Rows of a batch", ["model"], buckets=SIZES, registry=self._registry
        )
        self._batch_tokens = Histogram(
            "pairjax_batch_tokens", "Tokens of a batch", ["model"], buckets=TOKENS, registry=self._registry
        )
        self._rows = Counter("pairjax_rows", "Pairs and texts answered", ["model"], registry=self._registry)
        self._tokens = Counter("pairjax_tokens", "Tokens read", ["model"], registry=self._registry)
        self._truncated = Counter(
            "pairjax_truncated", "Pairs and texts that were cut", ["model"], registry=self._registry
        )
        self._answers = Counter("pairjax_answers", "Answers by label", ["model", "label"], registry=self._registry)
        self._confidence = Counter(
            "pairjax_confidence",
            "Sum of the largest probabilities; divide by answers for the mean",
            ["model"],
            registry=self._registry,
        )
        self.active = Gauge("pairjax_active_requests", "Requests that are worked on or wait", registry=self._registry)
        self.waiting = Gauge("pairjax_waiting_rows", "Rows that wait for the device", registry=self._registry)

    def observe_batch(self, model: str, rows: int, tokens: int) -> None:
        """Counts a batch."""
        self._batch_rows.labels(model).observe(rows)
        self._batch_tokens.labels(model).observe(tokens)

    def observe_request(self, route: str, status: int, seconds: float, *, failure: str | None) -> None:
        """Counts a request.

        Args:
            route: Its route, or "other".
            status: HTTP status of the answer; 499 if the client has gone.
            seconds: Seconds that it took.
            failure: Kind of the error; None for success.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if failure is not None:
            self._failures.labels(route, failure).inc()

    def observe_answer(self, model: str, times: Times, labels: list[tuple[str, float]]) -> None:
        """Counts the work of a successful request.

        Args:
            model: Name of the model.
            times: What the answer took.
            labels: Label and confidence of each answer.
        """
        for stage, seconds in (("tokenise", times.tokenise), ("queue", times.queue), ("compute", times.compute)):
            self._stages[stage].labels(model).observe(seconds)
        self._rows.labels(model).inc(times.rows)
        self._tokens.labels(model).inc(times.tokens)
        self._truncated.labels(model).inc(times.truncated)
        for label, confidence in labels:
            self._answers.labels(model, label).inc()
            self._confidence.labels(model).inc(confidence)

    def text(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

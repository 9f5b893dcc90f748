"""The ASGI application: routes, checks of each request, errors in TEI's form, log and metrics."""

import asyncio
import contextlib
import hmac
import json
import math
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pairjax.base.serve_config import ServeConfig
from pairjax.inference.classifier import PairClassifier
from pairjax.serve import classify, tei, vendors
from pairjax.serve.call import Call
from pairjax.serve.errors import RequestError
from pairjax.serve.info import health_of, info_of
from pairjax.serve.logs import log, request_id
from pairjax.serve.metrics import CONTENT_TYPE, Metrics
from pairjax.serve.models import ServedModel
from pairjax.serve.openapi import openapi
from pairjax.serve.page import page
from pairjax.serve.tokenise import release_memory

ENDPOINTS: dict[str, Callable[[Call], Awaitable[Any]]] = {
    "/": tei.hub,
    "/pipeline/text-classification": tei.hub,
    "/predict": tei.predict,
    "/rerank": tei.rerank,
    "/embed": tei.embed,
    "/similarity": tei.similarity,
    "/v1/rerank": vendors.cohere_v1,
    "/v2/rerank": vendors.cohere_v2,
    "/v1/embeddings": vendors.embeddings,
    "/v1/classify": classify.classify,
    "/v1/explain": classify.explain,
}
"""The routes that answer POST with JSON."""
LARGE_BODY = 65_536
"""Bodies above this size, in bytes, are parsed outside the event loop, and their memory is returned to the system."""
LOADING_RETRY = 5
GONE = 499
"""Status in log and metrics of a request whose client has gone, as nginx writes it."""


@dataclass
class Server:
    """The state of one application.

    Attributes:
        models: The models, by name; the first one is the default.
        config: The configuration.
        metrics: The metrics.
        device: Executor of the one thread that computes.
        tokenisers: Executor of the threads that tokenise.
        ready: Whether every shape is compiled.
        draining: Whether the server is about to end; it still answers, but /health says no.
        active: Number of requests that are worked on.
        failed: The error of the warm-up.
        when_failed: Called after the warm-up has failed.
    """

    models: dict[str, ServedModel]
    config: ServeConfig
    metrics: Metrics
    device: ThreadPoolExecutor
    tokenisers: ThreadPoolExecutor
    ready: bool = False
    draining: bool = False
    active: int = 0
    failed: Exception | None = None
    when_failed: Callable[[], None] = field(default=lambda: None)

    async def warm_up(self) -> None:
        """Compiles every shape of every model, and then is ready."""
        start, shapes = time.monotonic(), 0
        try:
            for model in self.models.values():
                shapes += await asyncio.get_running_loop().run_in_executor(self.device, model.warm_up)
        except Exception as error:
            self.failed = error
            self.when_failed()
            return
        self.ready = True
        log("ready", models=list(self.models), shapes=shapes, seconds=round(time.monotonic() - start, 2))


def build_server(models: Mapping[str, PairClassifier], config: ServeConfig) -> Server:
    """Builds the state of an application.

    Args:
        models: The models, by name.
        config: The configuration.
    """
    metrics = Metrics()
    device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
    tokenisers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokenise")
    served = {
        name: ServedModel(name, model, config, device=device, tokenisers=tokenisers, observe=metrics.observe_batch)
        for name, model in models.items()
    }
    return Server(served, config, metrics, device, tokenisers)


def build_app(server: Server) -> Starlette:
    """Builds the application; its lifespan compiles the models in the background."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        warming = asyncio.create_task(server.warm_up())
        try:
            yield
        finally:
            warming.cancel()
            await asyncio.gather(warming, return_exceptions=True)
            for model in server.models.values():
                await model.close()
            server.device.shutdown(wait=True, cancel_futures=True)
            server.tokenisers.shutdown(wait=True, cancel_futures=True)

    routes = [Route(path, _endpoint(server, path), methods=["POST"]) for path in ENDPOINTS]
    routes += [Route(path, _getter(server, path, get), methods=["GET"]) for path, get in GETTERS.items()]
    middleware = []
    if server.config.cors_origins:
        origins = list(server.config.cors_origins)
        headers = ["authorization", "content-type", "x-request-id"]
        middleware.append(Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=headers))
    handlers: dict[Any, Any] = {HTTPException: _http_error(server)}
    return Starlette(routes=routes, lifespan=lifespan, middleware=middleware, exception_handlers=handlers)


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Returns an answer in JSON."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(), status, dict(headers or {}), media_type="application/json")


def _authorise(server: Server, request: Request) -> None:
    """Raises RequestError if the server has a key and the request does not name it."""
    key = server.config.api_key
    if key is None:
        return
    given = request.headers.get("authorization", "")
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), key.encode()):
        raise RequestError("Unauthorized", "this server needs the header `Authorization: Bearer KEY`")


async def _read_body(request: Request, config: ServeConfig) -> bytes:
    """Reads a body within the limits of size and time."""
    limit = config.max_body_bytes
    refusal = RequestError("TooLarge", f"the body is larger than {limit} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise refusal
    parts, size = [], 0
    try:
        async with asyncio.timeout(config.body_timeout):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise refusal
                parts.append(part)
    except TimeoutError:
        raise RequestError("Timeout", f"the body did not arrive within {config.body_timeout:g} seconds") from None
    return b"".join(parts)


def _parse(body: bytes) -> dict[str, Any]:
    """Parses a body."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else ascii(str(error))[1:-1][:120]
        raise RequestError("Syntax", f"the body is not JSON: {reason}") from None
    if not isinstance(value, dict):
        raise RequestError("Validation", f"the body: got {type(value).__name__}; expected a JSON object")
    return value


def _select(server: Server, name: object) -> ServedModel:
    """Returns the model that a request names; with a single model, any name will do, since clients always send one."""
    if name is None or len(server.models) == 1:
        return next(iter(server.models.values()))
    if not isinstance(name, str) or name not in server.models:
        raise RequestError("NotFound", f"`model`: got {ascii(name)[:60]}; expected one of {', '.join(server.models)}")
    return server.models[name]


async def _until_gone(request: Request) -> None:
    """Returns when the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _run(server: Server, request: Request, path: str, record: dict[str, Any]) -> Response:
    """Answers a POST; adds to `record` what the log should say."""
    # 1. Whether the server can take it.
    if not server.ready:
        raise RequestError("Unhealthy", "the server is compiling its models", retry_after=LOADING_RETRY)
    if server.active >= server.config.max_concurrent_requests:
        raise RequestError("Overloaded", f"{server.active} requests are worked on; try again later", retry_after=1)
    server.active += 1
    server.metrics.active.set(server.active)
    large = False
    try:
        # 2. The body and the model.
        start = time.monotonic()
        body = await _read_body(request, server.config)
        large = len(body) > LARGE_BODY
        parsing = asyncio.get_running_loop().run_in_executor
        values = await parsing(server.tokenisers, _parse, body) if large else _parse(body)
        model = _select(server, values.get("model", request.query_params.get("model")))
        call = Call(values, model, server.models, server.config)
        if server.config.log_texts:
            record["body"] = values
        # 3. The answer, unless the client goes first or the time is over.
        answer = await _within_time(server, request, ENDPOINTS[path](call))
        times = call.times
        record |= {"model": model.name, "rows": times.rows, "tokens": times.tokens}
        record |= {f"{stage}_ms": round(1e3 * getattr(times, stage), 2) for stage in ("tokenise", "queue", "compute")}
        server.metrics.observe_answer(model.name, times, call.labels)
        return _json(answer, headers=_time_headers(call, time.monotonic() - start))
    finally:
        server.active -= 1
        server.metrics.active.set(server.active)
        if large:
            with contextlib.suppress(RuntimeError):  # The server has ended.
                server.tokenisers.submit(release_memory)


async def _within_time(server: Server, request: Request, answer: Awaitable[Any]) -> Any:
    """Waits for an answer; it is cancelled if the client closes the connection or the time is over."""
    working, gone = asyncio.ensure_future(answer), asyncio.ensure_future(_until_gone(request))
    try:
        first = asyncio.FIRST_COMPLETED
        done, _ = await asyncio.wait({working, gone}, timeout=server.config.timeout, return_when=first)
        if working in done:
            return working.result()
        if gone in done:
            raise ClientDisconnect
        message = f"no answer within {server.config.timeout:g} seconds; send fewer pairs, or try again later"
        raise RequestError("Unhealthy", message, retry_after=LOADING_RETRY)
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


def _time_headers(call: Call, seconds: float) -> dict[str, str]:
    """Returns TEI's headers: times in milliseconds, numbers of tokens and characters."""
    times = call.times
    values = {
        "x-compute-characters": times.characters,
        "x-compute-tokens": times.tokens,
        "x-total-time": math.ceil(1e3 * seconds),
        "x-tokenization-time": math.ceil(1e3 * times.tokenise),
        "x-queue-time": math.ceil(1e3 * times.queue),
        "x-inference-time": math.ceil(1e3 * times.compute),
    }
    return {name: str(value) for name, value in values.items()}


def _endpoint(server: Server, path: str) -> Callable[[Request], Awaitable[Response]]:
    """Returns the handler of a POST route."""

    async def work(request: Request, record: dict[str, Any]) -> Response:
        return await _run(server, request, path, record)

    return _logged(server, path, work)


def _getter(server: Server, path: str, get: Callable[[Server, Request], Response]) -> Callable[..., Any]:
    """Returns the handler of a GET route."""

    async def work(request: Request, record: dict[str, Any]) -> Response:
        return get(server, request)

    return _logged(server, path, work, open_to_all=path in OPEN)


def _logged(
    server: Server,
    path: str,
    work: Callable[[Request, dict[str, Any]], Awaitable[Response]],
    *,
    open_to_all: bool = False,
) -> Callable[[Request], Awaitable[Response]]:
    """Returns a handler that checks the key, converts errors, and writes log and metrics."""

    async def handle(request: Request) -> Response:
        start, record, failure = time.monotonic(), dict[str, Any](), None
        number = request_id(request.headers.get("x-request-id"))
        try:
            if not open_to_all:
                _authorise(server, request)
            response = await work(request, record)
        except RequestError as error:
            failure = error.kind
            headers = error.headers | ({"connection": "close"} if error.kind in ("TooLarge", "Timeout") else {})
            response = _json(error.to_json(), error.status, headers)
        except ClientDisconnect:
            failure, response = "ClientGone", Response(status_code=GONE)
        except Exception as error:
            # A fault of ours or of the device: TEI answers 424, and the log holds the traceback.
            failure = "Backend"
            log("error", request_id=number, route=path, traceback=traceback.format_exc())
            response = _json(RequestError("Backend", f"the model failed: {type(error).__name__}").to_json(), 424)
        seconds = time.monotonic() - start
        response.headers["x-request-id"] = number
        server.metrics.observe_request(path, response.status_code, seconds, failure=failure)
        if server.config.access_log and path not in QUIET:
            fields = {"request_id": number, "route": path, "status": response.status_code} | record
            log("request", **fields, ms=round(1e3 * seconds, 2), **({"failure": failure} if failure else {}))
        return response

    return handle


def _http_error(server: Server) -> Callable[[Request, HTTPException], Awaitable[Response]]:
    """Returns the handler of unknown routes and wrong methods."""

    async def handle(request: Request, error: HTTPException) -> Response:
        posts, gets = request.url.path in ENDPOINTS, request.url.path in GETTERS
        if error.status_code == 405:
            expected = " or ".join(method for method, known in (("GET", gets), ("POST", posts)) if known)
            failure = RequestError("Method", f"this route answers {expected}")
        else:
            failure = RequestError("NotFound", f"no such route; expected one of {', '.join([*ENDPOINTS, *GETTERS])}")
        server.metrics.observe_request("other", failure.status, 0.0, failure=failure.kind)
        return _json(failure.to_json(), failure.status, dict(error.headers or {}))

    return handle


def _health(server: Server, request: Request) -> Response:
    """Answers /health."""
    status, body = health_of(ready=server.ready, draining=server.draining)
    return _json(body, status, {} if status == 200 else {"retry-after": str(LOADING_RETRY)})


def _info(server: Server, request: Request) -> Response:
    """Answers /info."""
    return _json(info_of(_select(server, request.query_params.get("model")), list(server.models), server.config))


def _metrics(server: Server, request: Request) -> Response:
    """Answers /metrics."""
    server.metrics.waiting.set(sum(model.waiting for model in server.models.values()))
    return Response(server.metrics.text(), headers={"content-type": CONTENT_TYPE})


def _page(server: Server, request: Request) -> Response:
    """Answers GET /."""
    content, headers = page()
    return Response(content, headers=headers)


def _card(server: Server, request: Request) -> Response:
    """Answers /card: the model card in Markdown; empty if the model has none."""
    path = _select(server, request.query_params.get("model")).model.artifact.folder / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return Response(text, headers={"content-type": "text/markdown; charset=utf-8"})


GETTERS: dict[str, Callable[[Server, Request], Response]] = {
    "/": _page,
    "/card": _card,
    "/health": _health,
    "/info": _info,
    "/metrics": _metrics,
    "/v1/models": lambda server, request: _json(vendors.list_models(list(server.models))),
    "/openapi.json": lambda server, request: _json(openapi(server.models)),
}
"""The routes that answer GET."""
OPEN = ("/", "/health")
"""Routes that need no key: probes have none, and the page asks for it."""
QUIET = ("/health", "/metrics")
"""Routes that are not in the log: probes call them every few seconds."""

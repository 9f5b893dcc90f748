"""A Cloud Storage that answers on this machine: what gcsfs and TensorStore ask of its JSON API, objects in memory.

By https://cloud.google.com/storage/docs/json_api: uploads (media, multipart, resumable), downloads with ranges,
metadata, lists by prefix and delimiter, deletion, generations and the conditions on them. Nothing of a real
bucket's delays, quotas or permissions.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

DATE = "2026-01-01T00:00:00.000Z"


class Answer:
    def __init__(self, code: int, body: Any = b"", headers: dict[str, str] | None = None) -> None:
        self.code, self.headers = code, headers or {}
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


def failed(code: int) -> Answer:
    return Answer(code, {"error": {"code": code, "message": f"code {code}"}})


def split_multipart(body: bytes, kind: str) -> tuple[dict[str, Any], bytes]:
    """The metadata and the data of a multipart/related body."""
    found = re.search(r"boundary=([^;]+)", kind)
    assert found is not None
    _, first, second, _ = body.split(b"--" + found[1].strip("\"'").encode())
    parts = [re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1] for part in (first, second)]
    return json.loads(parts[0]), re.sub(rb"\r?\n\Z", b"", parts[1])


class Bucket:
    """One bucket's objects, as {name: (data, generation)}."""

    def __init__(self, name: str) -> None:
        self.name, self.objects = name, dict[str, tuple[bytes, int]]()
        self._generation = 0
        self._uploads: dict[str, tuple[str, bytearray, dict[str, str]]] = {}
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any, body: bytes) -> Answer:
        with self._lock:
            place = re.fullmatch(r"(?:/resumable)?(/upload|/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", path)
            if place is None or place[2] != self.name:
                return failed(404)
            if place[1] == "/upload":
                return self._upload(query, headers, body)
            if place[3] is None:
                return self._list(query) if path.endswith("/o") else Answer(200, {"name": self.name, "id": self.name})
            name = unquote(place[3])
            if name not in self.objects:
                return failed(404)
            data, generation = self.objects[name]
            if int(query.get("ifGenerationMatch", generation)) != generation:
                return failed(412)
            if method == "DELETE":
                del self.objects[name]
                return Answer(204)
            if query.get("alt") != "media":
                return Answer(200, self._about(name))
            if query.get("ifGenerationNotMatch") == str(generation):
                return Answer(304)
            return _read(data, generation, headers.get("Range", ""))

    def _about(self, name: str) -> dict[str, Any]:
        data, generation = self.objects[name]
        return {
            "kind": "storage#object",
            "id": f"{self.name}/{name}/{generation}",
            "name": name,
            "bucket": self.name,
            "generation": str(generation),
            "size": str(len(data)),
            "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
            "timeCreated": DATE,
            "updated": DATE,
        }

    def _put(self, name: str, data: bytes, query: dict[str, str]) -> Answer:
        has = self.objects[name][1] if name in self.objects else 0
        if int(query.get("ifGenerationMatch", has)) != has:
            return failed(412)
        self._generation += 1
        self.objects[name] = (data, self._generation)
        return Answer(200, self._about(name))

    def _upload(self, query: dict[str, str], headers: Any, body: bytes) -> Answer:
        match query.get("uploadType"), query.get("upload_id"):
            case "media", _:
                return self._put(query["name"], body, query)
            case "multipart", _:
                about, data = split_multipart(body, headers["Content-Type"])
                return self._put(about.get("name") or query["name"], data, query)
            case "resumable", None:
                about, key = json.loads(body or b"{}"), str(len(self._uploads))
                self._uploads[key] = (about.get("name") or query["name"], bytearray(), query)
                where = f"http://{headers['Host']}/upload/storage/v1/b/{self.name}/o"
                return Answer(200, {}, {"Location": f"{where}?uploadType=resumable&upload_id={key}"})
            case "resumable", str(key):
                name, held, first = self._uploads[key]
                held += body
                if headers.get("Content-Range", "").endswith("/*"):
                    return Answer(308, b"", {"Range": f"bytes=0-{len(held) - 1}"})
                return self._put(name, bytes(held), first)
        return failed(400)

    def _list(self, query: dict[str, str]) -> Answer:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        items, prefixes = [], set()
        for name in sorted(self.objects):
            rest = name.removeprefix(prefix)
            if not name.startswith(prefix) or not query.get("startOffset", "") <= name < query.get("endOffset", "~"):
                continue
            if delimiter and delimiter in rest:
                prefixes.add(prefix + rest.split(delimiter, 1)[0] + delimiter)
            else:
                items.append(self._about(name))
        return Answer(200, {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)})


def _read(data: bytes, generation: int, ranged: str) -> Answer:
    headers = {"x-goog-generation": str(generation), "x-goog-stored-content-length": str(len(data))}
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", ranged)
    if found is None or not data:
        return Answer(200, data, headers)
    start, end = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
    if start >= len(data):
        return failed(416)
    return Answer(206, data[start : end + 1], headers | {"Content-Range": f"bytes {start}-{end}/{len(data)}"})


@contextmanager
def serve(name: str) -> Iterator[tuple[Bucket, dict[str, str]]]:
    """A bucket, and the environment in which both clients find it."""
    bucket = Bucket(name)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # headers and body in one packet: the second of two waits for an acknowledgement

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _any(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
            made = bucket.answer(self.command, url.path, query, self.headers, self._body())
            self.send_response(made.code)
            for key, value in ({"Content-Type": "application/json"} | made.headers).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(made.body)))
            self.end_headers()
            self.wfile.write(made.body)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815 - names that http.server looks for

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that has hung up is no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        # The last: else gcsfs asks another service, with credentials, of what kind the bucket is.
        yield (
            bucket,
            {
                "STORAGE_EMULATOR_HOST": address,
                "TENSORSTORE_GCS_HTTP_URL": address,
                "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            },
        )
        server.shutdown()

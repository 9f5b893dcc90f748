"""A stand-in for the Hugging Face hub on the loopback interface, as far as huggingface_hub talks to it here.

It creates repositories, takes commits and pull requests, and serves files. It does not know LFS or Xet: all files come
inside the commit. A request without the right token is refused, as the hub does.
"""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_standInTokenForTests"
REVISION = "0" * 40


class Hub(ThreadingHTTPServer):
    """The server.

    Attributes:
        repositories: Files by repository and path.
        requests: Method and path of each request.
        pull_requests: Files of each pull request, by repository.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.pull_requests: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of huggingface_hub."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Prints nothing."""

    def _answer(self, value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Sends JSON, or bytes as they are."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _refused(self) -> bool:
        """Refuses a request whose token is not the known one."""
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return False
        self._answer({"error": "Invalid credentials in Authorization header"}, status=401)
        return True

    def do_POST(self) -> None:
        """Creates a repository, or takes a commit."""
        body, path = self._body(), self.path.split("?")[0]
        self.server.requests.append(f"POST {self.path}")
        if path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif self._refused():
            return
        elif path == "/api/repos/create":
            values = json.loads(body)
            name = f"{values['organization']}/{values['name']}" if values.get("organization") else values["name"]
            self.server.repositories.setdefault(name, {})
            self._answer({"url": f"{self.server.address}/{name}", "name": name})
        elif match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = json.loads(body)["files"]
            answers = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self._answer({"files": answers})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            self._commit(match[1], body)
        else:
            self._answer({"error": f"unknown path {path}"}, status=404)

    def _commit(self, name: str, body: bytes) -> None:
        """Stores the files of a commit."""
        if name not in self.server.repositories:
            self._answer({"error": "Repository not found"}, status=404, headers={"X-Error-Code": "RepoNotFound"})
            return
        lines = [json.loads(line) for line in body.splitlines() if line]
        values = [line["value"] for line in lines if line["key"] == "file"]
        files = {value["path"]: base64.b64decode(value["content"]) for value in values}
        address = f"{self.server.address}/{name}"
        answer = {"success": True, "commitOid": REVISION, "commitUrl": f"{address}/commit/{REVISION}"}
        if "create_pr=1" in self.path:
            self.server.pull_requests[name] = files
            answer["pullRequestUrl"] = f"{address}/discussions/1"
        else:
            self.server.repositories[name] |= files
        self._answer(answer)

    def do_GET(self) -> None:
        """Describes a repository, or serves a file."""
        self.server.requests.append(f"{self.command} {self.path}")
        path = self.path.split("?")[0]
        for name, files in self.server.repositories.items():
            if path.startswith(f"/api/models/{name}/tree/"):
                entries = [
                    {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for file, content in files.items()
                ]
                self._answer(entries)
                return
            if path.startswith(f"/api/models/{name}"):
                siblings = [{"rfilename": file} for file in files]
                self._answer({"id": name, "modelId": name, "sha": REVISION, "siblings": siblings, "private": False})
                return
            for file, content in files.items():
                if path == f"/{name}/resolve/{REVISION}/{file}":
                    etag = f'"{hashlib.sha256(content).hexdigest()}"'
                    self._answer(content, headers={"ETag": etag, "X-Repo-Commit": REVISION})
                    return
        self._answer({"error": "Repository not found"}, status=404, headers={"X-Error-Code": "RepoNotFound"})

    def do_HEAD(self) -> None:
        """Answers as a GET request, without the content."""
        self.do_GET()

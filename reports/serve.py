"""`python -m reports serve`: look at the pages in a browser. Standard library, loopback only, read only."""

from __future__ import annotations

import html
import sys
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

HOST = "127.0.0.1"
ALLOWED = {".html", ".svg", ".csv", ".tex"}


class Handler(SimpleHTTPRequestHandler):
    """Files that `build` writes, and a list of pages; nothing hidden, no folder listing, no other host's name."""

    server_version, sys_version = "regatta", ""

    def do_GET(self) -> None:
        if self._refused():
            return
        if urlsplit(self.path).path == "/":
            self._list()
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        if not self._refused():
            super().do_HEAD()

    def end_headers(self) -> None:
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        print(f"{self.address_string()} {format % args}", file=sys.stderr)

    def _refused(self) -> bool:
        # a page of another site that had its name point here would send that name
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        name = unquote(urlsplit(self.path).path).lstrip("/")
        if host not in (HOST, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN, "only for this machine")
            return True
        if name and ("/" in name or name.startswith(".") or Path(name).suffix not in ALLOWED):
            self.send_error(HTTPStatus.NOT_FOUND)
            return True
        return False

    def _list(self) -> None:
        pages = sorted(p.stem for p in Path(self.directory).glob("*.html"))
        items = "".join(f'<li><a href="{html.escape(p)}.html">{html.escape(p)}</a></li>' for p in pages)
        text = f"<!doctype html><meta charset=utf-8><title>Regatta</title><h1>Pages</h1><ul>{items}</ul>".encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of one folder's pages; port 0 takes a free one."""
    return ThreadingHTTPServer((HOST, port), partial(Handler, directory=str(folder)))


def serve(folder: Path, port: int) -> int:
    """Serve until interrupted."""
    with server(folder, port) as running:
        print(f"http://{HOST}:{running.server_address[1]}/ (stop with Ctrl-C)", flush=True)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            print(file=sys.stderr)
    return 0

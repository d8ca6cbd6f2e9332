"""`python -m reports serve`: look at the pages in a browser. Standard library, loopback only, read only."""

from __future__ import annotations

import html
import stat
import sys
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

HOST = "127.0.0.1"
NAMES = {HOST, "localhost", "[::1]"}
HTTP_PORT = 80  # which a browser leaves out
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
        if not self._for_us(self.headers.get_all("Host", [])):
            self.send_error(HTTPStatus.FORBIDDEN, "only for this machine")
            return True
        try:
            name = unquote(urlsplit(self.path).path, errors="strict").lstrip("/")
        except ValueError:  # no UTF-8, or no address at all
            name = "\0"
        if name and not self._page(name):
            self.send_error(HTTPStatus.NOT_FOUND)
            return True
        return False

    def _for_us(self, hosts: list[str]) -> bool:
        """Whether the one Host is this machine's: a page of another site that had its name point here sends that."""
        port = self.connection.getsockname()[1]
        known = {f"{name}:{port}" for name in NAMES} | (NAMES if port == HTTP_PORT else set())
        return len(hosts) == 1 and hosts[0].lower() in known

    def _page(self, name: str) -> bool:
        """Whether the name is of a page that lies in the folder itself: no other folder, no link, no pipe."""
        if "/" in name or "\\" in name or not name.isprintable() or name.startswith("."):
            return False
        try:
            found = (Path(self.directory) / name).lstat()
        except (OSError, ValueError):
            return False
        return Path(name).suffix in ALLOWED and stat.S_ISREG(found.st_mode)

    def _list(self) -> None:
        pages = sorted(p.stem for p in Path(self.directory).glob("*.html") if self._page(p.name))
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

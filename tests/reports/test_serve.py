"""serve: pages on loopback, and nothing but pages."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from reports import cli
from reports.serve import HOST, server


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    site = tmp_path / "site"
    site.mkdir()
    (site / "demo.html").write_text("<p>page</p>")
    (site / ".built.json").write_text("{}")
    (tmp_path / "secret.html").write_text("secret")
    (site / "linked.html").symlink_to(tmp_path / "secret.html")
    (site / "folder.html").symlink_to(tmp_path)
    os.mkfifo(site / "pipe.html")
    running = server(site, 0)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    assert running.server_address[0] == HOST == "127.0.0.1"
    yield int(running.server_address[1])
    running.shutdown()
    running.server_close()
    thread.join(5)


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    link = HTTPConnection(HOST, port, timeout=10)
    link.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        link.putheader(name, value)
    link.endheaders()
    answer = link.getresponse()
    return answer.status, answer.read().decode()


def test_pages_are_listed_and_served(port: int) -> None:
    assert get(port, "/") == (200, get(port, "/")[1]) and 'href="demo.html"' in get(port, "/")[1]
    assert get(port, "/demo.html") == (200, "<p>page</p>")


@pytest.mark.parametrize("path", ["/../secret.html", "/%2e%2e/secret.html", "/..%2fsecret.html", "/.built.json",
                                  "/nothing.html", "//etc/passwd", "/%00", "/demo.html%00", "/%00.html", "/%ff.html",
                                  "/linked.html", "/folder.html", "/pipe.html", "/demo.html%0a",
                                  "/" + "a" * 300 + ".html"])
def test_nothing_else_is_served(port: int, path: str) -> None:
    status, text = get(port, path)
    assert status == 404 and "secret" not in text.replace(path, "")


def test_a_link_is_not_listed(port: int) -> None:
    assert "linked" not in get(port, "/")[1] and "pipe" not in get(port, "/")[1]


OTHERS = ("evil.example:80", "localhost:{port}.evil.com", "localhost.evil.com:{port}", "evil.com:{port}", "",
          "localhost", "127.0.0.1", "localhost:1", "localhost:{port}:{port}", "user@localhost:{port}",
          "127.0.0.1.nip.io:{port}", "localhost:{port}/x", "::1:{port}", "[::1]", "127.1:{port}",
          "localhost:0{port}")  # fmt: skip


@pytest.mark.parametrize("host", OTHERS)
def test_another_site_s_name_is_refused(host: str, port: int) -> None:
    assert get(port, "/", Host=host.format(port=port))[0] == 403


def test_two_names_or_none_are_refused(port: int) -> None:
    link = HTTPConnection(HOST, port, timeout=10)
    link.putrequest("GET", "/")  # which sends a right one
    link.putheader("Host", f"localhost:{port}")
    link.endheaders()
    assert link.getresponse().status == 403
    link = HTTPConnection(HOST, port, timeout=10)
    link.putrequest("GET", "/", skip_host=True)
    link.endheaders()
    assert link.getresponse().status == 403


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}", "LOCALHOST:{port}"])
def test_this_machine_s_names_are_served(host: str, port: int) -> None:
    assert get(port, "/demo.html", Host=host.format(port=port)) == (200, "<p>page</p>")


def test_an_empty_folder_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--out", str(tmp_path)]) == 2
    assert "there is no page" in capsys.readouterr().err

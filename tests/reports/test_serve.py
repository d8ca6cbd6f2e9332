"""serve: pages on loopback, and nothing but pages."""

from __future__ import annotations

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
                                  "/nothing.html", "//etc/passwd"])
def test_nothing_else_is_served(port: int, path: str) -> None:
    status, text = get(port, path)
    assert status == 404 and "secret" not in text.replace(path, "")


def test_another_site_s_name_is_refused(port: int) -> None:
    assert get(port, "/", Host="evil.example:80")[0] == 403


def test_an_empty_folder_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--out", str(tmp_path)]) == 2
    assert "there is no page" in capsys.readouterr().err

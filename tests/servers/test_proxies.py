"""Real web servers instead of the API: none of their own pages loses a trigger."""

from __future__ import annotations

import sys

import pytest

from tests.support.client import record
from tests.support.endpoint import Endpoint
from tests.support.nginx import nginx
from tests.support.programs import free_port, running
from tests.support.server import Reply
from tests.support.tls import make_certificates
from tests.support.waiting import eventually


def test_a_maintenance_page_of_nginx_loses_nothing(server, make_client, tmp_path):
    """It answers 405 with a page to each POST; once it is gone, everything arrives, each trigger once."""
    endpoint = Endpoint(server)
    with nginx(tmp_path, server) as url:
        client = make_client(endpoint=url, max_batch_size=100)
        record(client, 300)
        assert client.flush(20)
        page = tmp_path / "maintenance.html"
        page.write_text("<h1>We will be back</h1>")
        record(client, 300, start=300)
        assert client.flush(0.5).pending == 300
        page.unlink()
        record(client, 300, start=600)
        assert client.flush(20)
        assert (client.stats().delivered, client.stats().rejected) == (900, 0)
        assert sorted(endpoint.numbers()) == list(range(900))
        client.close(5)


def test_http_to_a_port_that_speaks_tls_holds(server, make_client, tmp_path, caplog):
    """nginx answers 400 with a page: the log has its words, and nothing is rejected."""
    make_certificates(tmp_path)
    certificate = f"ssl_certificate {tmp_path}/server.pem; ssl_certificate_key {tmp_path}/key.pem;"
    with nginx(tmp_path, server, certificate, listen="ssl") as url:
        client = make_client(endpoint=url)
        record(client, 20)
        assert client.flush(0.5).pending == 20
        assert client.stats().rejected == 0
        assert eventually(lambda: "plain HTTP request was sent to HTTPS port" in caplog.text)
        client.close(0)


def test_the_answer_of_go_to_http_on_a_port_that_speaks_tls_holds(server, make_client, caplog):
    """It is HTTP/1.0 without headers, and plain text."""
    answer = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    server.respond = lambda request: Reply(act=lambda server, connection: connection.sendall(answer))
    client = make_client()
    record(client, 20)
    assert client.flush(0.5).pending == 20
    assert client.stats().rejected == 0
    assert eventually(lambda: "sent an HTTP request to an HTTPS server" in caplog.text)
    server.respond = lambda request: Reply()
    assert client.flush(20)
    assert client.stats().delivered == 20


def test_a_server_that_knows_no_post_holds(server, make_client, tmp_path):
    """`python -m http.server` answers 501 with a page, to arrays and to single triggers."""
    port = free_port()
    with running([sys.executable, "-m", "http.server", str(port)], tmp_path, server, port):
        client = make_client(endpoint=f"http://127.0.0.1:{port}/api/v1/")
        record(client, 20)
        assert client.flush(0.5).pending == 20
        assert client.stats().rejected == 0
        client.close(0)


@pytest.mark.parametrize("size", ["10k", "100k"])
def test_a_limit_of_nginx_for_bodies_costs_a_few_requests(server, make_client, tmp_path, size):
    """It answers 413 with a page, or closes the connection while the body is sent: smaller ones follow."""
    endpoint = Endpoint(server)
    with nginx(tmp_path, server, f"client_max_body_size {size};") as url:
        client = make_client(endpoint=url)
        record(client, 2000, pad="x" * 300)
        assert client.flush(30)
        assert (client.stats().delivered, client.stats().rejected) == (2000, 0)
        assert sorted(endpoint.numbers()) == list(range(2000))
        client.close(5)

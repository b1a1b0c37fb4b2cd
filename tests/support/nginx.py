"""An nginx in front of the recording server, for the length of a block."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.support.programs import find_program, free_port, running
from tests.support.server import RecordingServer

_CONFIG = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    server {{
        listen 127.0.0.1:{port} {listen};
        root {folder};
        {directives}
        location / {{ try_files /maintenance.html @app; }}
        location @app {{ proxy_pass http://127.0.0.1:{target}; }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, server: RecordingServer, directives: str = "", listen: str = "") -> Iterator[str]:
    """Run nginx as a proxy, and yield the endpoint behind it.

    While `folder/maintenance.html` exists, it answers each POST with its own page for status 405.
    """
    port = free_port()
    settings = {"folder": folder, "port": port, "target": server.port, "listen": listen, "directives": directives}
    user = "user root;" if os.getuid() == 0 else ""  # or its workers could not read the folder
    (folder / "nginx.conf").write_text(_CONFIG.format(user=user, **settings))
    command = [find_program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with running(command, folder, server, port):
        yield f"http://127.0.0.1:{port}/api/v1/"

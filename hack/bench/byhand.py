"""What `ingress` compares with: HAProxy and nginx as somebody would configure them by hand; and pods, also nginx."""

import http.client
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PODS = [f"10.1.0.{number}" for number in range(1, 5)]
APART: dict[str, Any] = {"start_new_session": True}
"""As kproxy starts its HAProxy: the kernel shares processors out by session, and who gets more of one wakes up more
often for less."""


@contextmanager
def by_hand(folder: Path, hosts: int, *, logged: bool) -> Iterator[int]:
    """Run HAProxy with what somebody would write for these hosts."""
    folder.mkdir(parents=True)
    (folder / "routes.map").write_text("".join(f"h{number}.example.com/ b{number}\n" for number in range(hosts)))
    backends = "".join(
        f"backend b{number}\n    server s1 {PODS[0]}:8080\n    server s2 {PODS[1]}:8080\n" for number in range(hosts)
    )
    (folder / "haproxy.cfg").write_text(f"""
global
    stats socket {folder}/worker.sock
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
    option forwardfor
{"    log stdout format raw local0 info" if logged else ""}
frontend all
    bind 0.0.0.0:8001
    {"option httplog" if logged else ""}
    http-request del-header X-Forwarded-For
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header Forwarded "for=%[src];proto=http"
    use_backend %[base,lower,map_beg({folder}/routes.map)]
{backends}""")
    reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    command = ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]
    process = subprocess.Popen(command, stdout=reader.stdin, stderr=subprocess.DEVNULL, **APART)
    try:
        await_port(8001)
        yield process.pid
    finally:
        process.terminate()
        process.wait()
        reader.terminate()
        reader.wait()


def nginx_by_hand(hosts: int, *, logged: bool) -> str:
    """Return what somebody would write for nginx."""
    parts = [
        f"upstream s{number} {{ server {PODS[0]}:8080; server {PODS[1]}:8080; keepalive 32; }}\n"
        f"server {{ listen 0.0.0.0:8002; server_name h{number}.example.com;\n"
        f"  location / {{ proxy_pass http://s{number}; }} }}"
        for number in range(hosts)
    ]
    return f"""
worker_processes {os.cpu_count()};
events {{ worker_connections 10000; }}
http {{
  access_log {"access.log" if logged else "off"};
  server_names_hash_max_size 8192; server_names_hash_bucket_size 128; keepalive_requests 100000000;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host $host; proxy_set_header Forwarded "for=$remote_addr;proto=$scheme";
  {chr(10).join(parts)}
}}"""


def pods_configuration() -> str:
    """Return an nginx that is all pods at once, each of which says its address."""
    servers = "\n".join(f'server {{ listen {pod}:8080; location / {{ return 200 "{pod}\\n"; }} }}' for pod in PODS)
    return f"""
worker_processes 1;
events {{ worker_connections 10000; }}
http {{ access_log off; keepalive_requests 100000000; {servers} }}"""


@contextmanager
def nginx(folder: Path, configuration: str) -> Iterator[int]:
    """Run nginx until the end of the block."""
    folder.mkdir(parents=True)
    file = folder / "nginx.conf"
    file.write_text(f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\n{configuration}")
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(file)], stderr=subprocess.DEVNULL, **APART)
    try:
        await_port(
            int(re.findall(r"listen [\d.]+:(\d+)", configuration)[0]), re.findall(r"listen ([\d.]+):", configuration)[0]
        )
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def await_port(port: int, address: str = "127.0.0.1") -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            connection = http.client.HTTPConnection(address.replace("0.0.0.0", "127.0.0.1"), port, timeout=5)
            connection.connect()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            connection.close()
            return

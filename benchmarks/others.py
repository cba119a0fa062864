"""Other servers between a client and a model, for comparison; each is left out where it is missing."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import yaml

from benchmarks.servers import Server, StartFailed, free_port, litellm_environment, running

NGINX, LITELLM, PORTKEY = "nginx", "litellm proxy with one guardrail", "Portkey gateway"

_NGINX = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream model {{ server 127.0.0.1:{upstream}; keepalive 128; }}
  server {{
    listen 127.0.0.1:{port};
    location = /health {{ return 200; }}
    location / {{
      proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""
_GUARDRAIL = '''"""The least that a guardrail can do."""

import re

from litellm.integrations.custom_guardrail import CustomGuardrail

_WORD = re.compile("ignore all previous instructions", re.IGNORECASE)


class Words(CustomGuardrail):
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        for message in data.get("messages", []):
            if _WORD.search(str(message.get("content"))):
                raise ValueError("blocked")
        return data
'''


@contextlib.contextmanager
def nginx(upstream: int, folder: Path) -> Iterator[Server]:
    """nginx with one worker, which only passes on. Raises StartFailed where it is not installed."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).is_file():
        raise StartFailed("nginx is not installed")
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, upstream=upstream, port=port), "utf-8")
    with running(NGINX, [program, "-c", str(config)], port, "/health", folder) as server:
        yield server


@contextlib.contextmanager
def litellm(upstream: int, venv: Path, folder: Path) -> Iterator[Server]:
    """litellm's proxy with one worker, without a database, with one guardrail of one expression."""
    program = venv / "bin" / "litellm"
    if not program.is_file():
        raise StartFailed(f"{program} is not there")
    port = free_port()
    (folder / "words_guardrail.py").write_text(_GUARDRAIL, "utf-8")
    base = f"http://127.0.0.1:{upstream}/v1"
    config = {
        "model_list": [
            {
                "model_name": name,
                "litellm_params": {
                    "model": f"openai/{name}",
                    "api_base": base,
                    "api_key": "sk-none",
                },
            }
            for name in ("mock", "mock-paced")
        ],
        "guardrails": [
            {
                "guardrail_name": "words",
                "litellm_params": {
                    "guardrail": "words_guardrail.Words",
                    "mode": "pre_call",
                    "default_on": True,
                },
            }
        ],
    }
    path = folder / "litellm-guardrail.yaml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    command = [str(program), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--num_workers", "1", "--telemetry", "False"]
    environment = litellm_environment(venv)
    with running(LITELLM, command, port, "/health/liveliness", folder, environment) as server:
        yield server


@contextlib.contextmanager
def portkey(package: Path, folder: Path) -> Iterator[Server]:
    """Portkey's gateway, from the folder that npm has put ``@portkey-ai/gateway`` in."""
    start = package / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    node = shutil.which("node")
    if node is None or not start.is_file():
        raise StartFailed(f"node or {start} is not there")
    port = free_port()
    command = [node, str(start), "--headless", f"--port={port}"]
    with running(PORTKEY, command, port, "/", folder) as server:
        yield server


def portkey_headers(upstream: int) -> str:
    """What tells Portkey's gateway where a request is to go."""
    return (
        f"x-portkey-provider: openai\r\nx-portkey-custom-host: http://127.0.0.1:{upstream}/v1\r\n"
    )

"""An S3 server on this machine (moto), in a process of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3

SECRETS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """The address of a server, empty at first. AWS_ENDPOINT_URL names it to this process and its children."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-c", f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"]
    before = {name: os.environ.get(name) for name in (*SECRETS, "AWS_ENDPOINT_URL")}
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.environ.update(SECRETS, AWS_ENDPOINT_URL=url)
    try:
        _wait(url)
        yield url
    finally:
        server.kill()
        server.wait()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _wait(url: str) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=1)
            return
        time.sleep(0.1)
    raise RuntimeError("the S3 server does not start")


def upload(url: str, folder: Path, bucket: str, prefix: str) -> str:
    """All files of `folder` below s3://BUCKET/PREFIX, which is returned."""
    client = boto3.client("s3", endpoint_url=url)
    client.create_bucket(Bucket=bucket)
    for path in folder.iterdir():
        if path.is_file():
            client.upload_file(str(path), bucket, f"{prefix}/{path.name}")
    return f"s3://{bucket}/{prefix}"

"""A visitor of a web app: asks at fixed times on one connection, and writes down how long each answer took.

Takes the port and the seconds between two requests. A late answer makes the requests behind it late as well, and theirs
count from when they were due. When standard input is closed it prints the latencies in seconds, as JSON.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import Final

REQUEST: Final = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def visit(port: int, every: float) -> list[float]:
    """Visit until standard input is closed; return the latencies."""
    latencies = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        print("visiting", flush=True)
        due = time.perf_counter()
        while not select.select([sys.stdin], [], [], max(0.0, due - time.perf_counter()))[0]:
            connection.sendall(REQUEST)
            connection.recv(65_536)
            latencies.append(time.perf_counter() - due)
            due += every
    return latencies


if __name__ == "__main__":
    print(json.dumps(visit(int(sys.argv[1]), float(sys.argv[2]))))

"""Client of a web app: sends requests at fixed times on one connection, and records the latency of each reply.

Takes the port and the seconds between two requests. A latency counts from when the request was due, so a slow reply
also increases the latencies of the requests that it delays. Prints the latencies in seconds, as JSON, when standard
input is closed.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import Final

REQUEST: Final = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def measure_latencies(port: int, interval: float) -> list[float]:
    """Send a request every *interval* seconds until standard input is closed; return the latencies."""
    latencies = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        print("connected", flush=True)
        due = time.perf_counter()
        while not select.select([sys.stdin], [], [], max(0.0, due - time.perf_counter()))[0]:
            connection.sendall(REQUEST)
            connection.recv(65_536)
            latencies.append(time.perf_counter() - due)
            due += interval
    return latencies


if __name__ == "__main__":
    print(json.dumps(measure_latencies(int(sys.argv[1]), float(sys.argv[2]))))

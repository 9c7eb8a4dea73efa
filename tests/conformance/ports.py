"""Ports for processes that have to be told where to listen. As a program: prints so many.

They lie below the range that the system takes ports from by itself, for listeners without a number and for outgoing
connections: a port of that range that was free a moment ago need not be free when it is used. A UDP socket of the same
number is the mark by which other runs see that one is taken."""

import random
import socket
import sys

taken = []


def free_port():
    while True:
        port = random.randrange(10_000, 32_000)
        mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            mark.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            mark.close()
            continue
        taken.append(mark)
        return port


if __name__ == "__main__":
    print(*(free_port() for _ in range(int(sys.argv[1]))))

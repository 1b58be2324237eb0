"""Sends requests as they stand, each on a connection of its own, and prints what came back.

In: lines of JSON, [[ADDRESS, PORT], TEXT]. Out: for each a line of JSON, the text of the answer.
"""

import json
import socket
import sys

for line in sys.stdin:
    where, request = json.loads(line)
    with socket.create_connection(tuple(where), timeout=20) as connection:
        connection.sendall(request.encode("latin-1"))
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    print(json.dumps(answer.decode("latin-1")), flush=True)

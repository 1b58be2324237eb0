"""A process of the pod, without privileges, that wants to reach the model past the guard.

What it prints is what it got: `guard`, `model`, `refused`, `nowhere`, or words on anything else.
Who answered shows in the answer: the guard puts X-Request-ID into each, a model server doesn't.
"""

import errno
import socket
import struct
import sys
import threading

PATIENCE = 1.5
GONE = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE}
NOWHERE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ETIMEDOUT}
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def say(*words):
    print(*words, sep="\t", flush=True)


def resolve(address, port):
    family, _, _, _, full = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    return family, full


def exchange(stream, close=True):
    """One request and its answer; who gave it."""
    stream.settimeout(5)
    stream.sendall(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: inmate\r\nConnection: %s\r\n\r\n"
        % (b"close" if close else b"keep-alive")
    )
    got = b""
    while b"\r\n\r\n" not in got:
        part = stream.recv(65536)
        if not part:
            return f"odd answer {got!r}" if got else "refused"
        got += part
    head = got.split(b"\r\n\r\n")[0].lower()
    if b"\r\nx-request-id:" in head:
        return "guard"
    if head.startswith(b"http/1.1 200"):
        return "model"
    return f"odd answer {got!r}"


def attempt(action):
    try:
        return action()
    except TimeoutError:
        return "nowhere"
    except OSError as error:
        if error.errno in GONE:
            return "refused"
        if error.errno in NOWHERE:
            return "nowhere"
        return f"odd error {error}"


def take(way, port):
    """`ADDRESS [from=ADDRESS] [dev=DEVICE] [kind=mptcp]`"""
    address, *options = way.split()
    options = dict(option.split("=", 1) for option in options)
    family, full = resolve(address, port)
    protocol = socket.IPPROTO_MPTCP if options.get("kind") == "mptcp" else 0
    with socket.socket(family, socket.SOCK_STREAM, protocol) as stream:
        if "from" in options:
            stream.bind(resolve(options["from"], 0)[1])
        if "dev" in options:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, options["dev"].encode())
        stream.settimeout(PATIENCE)
        stream.connect(full)
        return exchange(stream)


def ask(port, *ways):
    answers = {}

    def one(way):
        answers[way] = attempt(lambda: take(way, int(port)))

    threads = [threading.Thread(target=one, args=(way,)) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for way in ways:
        say(way, answers[way])


def reusing(family):
    stream = socket.socket(family)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    stream.settimeout(PATIENCE)
    return stream


def revive(port, address):
    """Connects from the model's port while it is free, resets that, and calls back along it."""
    family, full = resolve(address, int(port))
    listener = reusing(family)
    listener.bind(resolve(address, 0)[1])
    listener.listen(1)
    meeting = listener.getsockname()
    first = reusing(family)
    first.bind(full)
    first.connect(meeting)
    other, _ = listener.accept()
    listener.close()
    for stream in (first, other):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        stream.close()
    say("prepared")
    sys.stdin.read()

    def call():
        with reusing(family) as stream:
            stream.bind(meeting)
            stream.connect(full)
            return exchange(stream)

    say("got", attempt(call))


def stand(port, address):
    """Connects, and goes on with the connection when told to."""
    family, full = resolve(address, int(port))
    with socket.socket(family) as stream:
        stream.settimeout(PATIENCE)
        stream.connect(full)
        say("first", attempt(lambda: exchange(stream, close=False)))
        sys.stdin.read()
        say("then", attempt(lambda: exchange(stream)))


if __name__ == "__main__":
    {"ask": ask, "revive": revive, "stand": stand}[sys.argv[1]](*sys.argv[2:])

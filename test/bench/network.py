#!/usr/bin/env python3
"""Measures one path between two network namespaces: network.py NAMESPACE-OF-CLIENT NAMESPACE-OF-SERVER ADDRESS PORT [LISTEN].

Prints Gbit/s of one TCP stream, and the median round trip of one byte in microseconds. A namespace is a path; "-" is the
caller's. With DNS as the address it asks 127.0.0.11 in the client's namespace instead, and prints questions a second."""
import ctypes, os, random, socket, statistics, struct, sys, time

libc = ctypes.CDLL(None, use_errno=True)
SECONDS, TRIPS = 1.5, 4000


def enter(path):
    if path != "-":
        fd = os.open(path, os.O_RDONLY)
        if libc.setns(fd, 0x40000000):
            raise OSError(ctypes.get_errno(), "setns " + path)


def serve(path, port):
    enter(path)
    l = socket.socket()
    l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    l.bind(("0.0.0.0", port))
    l.listen()
    os.write(ready, b"x")
    c, _ = l.accept()  # the stream
    buf = bytearray(1 << 20)
    while c.recv_into(buf):
        pass
    c.close()
    c, _ = l.accept()  # the round trips
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while b := c.recv(1):
        c.send(b)


def dns(path, name):
    enter(path)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.connect(("127.0.0.11", 53))
    body = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0" + struct.pack("!HH", 1, 1)
    begin, n = time.time(), 0
    while time.time() - begin < SECONDS:
        ident = random.randrange(65536)
        s.send(struct.pack("!HHHHHH", ident, 0x100, 1, 0, 0, 0) + body)
        b = s.recv(512)
        if struct.unpack("!HHHH", b[:8])[3] < 1:
            raise SystemExit("no answer for " + name)
        n += 1
    print("%.0f" % (n / (time.time() - begin)))


if sys.argv[3] == "DNS":
    dns(sys.argv[1], sys.argv[4])
    raise SystemExit
client, server, address, port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
wait, ready = os.pipe()
pid = os.fork()
if pid == 0:
    serve(server, int(sys.argv[5]) if len(sys.argv) > 5 else port)
    os._exit(0)
os.read(wait, 1)
enter(client)
s = socket.create_connection((address, port), 5)
chunk, sent, begin = bytes(1 << 20), 0, time.time()
while time.time() - begin < SECONDS:
    sent += s.send(chunk)
took = time.time() - begin
s.close()
s = socket.create_connection((address, port), 5)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
trips = []
for _ in range(TRIPS):
    t = time.perf_counter()
    s.send(b"x")
    s.recv(1)
    trips.append((time.perf_counter() - t) * 1e6)
s.close()
os.waitpid(pid, 0)
print("%.1f %.0f" % (sent * 8 / took / 1e9, statistics.median(trips)))

"""A client of rrpc in Python's standard library, written from one page: "The wire" in day1-codec/README.md.

What days 4 and 5 add is from their pages of that name. It shows that they are complete. It is small and
blocking, and no substitute for a library.

    with connect("127.0.0.1", 9999) as client:
        print(client.call("Arith.sum", {"num1": 1, "num2": 2}))
"""

import json
import socket
import struct

MAGIC_NUMBER = 3927900
MAX_HELLO_LEN = 4096
MAX_HEADER_LEN = 16384
MAX_BODY_LEN = 8388608


class RemoteError(Exception):
    """The server's answer to a call that failed."""

    def __init__(self, code, message, refused):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.refused = code, message, refused


def connect(host, port, codec="application/json", http=False, timeout=10.0):
    """Connects over TCP, or with `http` through an HTTP CONNECT."""
    stream = socket.create_connection((host, port), timeout)
    try:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if http:
            open_door(stream, f"{host}:{port}")
        return Client(stream, codec)
    except BaseException:
        stream.close()
        raise


def open_door(stream, host):
    """Day 5: a request, and its answer up to the empty line. Whatever comes after that are frames."""
    stream.sendall(f"CONNECT /_rrpc_ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += read_exactly(stream, 1)
    status = answer.split(b" ", 2)[1]
    if not status.startswith(b"2"):
        raise ConnectionError(f"the server answered {status.decode()}")


class Client:
    """One connection. `start` sends a call, `wait` collects its reply, and `call` does both."""

    def __init__(self, stream, codec):
        self.stream = stream
        hello = {"magic_number": MAGIC_NUMBER, "codecs": [codec], "max_body_len": MAX_BODY_LEN}
        write_frame(stream, json.dumps(hello).encode())
        answer = json.loads(read_frame(stream, MAX_HELLO_LEN))
        if "codec" not in answer:
            raise ConnectionError(answer.get("error", "the server refused"))
        self.codec = {"application/json": Json, "application/bincode": Bincode}[answer["codec"]]
        self.max_body_len = answer.get("max_body_len", MAX_BODY_LEN)
        self.max_in_flight = answer.get("max_in_flight", 1024)
        self.seq = 0
        self.waiting = set()
        self.replies = {}
        self.pongs = 0
        self.goaway = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def start(self, method, argument, metadata=None):
        """Sends a call. `argument` is what JSON takes, or in bincode the bytes. Returns the call's number."""
        body = self.codec.body(argument)
        if len(body) > self.max_body_len:
            raise ValueError(f"{len(body)} bytes, but the server takes {self.max_body_len}")
        if len(self.waiting) >= self.max_in_flight:
            raise ValueError(f"{self.max_in_flight} calls are in flight")
        self.seq += 1
        header = self.codec.call(method, self.seq, metadata or {})
        if len(header) > MAX_HEADER_LEN:
            raise ValueError(f"a header of {len(header)} bytes, but at most {MAX_HEADER_LEN} are allowed")
        write_frame(self.stream, header)
        write_frame(self.stream, body)
        self.waiting.add(self.seq)
        return self.seq

    def wait(self, seq):
        """The reply to a call; those to others are kept."""
        while seq not in self.replies:
            self.receive()
        error, body = self.replies.pop(seq)
        if error is not None:
            raise RemoteError(**error)
        return self.codec.value(body)

    def call(self, method, argument, metadata=None):
        return self.wait(self.start(method, argument, metadata))

    def cancel(self, seq):
        """Gives a call up. No reply comes, unless it was on its way; that one is ignored."""
        self.waiting.discard(seq)
        write_frame(self.stream, self.codec.cancel(seq))

    def ping(self):
        """Waits for the answer of the server itself."""
        pongs = self.pongs
        write_frame(self.stream, self.codec.ping())
        while self.pongs == pongs:
            self.receive()

    def receive(self):
        """Reads one message."""
        kind, fields = self.codec.header(read_frame(self.stream, MAX_HEADER_LEN))
        if kind == "reply":
            error = fields.get("error")
            body = read_frame(self.stream, MAX_BODY_LEN) if error is None else None
            if fields["seq"] in self.waiting:
                self.waiting.remove(fields["seq"])
                if error is not None:
                    error.setdefault("refused", False)
                self.replies[fields["seq"]] = error, body
        elif kind == "goaway":
            self.goaway = fields["reason"]
        elif kind == "ping":
            write_frame(self.stream, self.codec.pong())
        elif kind == "pong":
            self.pongs += 1
        else:
            raise ConnectionError(f"a server sends no {kind}")


# ---------------------------------------------------------------- frames


def write_frame(stream, data):
    stream.sendall(struct.pack(">I", len(data)) + data)


def read_frame(stream, limit):
    (length,) = struct.unpack(">I", read_exactly(stream, 4))
    if length > limit:
        raise ConnectionError(f"a frame of {length} bytes, but the limit is {limit}")
    return read_exactly(stream, length)


def read_exactly(stream, length):
    data = b""
    while len(data) < length:
        piece = stream.recv(length - len(data))
        if not piece:
            raise ConnectionError("the stream ended")
        data += piece
    return data


# ---------------------------------------------------------------- codecs


class Json:
    """A header is an object with one field, the kind."""

    @staticmethod
    def call(method, seq, metadata):
        return Json.body({"call": {"service_method": method, "seq": seq, "metadata": metadata}})

    @staticmethod
    def cancel(seq):
        return Json.body({"cancel": {"seq": seq}})

    @staticmethod
    def ping():
        return Json.body({"ping": {}})

    @staticmethod
    def pong():
        return Json.body({"pong": {}})

    @staticmethod
    def header(data):
        ((kind, fields),) = json.loads(data).items()
        return kind, fields

    @staticmethod
    def body(value):
        return json.dumps(value).encode()

    @staticmethod
    def value(data):
        return json.loads(data)


class Bincode:
    """A header is the number of its kind, then its fields. Bodies are bytes: only the caller knows their type."""

    KINDS = ["call", "reply", "goaway", "cancel", "ping", "pong"]

    @staticmethod
    def call(method, seq, metadata):
        entries = b"".join(text(key) + text(value) for key, value in metadata.items())
        return b"\x00" + text(method) + unsigned(seq) + unsigned(len(metadata)) + entries

    @staticmethod
    def cancel(seq):
        return b"\x03" + unsigned(seq)

    @staticmethod
    def ping():
        return b"\x04"

    @staticmethod
    def pong():
        return b"\x05"

    @staticmethod
    def header(data):
        reader = Reader(data)
        kind = Bincode.KINDS[reader.unsigned()]
        fields = {}
        if kind == "reply":
            fields["seq"] = reader.unsigned()
            fields["error"] = None
            if reader.bool():
                fields["error"] = {"code": reader.text(), "message": reader.text(), "refused": reader.bool()}
        elif kind == "goaway":
            fields["reason"] = reader.text()
        return kind, fields

    @staticmethod
    def body(value):
        return value

    @staticmethod
    def value(data):
        return data


def unsigned(number):
    if number < 251:
        return bytes([number])
    for tag, size in (0xFB, 2), (0xFC, 4), (0xFD, 8), (0xFE, 16):
        if number < 1 << (8 * size):
            return bytes([tag]) + number.to_bytes(size, "little")
    raise ValueError("more than 128 bits")


def signed(number):
    return unsigned(2 * number if number >= 0 else -2 * number - 1)


def text(value):
    data = value.encode()
    return unsigned(len(data)) + data


class Reader:
    """Takes values off the front of bytes in bincode."""

    def __init__(self, data):
        self.data = data

    def take(self, length):
        if length > len(self.data):
            raise ValueError("the bytes end too early")
        piece, self.data = self.data[:length], self.data[length:]
        return piece

    def bool(self):
        return self.take(1) == b"\x01"

    def unsigned(self):
        (first,) = self.take(1)
        if first < 251:
            return first
        return int.from_bytes(self.take({0xFB: 2, 0xFC: 4, 0xFD: 8, 0xFE: 16}[first]), "little")

    def signed(self):
        number = self.unsigned()
        return number // 2 if number % 2 == 0 else -(number // 2) - 1

    def text(self):
        return self.take(self.unsigned()).decode()

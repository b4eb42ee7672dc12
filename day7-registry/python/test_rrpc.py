"""The client of rrpc.py against the server of day 7, in both codecs, over TCP and through HTTP CONNECT.

    cargo build -p day7-registry && python3 day7-registry/python/test_rrpc.py

The program is target/debug/day7-registry, or the one that the variable DAY7_REGISTRY names.
"""

import os
import pathlib
import signal
import subprocess
import unittest

import rrpc
from rrpc import Reader, RemoteError, connect, signed, text, unsigned

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("DAY7_REGISTRY", ROOT / "target" / "debug" / "day7-registry")

# An argument, and a reply, as each codec has them.
ARGUMENTS = {
    "application/json": {
        "sum": lambda num1, num2: {"num1": num1, "num2": num2},
        "sleep": lambda millis: {"millis": millis},
        "fail": lambda message: {"message": message},
        "number": lambda reply: reply,
    },
    "application/bincode": {
        "sum": lambda num1, num2: signed(num1) + signed(num2),
        "sleep": unsigned,
        "fail": text,
        "number": lambda reply: Reader(reply).signed(),
    },
}


class Server:
    """A process that serves Arith, until the test ends."""

    def __init__(self, http):
        arguments = [PROGRAM, "server"] + (["--http"] if http else [])
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        # Such as tcp@127.0.0.1:40123, the last word of its first line.
        self.port = int(self.process.stdout.readline().split()[-1].rsplit(":", 1)[1])

    def stop(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


class Wire:
    """What must work on every kind of connection. A read that never ends fails after ten seconds."""

    def setUp(self):
        self.server = Server(self.http)
        self.addCleanup(self.server.stop)
        self.client = connect("127.0.0.1", self.server.port, self.codec, self.http)
        self.addCleanup(self.client.stream.close)
        self.values = ARGUMENTS[self.codec]

    def sum(self, num1, num2):
        return self.values["number"](self.client.call("Arith.sum", self.values["sum"](num1, num2)))

    def test_a_call_has_its_reply(self):
        self.assertEqual(self.sum(1, 2), 3)
        self.assertEqual(self.sum(-300, 5), -295)

    def test_metadata_may_be_sent(self):
        argument = self.values["sum"](20, 22)
        reply = self.client.call("Arith.sum", argument, {"token": "t", "trace": "é"})
        self.assertEqual(self.values["number"](reply), 42)

    def test_a_late_reply_holds_up_no_other(self):
        slow = self.client.start("Arith.sleep", self.values["sleep"](60_000))
        self.assertEqual(self.sum(1, 2), 3)
        self.assertNotIn(slow, self.client.replies)

    def test_300_calls_in_flight(self):
        calls = [self.client.start("Arith.sum", self.values["sum"](number, 1)) for number in range(300)]
        replies = [self.values["number"](self.client.wait(seq)) for seq in reversed(calls)]
        self.assertEqual(replies, [number + 1 for number in reversed(range(300))])

    def test_a_failure_has_a_code_and_a_text(self):
        with self.assertRaises(RemoteError) as failed:
            self.client.call("Arith.fail", self.values["fail"]("the disk is full"))
        error = failed.exception
        self.assertEqual((error.code, error.message, error.refused), ("unknown", "the disk is full", False))
        with self.assertRaises(RemoteError) as failed:
            self.client.call("Arith.nothing", self.values["sum"](1, 2))
        self.assertEqual(failed.exception.code, "unimplemented")
        self.assertEqual(self.sum(1, 2), 3)

    def test_a_call_that_was_cancelled_is_over(self):
        slow = self.client.start("Arith.sleep", self.values["sleep"](60_000))
        self.client.cancel(slow)
        self.client.ping()  # the server has read the cancel
        self.server.process.send_signal(signal.SIGTERM)
        with self.assertRaises(ConnectionError):
            while True:
                self.client.receive()
        self.assertEqual(self.client.replies, {})
        self.assertEqual(self.server.process.wait(10), 0)

    def test_a_ping_is_answered(self):
        self.client.start("Arith.sleep", self.values["sleep"](60_000))
        self.client.ping()
        self.assertEqual(self.client.pongs, 1)

    def test_a_shutdown_is_announced_and_calls_in_flight_are_answered(self):
        slow = self.client.start("Arith.sleep", self.values["sleep"](300))
        self.client.ping()  # the server has the call
        self.server.process.send_signal(signal.SIGTERM)
        while self.client.goaway is None:
            self.client.receive()
        refused = self.client.start("Arith.sum", self.values["sum"](1, 2))
        with self.assertRaises(RemoteError) as failed:
            self.client.wait(refused)
        self.assertEqual((failed.exception.code, failed.exception.refused), ("unavailable", True))
        self.client.wait(slow)
        self.client.stream.close()
        self.assertEqual(self.server.process.wait(10), 0)

    def test_a_refusal_is_an_error(self):
        with self.assertRaises(ConnectionError):
            connect("127.0.0.1", self.server.port, "application/xml", self.http)

    def test_an_argument_of_another_type_costs_only_its_call(self):
        wrong = {"application/json": "three", "application/bincode": b"\x02"}[self.codec]
        with self.assertRaises(RemoteError) as failed:
            self.client.call("Arith.sum", wrong)
        self.assertEqual(failed.exception.code, "invalid_argument")
        self.assertEqual(self.sum(1, 2), 3)

    def test_a_broken_rule_is_told_before_the_end(self):
        rrpc.write_frame(self.client.stream, b"\xff\xff")
        with self.assertRaises(ConnectionError):
            while True:
                self.client.receive()
        self.assertIsNotNone(self.client.goaway)


class JsonOverTcp(Wire, unittest.TestCase):
    codec, http = "application/json", False


class BincodeOverTcp(Wire, unittest.TestCase):
    codec, http = "application/bincode", False


class JsonThroughHttp(Wire, unittest.TestCase):
    codec, http = "application/json", True


class BincodeThroughHttp(Wire, unittest.TestCase):
    codec, http = "application/bincode", True


if __name__ == "__main__":
    unittest.main()

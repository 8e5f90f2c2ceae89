"""Carries the events of one queue of ActiveMQ to Kafka, NATS JetStream or a file, with the clients that a program of
Python would use for that. Events go in groups: what is ready. A group is acknowledged when it is stored.
"""

import asyncio
import json
import os
import queue
import signal
import socket
import sys
import threading

import stomp

TIMEOUT = 10


class Kafka:
    def __init__(self, bootstrap, topic):
        from confluent_kafka import Producer

        self.topic = topic
        self.failed = None
        self.producer = Producer({
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,  # and acks=all
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
        })

    def store(self, group):
        for event in group:
            self.producer.produce(self.topic, event.body, key(event), on_delivery=self.delivered)
        # Sends at once, and calls back for each event.
        self.producer.flush()
        if self.failed:
            raise RuntimeError(self.failed)

    def delivered(self, error, _):
        self.failed = self.failed or error


class JetStream:
    def __init__(self, url, subject, prefetch):
        # The client needs its loop at all times, also while there are no events.
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.subject = subject
        self.stream = self.run(self.connect(url, prefetch))

    def run(self, steps):
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(steps, TIMEOUT), self.loop).result()

    async def connect(self, url, prefetch):
        import nats

        # After a lost connection, later events would overtake those that were lost with it.
        client = await nats.connect(url, allow_reconnect=False)
        return client.jetstream(publish_async_max_pending=prefetch)

    def store(self, group):
        self.run(self.publish(group))

    async def publish(self, group):
        stored = []
        for event in group:
            subject = self.subject + key(event) if self.subject.endswith(".") else self.subject
            headers = {"Nats-Msg-Id": event.headers["message-id"]}
            stored.append(await self.stream.publish_async(subject, event.body, headers=headers))
        await asyncio.gather(*stored)


class File:
    def __init__(self, path):
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        # A kill may have cut the last line off.
        end = os.fstat(self.file).st_size
        while end > 0 and os.pread(self.file, 1, end - 1) != b"\n":
            end -= 1
        os.ftruncate(self.file, end)

    def store(self, group):
        lines = b"".join(event.body + b"\n" for event in group)
        while lines:
            lines = lines[os.write(self.file, lines):]
        os.fdatasync(self.file)


def key(event):
    """The MD5 of the address."""
    members = json.loads(event.body)
    return members.get("md5_email") or members["md5"]


class Listener(stomp.ConnectionListener):
    """Hands over what the broker sends; None is the end."""

    def __init__(self, events):
        self.events = events

    def on_message(self, frame):
        self.events.put(frame)

    def on_error(self, frame):
        fail(f"the broker sent ERROR: {frame.headers.get('message')}")

    def on_disconnected(self):
        fail("the broker closed the connection")


def fail(reason):
    """Ends the process from any thread."""
    print(reason, file=sys.stderr, flush=True)
    os._exit(1)


def groups(events, most):
    """Yields the events that are ready, at most so many at a time."""
    while True:
        group = [events.get()]
        while group[-1] and len(group) < most and not events.empty():
            group.append(events.get())
        if group[-1]:
            yield group
        else:
            yield group[:-1]
            return


def open_sink(prefetch):
    if "RIVAL_KAFKA" in os.environ:
        return Kafka(os.environ["RIVAL_KAFKA"], os.environ["RIVAL_TOPIC"])
    if "RIVAL_NATS" in os.environ:
        return JetStream(os.environ["RIVAL_NATS"], os.environ["RIVAL_SUBJECT"], prefetch)
    return File(os.environ["RIVAL_FILE"])


def main():
    prefetch = int(os.environ["RIVAL_PREFETCH"])
    sink = open_sink(prefetch)
    events = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda *_: events.put(None))

    host, port = os.environ["RIVAL_BROKER"].rsplit(":", 1)
    broker = stomp.Connection12([(host, int(port))], keepalive=True, auto_decode=False)
    broker.set_listener("rival", Listener(events))
    broker.connect(os.environ["RIVAL_USERNAME"], os.environ["RIVAL_PASSWORD"], wait=True,
                   headers={"client-id": os.environ["RIVAL_CLIENT_ID"]})
    broker.transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    broker.subscribe(f"/queue/{os.environ['RIVAL_QUEUE']}", id="0", ack="client",
                     headers={"activemq.prefetchSize": prefetch})
    for group in groups(events, prefetch):
        if group:
            sink.store(group)
            broker.ack(group[-1].headers["ack"])
    broker.remove_listener("rival")
    # Returns when the broker has handled all that was sent before.
    broker.disconnect(receipt="bye")


if __name__ == "__main__":
    main()

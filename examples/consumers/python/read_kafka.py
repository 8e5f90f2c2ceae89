"""Prints every mirrored event of a topic: partition, MD5, message id, body."""

import signal
import sys
import threading

from confluent_kafka import Consumer

if len(sys.argv) != 4:
    sys.exit("usage: read_kafka.py BROKERS TOPIC GROUP")
brokers, topic, group = sys.argv[1:]

stopped = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stopped.set())

consumer = Consumer({
    "bootstrap.servers": brokers,
    "group.id": group,
    # Only committed events, none of a transaction that was aborted.
    "isolation.level": "read_committed",
    # A new group begins with the oldest event. By default it would skip all that are there.
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
})
try:
    consumer.subscribe([topic])
    while not stopped.is_set():
        events = consumer.consume(num_messages=500, timeout=0.1)
        for event in events:
            if event.error():
                sys.exit(f"cannot read {topic}: {event.error().str()}")
            # The key is the MD5, 32 lower-case hex digits: one person is always in one partition.
            key, body = event.key().decode(), event.value().decode(errors="replace")
            message_id = dict(event.headers() or []).get("atdata-message-id", b"").decode()
            print(event.partition(), key, message_id, body, sep="\t", flush=True)
        if events:
            # Only now, after the work is done: what is not committed is read again.
            consumer.commit(asynchronous=False)
finally:
    # Leaves the group, or else the next start waits for 45 s.
    consumer.close()

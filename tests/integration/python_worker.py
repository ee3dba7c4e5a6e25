#!/usr/bin/python3
"""A reward worker that knows Candor from proto/README.md alone: right 1, Unknown 0, anything else -1.
usage: python_worker.py CONTROL GROUPS    the learner's control endpoint, and the ipc endpoint to bind for actors"""
import random, re, socket, sys, time
import msgpack, zmq

CORRECT, ABSTAIN, WRONG, MALFORMED = 0, 2, 3, 4
REWARDS = {CORRECT: 1, ABSTAIN: 0, WRONG: -1, MALFORMED: -1}
ROOM = 8 << 20  # bytes of groups that one actor may have here
ME = random.getrandbits(63) | 1
HELLO = dict(type="hello", protocol=1, role=1, name="python", host=socket.gethostname(), incarnation=ME, endpoint=sys.argv[2])
HEARTBEAT = dict(type="heartbeat", incarnation=ME)
control, groups = zmq.Context.instance().socket(zmq.DEALER), zmq.Context.instance().socket(zmq.ROUTER)
control.connect(sys.argv[1])
groups.bind(sys.argv[2])
granted, inside = {}, {}  # peer: credit in all; (lease, slot): peer, bytes, scored

def words(text):
    return re.sub(r"[^a-z0-9 ]", " ", text.lower()).split()

def verdict(text, aliases):
    boxes = re.findall(r"boxed\[([^\[\]]*)\]", text)
    final = words(boxes[-1]) if boxes else []
    if not final:
        return MALFORMED
    return ABSTAIN if final == ["unknown"] else CORRECT if final in map(words, aliases) else WRONG

def score(group):
    verdicts = [verdict(sample["text"], group["grading"]["aliases"]) for sample in group["samples"]]
    scores = [{"verdict": v, "reward": REWARDS[v]} for v in verdicts]
    return dict(type="scored", group=group, scores=scores, worker=ME, worker_name="python")

def slot(message):
    return message["lease"], tuple(sorted(message["key"].items()))

def tell(peer, **message):
    groups.send_multipart([peer, msgpack.packb(message)])

def grant(peer, room):
    granted[peer] = room
    tell(peer, type="credit", incarnation=ME, bytes=room)

joined, interval, next_word = False, 1.0, 0.0
while True:
    if time.monotonic() >= next_word:  # hello until welcomed, then heartbeats
        control.send(msgpack.packb(HEARTBEAT if joined else HELLO))
        next_word = time.monotonic() + interval
    ready, _, _ = zmq.select([control, groups], [], [], 0.1)
    if control in ready:
        message = msgpack.unpackb(control.recv())
        if message["type"] == "welcome":
            joined, interval = True, message["heartbeat_ms"] / 1000
            for _, _, scored in inside.values():
                control.send(msgpack.packb(scored))
        elif message["type"] == "refuse" and not message["again"]:
            sys.exit("python_worker: refused: " + message["reason"])
        elif message["type"] in ("refuse", "bye"):
            joined = False
        elif message["type"] == "answer" and slot(message) in inside:
            peer, size, _ = inside.pop(slot(message))
            tell(peer, **message)
            grant(peer, granted[peer] + size)
    if groups in ready:
        peer, frame = groups.recv_multipart()
        message = msgpack.unpackb(frame)
        if message.pop("type") == "knock":
            grant(peer, ROOM)
        elif "samples" in message:
            inside[slot(message)] = peer, len(frame), score(message)
            control.send(msgpack.packb(inside[slot(message)][2]))

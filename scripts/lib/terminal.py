"""Runs a program in a pseudo-terminal of its own, as the foreground job of a session.

Arguments: columns, rows, program, its arguments. Each line of stdin is a JSON object: {"type": text} types,
{"resize": [columns, rows]} resizes, {"hangup": true} closes the terminal. Each line of stdout is one, too: {"pid": n}, {"output": text}, and in
the end {"status": n}, or {"signal": n}, with the terminal's modes: {"before": …, "after": …}.
"""
import codecs
import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def size(fd, columns, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def modes(fd):
    return repr(termios.tcgetattr(fd)[:4])


columns, rows = int(sys.argv[1]), int(sys.argv[2])
# The size is there before the program asks.
ready, go = os.pipe()
pid, master = pty.fork()
if pid == 0:
    os.close(go)
    os.read(ready, 1)
    os.close(ready)
    os.execvp(sys.argv[3], sys.argv[3:])
size(master, columns, rows)
before = modes(master)
os.write(go, b"x")
say({"pid": pid})

decoder = codecs.getincrementaldecoder("utf-8")("replace")
pending = b""
sources = [master, 0]
after = before
while master in sources:
    readable, _, _ = select.select(sources, [], [])
    if master in readable:
        try:
            data = os.read(master, 65536)
        except OSError:
            data = b""
        if data:
            say({"output": decoder.decode(data)})
            after = modes(master)
        else:
            sources.remove(master)
    if 0 in readable:
        data = os.read(0, 65536)
        if not data:
            sources.remove(0)
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "type" in order:
                os.write(master, order["type"].encode())
            if "resize" in order:
                size(master, *order["resize"])
            if "hangup" in order:
                os.close(master)
                sources.remove(master)
_, status = os.waitpid(pid, 0)
end = {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"status": os.WEXITSTATUS(status)}
say({**end, "before": before, "after": after})

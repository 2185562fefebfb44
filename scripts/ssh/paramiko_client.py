"""paramiko against the server: paramiko_client.py PORT KEY KNOWN_HOSTS FILE FARDIR."""

import getpass
import hashlib
import os
import pathlib
import socket
import sys
import threading

import paramiko

port, key_file, known_hosts, local, far = sys.argv[1:]
key = paramiko.Ed25519Key.from_private_key_file(key_file)
wanted = pathlib.Path(known_hosts).read_text().split()[2]


def check(what, got, want):
    if got != want:
        sys.exit(f"{what}: got {got!r}, want {want!r}")


def connect(user=None, pkey=key):
    transport = paramiko.Transport(("127.0.0.1", int(port)))
    transport.start_client(timeout=30)
    check("host key", transport.get_remote_server_key().get_base64(), wanted)
    transport.auth_publickey(user or getpass.getuser(), pkey)
    return transport


def run(transport, command, data=b""):
    channel = transport.open_session()
    channel.exec_command(command)

    def send():
        channel.sendall(data)
        channel.shutdown_write()

    # Aside, since a command may answer before it has read everything.
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    out = channel.makefile("rb").read()
    err = channel.makefile_stderr("rb").read()
    sender.join(30)
    return out, err, channel.recv_exit_status()


transport = connect()
check("exec", run(transport, "cat; echo err >&2; exit 3", b"in"), (b"in", b"err\n", 3))
check("a signal's exit", run(transport, "kill -TERM $$")[2], -1)

channel = transport.open_session()
channel.get_pty("xterm", 90, 33)
channel.exec_command("stty size; read line; stty size")
out = channel.recv(1000)
channel.resize_pty(70, 22)
channel.sendall(b"\n")
while chunk := channel.recv(1000):
    out += chunk
check("terminal", out.replace(b"\r\n", b"\n").split(), [b"33", b"90", b"22", b"70"])

with open(local, "rb") as f:
    data = f.read()
check("5 MB both ways", hashlib.sha256(run(transport, "cat", data)[0]).digest(), hashlib.sha256(data).digest())

os.mkdir(far)
sftp = paramiko.SFTPClient.from_transport(transport)
sftp.put(local, far + "/file")
check("put", pathlib.Path(far, "file").read_bytes() == data, True)
sftp.get(far + "/file", local + ".paramiko")
check("get", pathlib.Path(local + ".paramiko").read_bytes() == data, True)
sftp.chmod(far + "/file", 0o640)
sftp.utime(far + "/file", (1000000000, 1000000001))
stat = sftp.stat(far + "/file")
check("stat", (stat.st_size, stat.st_mode & 0o777, stat.st_mtime), (len(data), 0o640, 1000000001))
sftp.mkdir(far + "/dir", 0o750)
sftp.symlink("file", far + "/link")
check("symlink", os.readlink(far + "/link"), "file")
check("readlink", sftp.readlink(far + "/link"), "file")
with sftp.open(far + "/log", "a") as f:
    f.write("one\n")
with sftp.open(far + "/log", "a") as f:
    f.write("two\n")
check("append", pathlib.Path(far, "log").read_text(), "one\ntwo\n")
sftp.posix_rename(far + "/log", far + "/link")
check("posix-rename", sorted(sftp.listdir(far)), ["dir", "file", "link"])
sftp.truncate(far + "/file", 10)
check("truncate", os.path.getsize(far + "/file"), 10)
try:
    sftp.stat(far + "/missing")
    sys.exit("stat of what is missing: no error")
except FileNotFoundError:
    pass

listener = socket.create_server(("127.0.0.1", 0))
channel = transport.open_channel("direct-tcpip", listener.getsockname(), ("127.0.0.1", 1))
peer, _ = listener.accept()
channel.sendall(b"ping")
check("direct-tcpip", peer.recv(10), b"ping")
channel.shutdown_write()
check("half-close", peer.recv(10), b"")
peer.sendall(b"pong")
peer.close()
check("after the half-close", channel.recv(10), b"pong")

far_port = transport.request_port_forward("127.0.0.1", 0)
with socket.create_connection(("127.0.0.1", far_port)) as peer:
    channel = transport.accept(30)
    peer.sendall(b"ping")
    check("forwarded-tcpip", channel.recv(10), b"ping")
    channel.close()


# Its threads may adjust a window after they have closed the channel. 300,000
# bytes through a window of 200,000: there is an adjustment near each end.
def many():
    for _ in range(100):
        channel = transport.open_session(window_size=200_000, timeout=60)
        channel.exec_command("head -c 300000 /dev/zero")
        received = 0
        while chunk := channel.recv(32768):
            received += len(chunk)
        channel.close()
        results.append(received)


results = []
threads = [threading.Thread(target=many) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
check("commands at once", results, 400 * [300_000])
transport.close()

for user, pkey in [(None, paramiko.RSAKey.generate(2048)), ("nobody-of-this-name", key)]:
    try:
        connect(user, pkey)
        sys.exit("a stranger came in")
    except paramiko.AuthenticationException:
        pass

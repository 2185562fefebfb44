"""asyncssh against the server: asyncssh_client.py PORT KEY KNOWN_HOSTS FILE FARDIR."""

import asyncio
import os
import pathlib
import sys

import asyncssh

port, key_file, known_hosts, local, far = sys.argv[1:]


def check(what, got, want):
    if got != want:
        sys.exit(f"{what}: got {got!r}, want {want!r}")


def connect(**options):
    return asyncssh.connect("127.0.0.1", int(port), client_keys=[key_file], known_hosts=known_hosts, config=None, **options)


async def sessions(conn):
    result = await conn.run("cat; echo err >&2; exit 3", input="in")
    check("run", (result.stdout, result.stderr, result.exit_status), ("in", "err\n", 3))
    result = await conn.run("kill -TERM $$")
    check("exit-signal", result.exit_signal and result.exit_signal[0], "TERM")
    result = await conn.run("exec kill -KILL $$; :")
    check("exit-signal", result.exit_signal and result.exit_signal[0], "KILL")
    results = await asyncio.gather(*(conn.run(f"echo {i}; exit {i}") for i in range(9)))
    check("nine at once", [(r.stdout, r.exit_status) for r in results], [(f"{i}\n", i) for i in range(9)])
    process = await conn.create_process("stty size; read line; stty size", term_type="xterm", term_size=(90, 33))
    out = await process.stdout.readline()
    process.change_terminal_size(70, 22)
    process.stdin.write("\n")
    out += await process.stdout.read()
    check("terminal", out.split(), ["33", "90", "22", "70"])
    if os.environ["DOOR"] != "stock":
        await signals(conn)


async def signals(conn):
    """Not for sshd, which signals nothing of root's: that "requires privilege separation"."""
    process = await conn.create_process(
        "trap 'echo got TERM; exit 5' TERM; echo ready; for i in $(seq 300); do sleep 0.1; done"
    )
    await process.stdout.readline()
    process.send_signal("TERM")
    check("signal", await process.stdout.readline(), "got TERM\n")
    await process.wait()
    check("its status", process.exit_status, 5)


async def files(conn):
    data = pathlib.Path(local).read_bytes()
    os.mkdir(far)
    async with conn.start_sftp_client() as sftp:
        await sftp.put(local, far + "/file", preserve=True)
        check("put", pathlib.Path(far, "file").read_bytes() == data, True)
        check("its time", int(os.stat(far + "/file").st_mtime), int(os.stat(local).st_mtime))
        await sftp.get(far + "/file", local + ".asyncssh")
        check("get", pathlib.Path(local + ".asyncssh").read_bytes() == data, True)
        await sftp.symlink("file", far + "/link")
        check("symlink", os.readlink(far + "/link"), "file")
        await sftp.link(far + "/file", far + "/hard")
        check("link", os.stat(far + "/hard").st_nlink, 2)
        check("statvfs", (await sftp.statvfs(far)).bsize, os.statvfs(far).f_bsize)
        check("listdir", sorted(await sftp.listdir(far)), [".", "..", "file", "hard", "link"])
    await asyncssh.scp(local, (conn, far + "/scp"))
    check("scp", pathlib.Path(far, "scp").read_bytes() == data, True)


async def forwards(conn):
    async def upper(reader, writer):
        writer.write((await reader.read()).upper())
        writer.close()

    async def ask(reader, writer):
        writer.write(b"ping")
        writer.write_eof()
        return await reader.read()

    server = await asyncio.start_server(upper, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    forward = await conn.forward_local_port("127.0.0.1", 0, "127.0.0.1", port)
    check("-L", await ask(*await asyncio.open_connection("127.0.0.1", forward.get_port())), b"PING")
    forward = await conn.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
    check("-R", await ask(*await asyncio.open_connection("127.0.0.1", forward.get_port())), b"PING")
    forward = await conn.forward_remote_path_to_port(far + "/sock", "127.0.0.1", port)
    check("-R of a unix socket", await ask(*await asyncio.open_unix_connection(far + "/sock")), b"PING")
    server.close()


async def main():
    async with connect() as conn:
        await sessions(conn)
        await files(conn)
        await forwards(conn)
    try:
        async with connect(username="nobody-of-this-name"):
            sys.exit("a stranger came in")
    except asyncssh.PermissionDenied:
        pass


asyncio.run(asyncio.wait_for(main(), 100))

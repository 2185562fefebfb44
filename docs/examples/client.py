"""A complete guestd client in stock Python: pip install grpcio grpcio-tools grpcio-status

In the root of the repository, generate the stubs, then run it against an agent:

    mkdir stubs
    python -m grpc_tools.protoc -I proto --python_out=stubs --grpc_python_out=stubs proto/guestd/v1/*.proto
    PYTHONPATH=stubs python docs/examples/client.py unix:/run/guestd.sock

`make clients` runs it, so every assertion here is a promise.
"""

import hashlib
import os
import sys
import tempfile

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from guestd.v1 import file_pb2, file_pb2_grpc, process_pb2, process_pb2_grpc, system_pb2, system_pb2_grpc

CHUNK = 256 * 1024


def run(processes, spec, stdin=b""):
    """Runs a process to its end; returns (stdout, stderr, exit)."""

    def requests():
        yield process_pb2.ExecRequest(start=process_pb2.ExecStart(spec=spec))
        for i in range(0, len(stdin), CHUNK):
            yield process_pb2.ExecRequest(stdin=stdin[i : i + CHUNK])
        yield process_pb2.ExecRequest(stdin_eof=process_pb2.StdinEof())

    out, err, end = bytearray(), bytearray(), None
    for event in processes.Exec(requests()):
        kind = event.WhichOneof("event")
        if kind == "stdout":
            assert event.stdout.offset == len(out)
            out += event.stdout.data
        elif kind == "stderr":
            err += event.stderr.data
        elif kind == "exit":
            end = event.exit
    return bytes(out), bytes(err), end


def reason(error):
    """The ErrorInfo of a failed call."""
    info = error_details_pb2.ErrorInfo()
    for detail in rpc_status.from_call(error).details:
        if detail.Unpack(info):
            return info
    raise AssertionError("the error has no ErrorInfo")


def write(files, path, content, **start):
    def requests():
        kind = file_pb2.CHECKSUM_TYPE_SHA256
        yield file_pb2.WriteRequest(start=file_pb2.WriteStart(path=path, checksum=kind, **start))
        for i in range(0, len(content), CHUNK):
            yield file_pb2.WriteRequest(data=content[i : i + CHUNK])
        digest = file_pb2.Checksum(
            type=file_pb2.CHECKSUM_TYPE_SHA256, value=hashlib.sha256(content).digest()
        )
        yield file_pb2.WriteRequest(commit=file_pb2.WriteCommit(checksum=digest))

    return files.Write(requests())


def read(files, path):
    content, end = bytearray(), None
    request = file_pb2.ReadRequest(path=path, checksum=file_pb2.CHECKSUM_TYPE_SHA256)
    for part in files.Read(request):
        if part.WhichOneof("part") == "data":
            content += part.data
        elif part.WhichOneof("part") == "end":
            end = part.end
    assert end.checksum.value == hashlib.sha256(content).digest()
    return bytes(content)


def main(address):
    with grpc.insecure_channel(address) as channel:
        system = system_pb2_grpc.SystemServiceStub(channel)
        processes = process_pb2_grpc.ProcessServiceStub(channel)
        files = file_pb2_grpc.FileServiceStub(channel)

        info = system.GetInfo(system_pb2.GetInfoRequest())
        assert info.api_revision >= 1 and info.boot_id
        print(f"agent {info.version} on Linux {info.kernel_release}")

        out, err, end = run(processes, process_pb2.ProcessSpec(script="echo out; echo err >&2; exit 7"))
        assert (out, err, end.code) == (b"out\n", b"err\n", 7), (out, err, end)
        print("exec: streams apart, exit code 7")

        big = os.urandom(3 * 1024 * 1024)
        out, _, end = run(processes, process_pb2.ProcessSpec(args=["cat"], stdin=True), big)
        assert out == big and end.code == 0
        print("exec: 3 MiB through stdin and stdout")

        _, _, end = run(processes, process_pb2.ProcessSpec(args=["sh", "-c", "kill -9 $$"]))
        assert end.signal == 9 and end.signal_name == "SIGKILL"
        print("exec: ended by SIGKILL")

        try:
            run(processes, process_pb2.ProcessSpec(args=["/no/such/program"]))
            raise AssertionError("a missing program was started")
        except grpc.RpcError as error:
            why = reason(error)
            assert error.code() == grpc.StatusCode.NOT_FOUND
            assert (why.domain, why.reason, why.metadata["errno"]) == ("guestd", "START_FAILED", "ENOENT"), why
            print("exec: missing program:", error.details())

        started = processes.Start(
            process_pb2.StartRequest(spec=process_pb2.ProcessSpec(script="echo ready; exec sleep 1000"))
        )
        wait = process_pb2.WaitRequest(
            process=started.process.id,
            conditions=[process_pb2.WaitCondition(output=process_pb2.WaitOutput(pattern="rea.y"))],
        )
        assert processes.Wait(wait, timeout=60).matched == b"ready"
        processes.Signal(process_pb2.SignalRequest(process=started.process.id, name="TERM"))
        assert processes.Wait(process_pb2.WaitRequest(process=started.process.id), timeout=60).exit.signal == 15
        print("start, wait for output, signal, wait for exit")

        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "file")
            written = write(files, path, big, permissions=0o640)
            assert written.bytes == len(big) and written.info.mode == 0o640
            assert read(files, path) == big
            print("files: 3 MiB written and read back, checked on both ends")

            try:
                files.Stat(file_pb2.StatRequest(path=path + "x"))
                raise AssertionError("a missing file was described")
            except grpc.RpcError as error:
                why = reason(error)
                assert (why.reason, why.metadata["errno"]) == ("NOT_FOUND", "ENOENT"), why
                print("files: missing:", error.details())

            raw = os.fsencode(directory) + b"/\xff\xfe"
            files.Mkdir(file_pb2.MkdirRequest(raw_path=raw))
            names = {e.raw_name or e.name.encode() for e in files.ReadDir(file_pb2.ReadDirRequest(path=directory)).entries}
            assert names == {b"file", b"\xff\xfe"}, names
            print("files: names that are not UTF-8 are carried")
    print("all is well")


if __name__ == "__main__":
    main(sys.argv[1])

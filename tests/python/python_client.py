"""A release pipeline in Python: signs one file with a client that grpcio-tools generated from `proto/`.

    python_client.py --stubs DIR --target HOST:PORT --server-name NAME --ca PEM --certificate PEM --key PEM
                     --product P --sequence N --out DIR FILE

Writes the release's files to the folder, and prints its state and its id. Shares nothing with the Rust client but the
`.proto` files.
"""

import argparse
import hashlib
import pathlib
import sys


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("stubs", "target", "server-name", "ca", "certificate", "key", "product", "sequence", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("file", type=pathlib.Path)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    sys.path.insert(0, args.stubs)
    import grpc
    from rutli.v1 import release_pb2, release_pb2_grpc

    def read(path: str) -> bytes:
        return pathlib.Path(path).read_bytes()

    credentials = grpc.ssl_channel_credentials(read(args.ca), read(args.key), read(args.certificate))
    options = [("grpc.ssl_target_name_override", args.server_name)]
    content = args.file.read_bytes()
    request = release_pb2.CreateReleaseRequest(
        request_id=f"python-{args.sequence}",
        release_class=release_pb2.RELEASE_CLASS_PRODUCT_BUILD,
        product=args.product,
        channel="python",
        version="3",
        sequence=int(args.sequence),
        artifacts=[
            release_pb2.Artifact(
                name=args.file.name,
                sha256=hashlib.sha256(content).digest(),
            )
        ],
    )
    with grpc.secure_channel(args.target, credentials, options) as channel:
        service = release_pb2_grpc.ReleaseServiceStub(channel)
        try:
            release = service.CreateRelease(request, timeout=20)
        except grpc.RpcError as error:
            print(error.code().name, error.details())
            return
        for release in service.WatchRelease(
            release_pb2.WatchReleaseRequest(release_id=release.release_id), timeout=60
        ):
            print(release_pb2.ReleaseState.Name(release.state), release.release_id)
        release = service.GetRelease(release_pb2.GetReleaseRequest(release_id=release.release_id), timeout=20)
    for file in release.files:
        (pathlib.Path(args.out) / pathlib.PurePosixPath(file.name).name).write_bytes(file.data)


if __name__ == "__main__":
    main()

"""Builds the tests' Go program, with the toolchain of the tests' Python environment and nothing from elsewhere.

    python3 tests/go/build.py VENV DIR

The toolchain's sources hold a copy of golang.org/x/mod: the program is built with it, and no module proxy is asked. Does nothing
when DIR holds the program already; several processes may call it at one time. Prints the program's path.
"""

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

SOURCES = ("go.mod", "main.go")
VENDORED = "src/cmd/vendor/golang.org/x/mod"
PACKAGES = ("sumdb/note", "sumdb/tlog")

# Minutes on a slow machine, but not for ever.
TIMEOUT_SECONDS = 600


def main() -> None:
    environment, folder = (pathlib.Path(path).resolve() for path in sys.argv[1:])
    here = pathlib.Path(__file__).parent
    goroot = next(environment.glob("lib/python*/site-packages/go"))
    sources = b"".join((here / name).read_bytes() for name in SOURCES)
    wanted = f"{(goroot / 'VERSION').read_text()}\n{hashlib.sha256(sources).hexdigest()}"
    done, program = folder / "build.done", folder / "readlog"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done.exists() and done.read_text() == wanted and program.exists()):
            shutil.rmtree(folder, ignore_errors=True)
            module = folder / "mod"
            for package in PACKAGES:
                shutil.copytree(goroot / VENDORED / package, module / package)
            (module / "go.mod").write_text("module golang.org/x/mod\n\ngo 1.25\n")
            for name in SOURCES:
                shutil.copy(here / name, folder)
            settings = {
                "GOROOT": goroot,
                "GOCACHE": folder / "cache",
                "GOPATH": folder / "path",
                "GOENV": "off",
                "GOFLAGS": "",
                "GOPROXY": "off",
                "GOSUMDB": "off",
                "GOTOOLCHAIN": "local",
                "GOWORK": "off",
                "CGO_ENABLED": "0",
            }
            subprocess.run(
                [goroot / "bin" / "go", "build", "-o", program, "."],
                cwd=folder,
                env=os.environ | {name: str(value) for name, value in settings.items()},
                check=True,
                stdout=sys.stderr,
                timeout=TIMEOUT_SECONDS,
            )
            # The cache is many times as large as the program, and not needed any more.
            shutil.rmtree(folder / "cache", ignore_errors=True)
            # Last: a build that was cut short is made again.
            done.write_text(wanted)
    print(program)


if __name__ == "__main__":
    main()

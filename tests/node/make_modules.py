"""Installs the Node.js packages that the tests' programs need.

    python3 tests/node/make_modules.py DIR

Does nothing when DIR holds what package-lock.json asks for already; several processes may call it at one time. Needs npm,
and the registry of Node.js packages when it has something to do.
"""

import fcntl
import pathlib
import shutil
import subprocess
import sys

FILES = ("package.json", "package-lock.json", ".npmrc")

# A registry that does not answer must not hang the tests.
TIMEOUT_SECONDS = 300


def main() -> None:
    folder = pathlib.Path(sys.argv[1]).resolve()
    here = pathlib.Path(__file__).parent
    wanted = (here / "package-lock.json").read_text()
    done = folder / "packages.done"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done.exists() and done.read_text() == wanted):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name in FILES:
                shutil.copy(here / name, folder)
            subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"],
                cwd=folder,
                check=True,
                stdout=sys.stderr,
                timeout=TIMEOUT_SECONDS,
            )
            # Last: a folder that was cut short is made again.
            done.write_text(wanted)
    print(folder)


if __name__ == "__main__":
    main()

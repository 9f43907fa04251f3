"""Makes the virtual environment that the tests' Python programs run in.

    python3 tests/python/make_venv.py DIR

Does nothing when DIR holds what requirements.txt asks for already; several processes may call it at one time. Prints
the path of the environment's Python. Needs the registry of Python packages when it has something to do.
"""

import fcntl
import pathlib
import shutil
import subprocess
import sys
import venv


def main() -> None:
    folder = pathlib.Path(sys.argv[1]).resolve()
    requirements = pathlib.Path(__file__).with_name("requirements.txt")
    wanted = f"{sys.version}\n{requirements.read_text()}"
    done = folder / "requirements.done"
    python = folder / "bin" / "python"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done.exists() and done.read_text() == wanted and python.exists()):
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            subprocess.run(
                [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements],
                check=True,
                stdout=sys.stderr,
            )
            # Last: an environment that was cut short is made again.
            done.write_text(wanted)
    print(python)


if __name__ == "__main__":
    main()

"""Which versions CI installs: `ci.lock` decides, and this script writes it from a clean virtual environment.

Run `python requirements/lock.py` after a change of the dependencies, or to take up new versions.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
LOCK = CHECKOUT / "requirements" / "ci.lock"
HEADING = "# Every version that CI installs. Regenerate with: python requirements/lock.py\n"


def main() -> int:
    """Install the project with all its extras afresh, then write what was installed, the project left out."""
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        python = str(Path(directory) / "bin" / "python")
        environment = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
        install = [python, "-m", "pip", "install", "--quiet", f"{CHECKOUT}[test,quality]"]
        subprocess.run(install, check=True, env=environment)  # noqa: S603 - no input
        freeze = [python, "-m", "pip", "freeze", "--exclude", "keybits-gallery"]
        done = subprocess.run(freeze, check=True, env=environment, stdout=subprocess.PIPE)  # noqa: S603 - no input
    LOCK.write_bytes(HEADING.encode("ascii") + done.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())

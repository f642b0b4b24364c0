"""Imported by every Python of a test's deployment as it starts: what only tests install is not there for it.

So it fails where it would fail for a user, and loads nothing that merely happens to be installed.
"""

import os
import sys

for name in filter(None, os.environ.get("KEYBITS_TEST_WITHOUT", "").split(",")):
    sys.modules[name] = None  # type: ignore[assignment] - which is how an import is told that there is none

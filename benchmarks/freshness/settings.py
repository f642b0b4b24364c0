"""The project's settings, with any `KEYBITS_*` of them replaced by `TORTURE_KEYBITS_*` in the environment (JSON).

With `TORTURE_SUBJECT=recipe` the servers answer from the recipe's URLconf, over a cache that their processes share.
"""

from __future__ import annotations

import json
import os

from gallery_api.settings import *  # noqa: F403
from gallery_api.settings import CACHES, INSTALLED_APPS, REDIS_URL, VAR_DIR

PREFIX = "TORTURE_"
globals().update(
    {
        name.removeprefix(PREFIX): json.loads(value)
        for name, value in os.environ.items()
        if name.startswith(f"{PREFIX}KEYBITS_")
    }
)

if os.environ.get(f"{PREFIX}SUBJECT") == "recipe":
    ROOT_URLCONF = "benchmarks.freshness.recipe"
    INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.freshness"]
    if REDIS_URL:  # with its own serializer: drf-extensions keeps bytes
        del CACHES["default"]["OPTIONS"]["SERIALIZER"]
    else:
        CACHES = {
            "default": {
                "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
                "LOCATION": VAR_DIR / "recipe",
            }
        }

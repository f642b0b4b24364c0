"""The ASGI entry point: `gallery_api.asgi:application`."""

import gc
import os
from importlib import import_module

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.checks import Tags
from django.core.management import BaseCommand

from keybits.fastpath.asgi import FastPath
from keybits.relay_thread import ensure_running

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gallery_api.settings")

application = FastPath(get_asgi_application())
for database in settings.DATABASES.values():  # each request has its own thread: none reuses one
    database["CONN_MAX_AGE"] = 0
BaseCommand().check(tags=[Tags.caches])  # servers run no checks, and these errors would fail every request
import_module(settings.ROOT_URLCONF)  # now, and not at the first request
ensure_running()
gc.freeze()  # all this lives as long as the process: to scan it is a pause (`python -m benchmarks in_process`)

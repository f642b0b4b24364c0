"""The WSGI entry point: `gallery_api.wsgi:application`."""

import gc
import os
from importlib import import_module

from django.conf import settings
from django.core.checks import Tags
from django.core.management import BaseCommand
from django.core.wsgi import get_wsgi_application

from keybits.fastpath.wsgi import FastPath
from keybits.relay_thread import ensure_running

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gallery_api.settings")

application = FastPath(get_wsgi_application())
BaseCommand().check(tags=[Tags.caches])  # servers run no checks, and these errors would fail every request
import_module(settings.ROOT_URLCONF)  # now, and not at the first request
ensure_running()
gc.freeze()  # all this lives as long as the process: to scan it is a pause (`python -m benchmarks in_process`)

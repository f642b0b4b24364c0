"""The WSGI entry point: `gallery_api.wsgi:application`."""

import gc
import os
from importlib import import_module

from django.conf import settings
from django.core.checks import Tags
from django.core.management import BaseCommand
from django.core.wsgi import get_wsgi_application

from keybits.fastpath.wsgi import FastPath
from keybits.relay import ensure_running

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gallery_api.settings")

application = FastPath(get_wsgi_application())
BaseCommand().check(tags=[Tags.caches])  # servers run no checks, and what these find fails every request
import_module(settings.ROOT_URLCONF)  # now, and not by the first request
ensure_running()
gc.freeze()  # none of this ends before the process: a look through it is a pause (`python -m benchmarks in_process`)

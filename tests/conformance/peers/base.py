"""What both peers have in common: the same models and rows, in a project as `startproject` makes it.

REST framework has its defaults but for token authentication, which the rows need, and pages of twenty.
"""

from __future__ import annotations

from gallery_api.settings import *  # noqa: F403
from gallery_api.settings import INSTALLED_APPS as OURS
from gallery_api.settings import VAR_DIR

INSTALLED_APPS = [*OURS, "conformance.peers"]
KEYBITS_RELAY = "off"
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": VAR_DIR / "peer",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.TokenAuthentication",
    ],
    "DEFAULT_PAGINATION_CLASS": "conformance.peers.pagination.Pagination",
    "PAGE_SIZE": 20,
}

"""How each peer is configured: REST framework's and Django's own defaults, and no middleware that it does without.

`BENCHMARK_PEER` says which one this process is.
"""

from __future__ import annotations

import os

import environ

env = environ.Env()
PEER = os.environ["BENCHMARK_PEER"]

SECRET_KEY = "benchmarks"  # noqa: S105 - guards nothing
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = f"benchmarks.peers.{PEER}"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
DATABASES = {"default": env.db_url("DATABASE_URL") | {"CONN_MAX_AGE": 60}}
MIDDLEWARE = ["django.middleware.http.ConditionalGetMiddleware"] if PEER == "page_cache" else []
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "benchmarks.peers.apps.CatalogModels",
]

REDIS_URL = env.str("REDIS_URL", default="")
if REDIS_URL:
    CACHES = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": REDIS_URL,
            # after Django's five minutes the recipe's timestamp, and with it every ETag, would be another in mid-run
            "TIMEOUT": None,
            # redis-py's own 100 are fewer than a server's threads in a stampede, and it does not wait for one
            "OPTIONS": {"CONNECTION_POOL_KWARGS": {"max_connections": 2_000}},
        }
    }
if PEER == "queryset_cache":
    INSTALLED_APPS = ["cacheops", *INSTALLED_APPS]
    CACHEOPS_REDIS = REDIS_URL
    CACHEOPS = {"catalog.*": {"ops": "all", "timeout": 86_400}}
LOGGING = {
    "version": 1,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"django.request": {"handlers": ["console"], "level": "ERROR"}},
}

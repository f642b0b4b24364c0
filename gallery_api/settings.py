"""All settings of a deployment, read from the environment, with defaults that serve on one machine.

`docs/settings.md` is the reference; a test compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gallery_api import environment as env
from gallery_api.log import without_traceback
from gallery_api.secret import secret_key
from keybits.conf import defaults

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = env.folder("VAR_DIR", default=BASE_DIR / "var", holding=["static"])

# --- Security -----------------------------------------------------------------------------------------------
DEBUG = env.boolean("DEBUG", default=False)
SECRET_KEY = env.text("SECRET_KEY", default="") or secret_key(VAR_DIR / "secret_key")
SECRET_KEY_FALLBACKS = env.names("SECRET_KEY_FALLBACKS", default=[])
ALLOWED_HOSTS = env.hosts("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
HTTPS = env.boolean("HTTPS", default=False)
SECURE_SSL_REDIRECT = HTTPS
# A load balancer asks past the proxy that ends TLS, and follows no redirect.
SECURE_REDIRECT_EXEMPT = [r"^health$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https") if env.boolean("BEHIND_TLS_PROXY", default=False) else None
)
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "gallery_api.admin.forged"

# --- Application --------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "gallery_api.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
    "keybits",
    "catalog",
    "catalog.accounts",
]
MIDDLEWARE = [
    "gallery_api.content_security.middleware",
    "keybits.middleware.host_middleware",
    "keybits.middleware.path_middleware",
    "keybits.middleware.unread_content_middleware",
    "keybits.middleware.content_length_middleware",
    "keybits.middleware.cookieless_middleware",
    "keybits.middleware.https_middleware",
    "django.middleware.security.SecurityMiddleware",
    "keybits.middleware.cross_origin_middleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "gallery_api.sessions.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "gallery_api.sessions.AuthenticationMiddleware",
    "gallery_api.sessions.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "gallery_api.urls"
WSGI_APPLICATION = "gallery_api.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
# No middleware chooses a language: it is the same for everybody, and a hit need not look for it.
USE_I18N = False
USE_TZ = True

# --- Data ---------------------------------------------------------------------------------------------------
DATABASES = {"default": env.database("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'gallery.sqlite3'}")}
DATABASES["default"].setdefault("CONN_MAX_AGE", 60)  # connecting costs as much as making a page
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-65536;",
    }
else:
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    DATABASES["default"]["ENGINE"] = "gallery_api.postgresql"
    DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True  # a pooler in transaction mode loses them

REDIS_URL = env.redis_url("REDIS_URL", default="")
if REDIS_URL:
    from redis.backoff import NoBackoff  # only here: the client takes long to load
    from redis.retry import Retry

    CACHES: dict[str, dict[str, Any]] = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": [REDIS_URL],  # a string would be split at its commas
            "OPTIONS": {
                "CLIENT_CLASS": "django_redis.client.DefaultClient",
                "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
                "SOCKET_CONNECT_TIMEOUT": 0.5,
                "SOCKET_TIMEOUT": 0.5,
                "REDIS_CLIENT_KWARGS": {"retry": Retry(NoBackoff(), 1)},
            },
        }
    }
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": str(env.folder("MEDIA_ROOT", default=VAR_DIR / "media")),
            "base_url": "/files/",
        },
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
WHITENOISE_USE_FINDERS = True

# --- keybits ------------------------------------------------------------------------------------------------
KEYBITS_STORE = env.text("KEYBITS_STORE", default="") or (
    "keybits.stores.redis.RedisStore" if REDIS_URL else defaults.STORE
)
KEYBITS_LMDB_PATH = VAR_DIR / "keybits.lmdb"
KEYBITS_FASTPATH = env.boolean("KEYBITS_FASTPATH", default=defaults.FASTPATH)
KEYBITS_FASTPATH_MIDDLEWARE = [name for name in MIDDLEWARE if name.startswith("gallery_api.")]
KEYBITS_METRICS = env.boolean("KEYBITS_METRICS", default=defaults.METRICS)
KEYBITS_MEMORY_BYTES = env.whole("KEYBITS_MEMORY_BYTES", default=defaults.MEMORY_BYTES, most=2**40)
KEYBITS_LMDB_MAP_SIZE = env.whole(
    "KEYBITS_LMDB_MAP_SIZE", default=defaults.LMDB_MAP_SIZE, least=2**20, most=2**40
)
KEYBITS_RELAY_BOUND = env.seconds("KEYBITS_RELAY_BOUND", default=defaults.RELAY_BOUND)
KEYBITS_RELAY_INTERVAL = env.seconds("KEYBITS_RELAY_INTERVAL", default=defaults.RELAY_INTERVAL)
KEYBITS_PURGE_AGAIN = env.seconds("KEYBITS_PURGE_AGAIN", default=defaults.PURGE_AGAIN, may_be_zero=True)
KEYBITS_BULK_LIMIT = env.whole("KEYBITS_BULK_LIMIT", default=defaults.BULK_LIMIT, least=1)
KEYBITS_AUDIT = env.choice("KEYBITS_AUDIT", ("off", "log", "raise"), default=defaults.AUDIT)
if relay := env.choice("KEYBITS_RELAY", ("thread", "external", "off"), default=""):
    KEYBITS_RELAY = relay
KEYBITS_PURGERS = env.json_object("PURGERS", default=defaults.PURGERS)
KEYBITS_FINGERPRINT_PACKAGES = ["catalog", "gallery_api"]
KEYBITS_WARM_URLS = "catalog.first_pages.urls"
KEYBITS_WARM_BASE_URL = env.base_url("WARM_BASE_URL", default=defaults.WARM_BASE_URL)
KEYBITS_WARM_AFTER_PURGE = env.names("WARM_AFTER_PURGE", default=defaults.WARM_AFTER_PURGE)

# --- API ----------------------------------------------------------------------------------------------------
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "catalog.accounts.authentication.ApiKeyAuthentication",
        "catalog.api.authentication.SessionCookieAuthentication",
        "catalog.api.authentication.StoredTokenAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "DEFAULT_RENDERER_CLASSES": [
        "keybits.drf.renderers.JSONRenderer",
        "catalog.api.pages.BrowsableAPIRenderer",
    ],
    "DEFAULT_PARSER_CLASSES": ["keybits.drf.parsers.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "keybits.drf.negotiation.JSONContentNegotiation",
    "DEFAULT_METADATA_CLASS": "catalog.api.metadata.BodyMetadata",
    "DEFAULT_FILTER_BACKENDS": ["catalog.api.filters.FilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "catalog.api.pagination.Pagination",
    "DEFAULT_THROTTLE_CLASSES": [
        "keybits.drf.throttles.AnonymousThrottle",
        "keybits.drf.throttles.UserThrottle",
        "keybits.drf.throttles.ScopedThrottle",
        "catalog.accounts.throttles.QuotaThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "anon": env.rate("ANON_THROTTLE_RATE", default="6000/min"),
        "user": env.rate("USER_THROTTLE_RATE", default="6000/min"),
        "curate": env.rate("CURATE_THROTTLE_RATE", default="600/min"),
        "capture": env.rate("CAPTURE_THROTTLE_RATE", default="60/min"),
        "token": env.rate("TOKEN_THROTTLE_RATE", default="10/min"),
    },
    "NUM_PROXIES": env.whole("NUM_PROXIES", default=0, most=1_000),
    "DEFAULT_SCHEMA_CLASS": "catalog.api.schema.AutoSchema",
    "DEFAULT_VERSIONING_CLASS": None,
    "EXCEPTION_HANDLER": "keybits.drf.problems.exception_handler",
    "URL_FIELD_NAME": "url",
}

CURATION_HIDES = env.boolean("CURATION_HIDES", default=False)
TOMBSTONE_DAYS = env.whole("TOMBSTONE_DAYS", default=90, most=36_500)
JWT = env.boolean("JWT", default=False)
if JWT:
    REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"].append("catalog.accounts.jwt.BearerAuthentication")
SIMPLE_JWT = {"CHECK_REVOKE_TOKEN": True}

SPECTACULAR_SETTINGS = {
    "TITLE": "Screenshot gallery",
    "DESCRIPTION": "Galleries of screenshots, to be filtered, paged through and revalidated.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PUBLIC": True,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "GET_MOCK_REQUEST": "catalog.api.schema.request_of_nobody",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "StatusEnum": "catalog.models.State",
        "ColorSchemeEnum": "catalog.models.ColorScheme",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "catalog.api.schema.finish",
    ],
}

# Every origin or one, but never its cookies: so `*` stands for all fields but Authorization, such as those for tracing.
CORS_ORIGIN = env.origin("CORS_ORIGIN", default="*")
CORS_ALLOW_ALL_ORIGINS = CORS_ORIGIN == "*"
CORS_ALLOWED_ORIGINS = [] if CORS_ALLOW_ALL_ORIGINS else [CORS_ORIGIN]
CORS_URLS_REGEX = r"^/(api|files)/"
CORS_ALLOW_METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
CORS_ALLOW_HEADERS = [
    *("accept", "authorization", "content-type", "if-none-match", "if-modified-since"),
    *("if-match", "if-unmodified-since", "range", "if-range", "idempotency-key", "x-bulk-operation", "*"),
]
CORS_EXPOSE_HEADERS = [
    *("ETag", "Link", "Cache-Status", "Content-Location", "Age", "Vary", "Retry-After", "Location"),
    *("Content-Range", "Accept-Ranges", "RateLimit", "RateLimit-Policy", "WWW-Authenticate", "Allow"),
    *("No-Vary-Search", "Content-Encoding", "Accept", "Accept-Patch", "Accept-Encoding"),
]

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{levelname} {name}: {message}", "style": "{"}},
    "filters": {"brief": {"()": "django.utils.log.CallbackFilter", "callback": without_traceback}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"filters": ["brief"]},
    },
    "root": {"handlers": ["console"], "level": env.choice("LOG_LEVEL", LEVELS, default="WARNING")},
}

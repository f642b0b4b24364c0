"""Where everything is mounted."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from catalog import files
from catalog.api.root import canonical
from keybits import health
from keybits.purge import groups

urlpatterns = [
    path("api/v1/", include("catalog.api.urls")),
    path("api/v1", canonical, {"path": ""}),
    path("files/<str:name>", files.serve, name="file"),
    path("health", health.report, name="health"),
    path("purge", groups.invalidate, name="purge"),
    path("admin/", admin.site.urls),
]
if settings.JWT:
    urlpatterns.insert(0, path("api/v1/token/", include("catalog.accounts.urls")))

handler400 = "keybits.problems.bad_request"
handler403 = "keybits.problems.permission_denied"
handler404 = "catalog.api.root.not_found"
handler500 = "keybits.problems.server_error"

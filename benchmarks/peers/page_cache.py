"""The plain list under Django's own `cache_page`; `ConditionalGetMiddleware` is in the settings."""

from __future__ import annotations

from django.urls import path
from django.views.decorators.cache import cache_page

from benchmarks.peers import plain

urlpatterns = [
    path("api/v1/screenshots/", cache_page(86_400)(plain.ScreenshotList.as_view())),
    *plain.urlpatterns[1:],
]

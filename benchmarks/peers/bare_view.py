"""A Django view that returns the page's bytes, with no middleware: the unit of all ratios."""

from __future__ import annotations

import os
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.urls import path

BODY = Path(os.environ["BENCHMARK_PAGE"]).read_bytes()
LENGTH = {"Content-Length": str(len(BODY))}


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(BODY, content_type="application/json", headers=LENGTH)


urlpatterns = [path("api/v1/screenshots/", page)]

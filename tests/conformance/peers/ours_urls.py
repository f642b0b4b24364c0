"""The project's addresses and the probes."""

from __future__ import annotations

from typing import Any

from django.urls import path
from rest_framework.request import Request

from conformance.peers import probes
from gallery_api import urls
from keybits.bits import HeadersKeyBit, UpdatedAtKeyBit, UserKeyBit
from keybits.constructors import DefaultObjectKeyConstructor
from keybits.drf import cache_response_and_etag


class ProbeKey(DefaultObjectKeyConstructor):
    user = UserKeyBit()
    variant = HeadersKeyBit(params=["X-Variant"])
    updated_at = UpdatedAtKeyBit("probe")


class Probe(probes.Probe):
    @cache_response_and_etag(ProbeKey())
    def get(self, request: Request, name: str) -> Any:
        return super().get(request, name)


urlpatterns = [*urls.urlpatterns, path("probe/<slug:name>/", Probe.as_view())]
handler400, handler403, handler404, handler500 = (
    urls.handler400,
    urls.handler403,
    urls.handler404,
    urls.handler500,
)

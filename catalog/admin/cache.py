"""The page "Cache" of an object in the admin: what the cache holds for its scopes, and the buttons that purge them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from keybits import edge, inspection
from keybits.invalidation import scopes_of
from keybits.stores import StoreError

__all__ = ["CachePage"]

SAMPLE = 500
"""Most entries of the store that are looked at; each is read completely."""


class CachePage(admin.ModelAdmin):  # type: ignore[type-arg]
    """Adds the page, and a link to it, to the admin of a model whose scopes have been declared."""

    change_form_template = "catalog/admin/change_form.html"

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_cache"
        view = self.admin_site.admin_view(self.cache_view)
        return [path("<path:object_id>/cache/", view, name=name), *super().get_urls()]

    def cache_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the page; on POST ask for confirmation of a purge and, once confirmed, purge."""
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404
        if not self.has_view_or_change_permission(request, obj):
            raise PermissionDenied
        scopes = sorted(scopes_of(self.model._base_manager.filter(pk=obj.pk)))
        if request.method != "POST":
            return self._page(request, obj, _knowledge(scopes))
        if not self.has_change_permission(request, obj):
            raise PermissionDenied
        return self._purge(request, obj, scopes)

    def _purge(self, request: HttpRequest, obj: Any, scopes: list[str]) -> HttpResponse:
        named = [scope for scope in request.POST.getlist("scope") if scope in scopes]
        purge = {"store": self._purge_store, "edge": self._purge_edge}.get(request.POST.get("purge", ""))
        if not named or purge is None:
            self.message_user(
                request, "Choose a scope of this object, and where to purge it.", messages.ERROR
            )
        elif "confirmed" not in request.POST:
            where = request.POST["purge"]
            return self._page(request, obj, {"confirm": where, "named": named, "purgers": edge.purgers()})
        else:
            purge(request, obj, named)
        return HttpResponseRedirect(request.path)

    def _page(self, request: HttpRequest, obj: Any, context: dict[str, Any]) -> HttpResponse:
        known = self.admin_site.each_context(request) | {
            "title": f"Cache: {obj}",
            "opts": self.opts,
            "original": obj,
            "may_purge": self.has_change_permission(request, obj),
        }
        return TemplateResponse(request, "catalog/admin/cache.html", known | context)

    def _purge_store(self, request: HttpRequest, obj: Any, scopes: list[str]) -> None:
        try:
            inspection.purge_store(scopes)
        except StoreError as error:
            self.message_user(request, f"The store was not purged: {error}", messages.ERROR)
            return
        self._done(request, obj, "the store", scopes)

    def _purge_edge(self, request: HttpRequest, obj: Any, scopes: list[str]) -> None:
        failures = inspection.purge_edge(scopes)
        for name, failure in failures.items():
            self.message_user(request, f"{name} was not purged: {failure}", messages.ERROR)
        if purged := sorted(edge.purgers().keys() - failures.keys()):
            self._done(request, obj, ", ".join(purged), scopes)

    def _done(self, request: HttpRequest, obj: Any, where: str, scopes: list[str]) -> None:
        told = f"Purged from {where}: {', '.join(scopes)}."
        self.log_change(request, obj, told)
        self.message_user(request, told)


def _knowledge(scopes: list[str]) -> dict[str, Any]:
    """Return the page's context: the stamps and a sample of entries, or the failure of the store."""
    told: dict[str, Any] = {"scopes": scopes, "purgers": edge.purgers()}
    try:
        known = inspection.stamps_of(scopes)
        return told | {"known": known, "sample": inspection.sample(known, SAMPLE)}
    except StoreError as error:
        return told | {"failure": str(error)}

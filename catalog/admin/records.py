"""Records in the admin, which can be read but not changed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from catalog.models import BulkOperation

__all__ = ["BulkOperationAdmin", "RecordAdmin"]


class RecordAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """An admin of rows that the service writes, and people only read."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(BulkOperation)
class BulkOperationAdmin(RecordAdmin):
    list_display = ("at", "username", "kind", "path", "query", "count")
    list_filter = ("kind",)
    search_fields = ("username", "path")

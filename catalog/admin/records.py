"""The records of bulk operations in the admin, to be read: what has been done stays as it was written."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from catalog.models import BulkOperation


@admin.register(BulkOperation)
class BulkOperationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("at", "username", "kind", "path", "query", "count")
    list_filter = ("kind",)
    search_fields = ("username", "path")
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

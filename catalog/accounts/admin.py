"""Accounts in Django's admin: plans and accounts are created, keys issued and revoked, usage and its records shown."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from rest_framework.authtoken.admin import TokenAdmin
from rest_framework.authtoken.models import TokenProxy

from catalog.accounts import keys
from catalog.accounts.models import Account, ApiKey, MonthlyUsage, Plan, Scope, UsageEvent, validate_active
from catalog.admin.curated import BoundedPaginator
from catalog.admin.records import RecordAdmin
from catalog.admin.refusals import RefusalAdmin, RefusalForm


@admin.register(Plan)
class PlanAdmin(RefusalAdmin):
    list_display = ("name", "slug", "monthly_quota")
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}


@admin.register(Account)
class AccountAdmin(RefusalAdmin):
    list_display = ("user", "plan", "created_at")
    list_filter = ("plan",)
    list_select_related = ("user", "plan")
    search_fields = ("user__username",)
    raw_id_fields = ("user",)


class ApiKeyForm(RefusalForm):
    """The properties of a key that are chosen when it is issued."""

    scopes = forms.MultipleChoiceField(choices=Scope.choices, widget=forms.CheckboxSelectMultiple)

    class Meta:
        model = ApiKey
        fields = ("account", "name", "scopes", "expires_at")

    def clean_expires_at(self) -> Any:
        """Refuse a time in the past."""
        moment = self.cleaned_data["expires_at"]
        if moment is not None and moment <= timezone.now():
            raise forms.ValidationError("This time has passed: the key would be refused from the start.")
        return moment


@admin.register(ApiKey)
class ApiKeyAdmin(RefusalAdmin):
    """Issues a key, and shows it only in the response to that: in no message, session or redirect. Revokes keys."""

    form = ApiKeyForm
    list_display = (
        "name",
        "prefix",
        "account",
        "scopes",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
    )
    list_filter = ("revoked_at",)
    list_select_related = ("account__user",)
    search_fields = ("name", "prefix", "account__user__username")
    autocomplete_fields = ("account",)
    actions = ("revoke",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        shown = (
            "account",
            "name",
            "scopes",
            "prefix",
            "created_at",
            "last_used_at",
            "expires_at",
            "revoked_at",
        )
        return shown if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Ignore `expires_at` in the query string: Django's datetime field fails on a text."""
        given = super().get_changeform_initial_data(request)
        return {name: value for name, value in given.items() if name != "expires_at"}

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False for a single key: a key is only ever revoked, by an action of the list."""
        return obj is None and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.issued = keys.seal(obj)
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        """Show the key, once."""
        return _issued(self, request, f"the key “{obj.name}” of {obj.account}", obj.issued)

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            keys.revoke(key=key)
            self.log_change(request, key, "Revoked.")
        self.message_user(request, "The keys are revoked.")


class TokenForm(RefusalForm):
    """The user of a token."""

    def clean_user(self) -> Any:
        """Refuse an inactive user, whose token would be refused from the start."""
        validate_active(self.cleaned_data["user"])
        return self.cleaned_data["user"]


class SealedTokenAdmin(RefusalAdmin, TokenAdmin):
    """REST framework's, except that a token's key is shown only in the response to its creation.

    Tokens cannot be searched by key either, which would reveal keys letter by letter.
    """

    form = TokenForm
    list_display = ("user", "created")
    raw_id_fields = ("user",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False for a single token: it stays with its user."""
        return obj is None and super().has_change_permission(request, obj)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        return lookup.partition("__")[0] in self.list_display and super().lookup_allowed(
            lookup, value, request
        )

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        """Show the key, once."""
        return _issued(self, request, str(obj), keys.Secret(obj.key))


admin.site.unregister(TokenProxy)
admin.site.register(TokenProxy, SealedTokenAdmin)


def _issued(
    options: admin.ModelAdmin[Any], request: HttpRequest, named: str, secret: keys.Secret
) -> HttpResponse:
    """Return the only page that shows the secret of what is `named`."""
    context = options.admin_site.each_context(request) | {
        "title": "Key issued",
        "named": named,
        "secret": secret,
        "opts": options.opts,
        "list": reverse(f"admin:{options.opts.app_label}_{options.opts.model_name}_changelist"),
    }
    return TemplateResponse(request, "accounts/issued.html", context)


@admin.register(MonthlyUsage)
class MonthlyUsageAdmin(RecordAdmin):
    list_display = ("account", "month", "used")
    list_filter = ("month",)
    list_select_related = ("account__user",)
    search_fields = ("account__user__username",)


class MethodFilter(admin.SimpleListFilter):
    """The methods that are counted; Django would read the choices from every row."""

    title = "method"
    parameter_name = "method"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(method, method) for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[UsageEvent]) -> QuerySet[UsageEvent]:
        return queryset.filter(method=self.value()) if self.value() else queryset


@admin.register(UsageEvent)
class UsageEventAdmin(RecordAdmin):
    list_display = ("at", "account", "key", "method", "route", "status")
    list_filter = (MethodFilter,)
    paginator = BoundedPaginator
    list_select_related = ("account__user", "key")
    search_fields = ("account__user__username", "key__prefix")

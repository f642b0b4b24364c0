"""Accounts with keys, and clients that show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test.client import Client, ClientHandler

from catalog.accounts import keys
from catalog.accounts.models import Account, Plan
from catalog.models import Gallery, Visibility

HANDLER = ClientHandler(enforce_csrf_checks=True)
Ask = Callable[..., HttpResponse]


@pytest.fixture
def owner(db: None) -> User:
    """Somebody with a public and a private gallery."""
    user = User.objects.create_user("owner")
    Gallery.objects.create(slug="spring", title="Spring", owner=user)
    Gallery.objects.create(slug="vault", title="Vault", owner=user, visibility=Visibility.PRIVATE)
    return user


@pytest.fixture
def plan(owner: User) -> Plan:
    """The owner's plan: three requests a month."""
    plan = Plan.objects.create(slug="three", name="Three", monthly_quota=3)
    Account.objects.create(user=owner, plan=plan)
    return plan


@pytest.fixture
def issue(owner: User) -> Callable[..., Any]:
    """Issue a key of the owner's: `key, secret = issue("read", "curate", expires_at=...)`."""

    def issued(*scopes: str, **options: Any) -> Any:
        return keys.issue(user=owner, name="test", scopes=scopes or ["read"], **options)

    return issued


@pytest.fixture
def ask() -> Ask:
    """Ask the API: `ask("galleries/", secret)`, with a `Secret`, an Authorization field, or nothing."""

    def asked(path: str, credentials: Any = None, method: str = "GET", **options: Any) -> HttpResponse:
        client = Client()
        client.handler = HANDLER
        if isinstance(credentials, keys.Secret):
            credentials = f"Api-Key {credentials.reveal()}"
        headers = {"Authorization": credentials} if credentials is not None else {}
        response: HttpResponse = client.generic(method, f"/api/v1/{path}", headers=headers, **options)
        return response

    return asked

"""Where clients obtain JSON Web Tokens, in a deployment that enables them."""

from __future__ import annotations

from django.urls import path

from catalog.accounts.tokens import RefreshView, TokenView

__all__ = ["urlpatterns"]

urlpatterns = [
    path("", TokenView.as_view(), name="token"),
    path("refresh/", RefreshView.as_view(), name="token-refresh"),
]

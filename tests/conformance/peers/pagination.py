"""How the peers page; apart from the views, because REST framework's settings import it while they are imported."""

from __future__ import annotations

from rest_framework.pagination import PageNumberPagination

__all__ = ["Pagination"]


class Pagination(PageNumberPagination):
    page_size_query_param = "page_size"
    max_page_size = 100

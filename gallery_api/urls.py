"""Where everything is mounted."""

urlpatterns: list[object] = []

"""A Django site around the views of docs/recipes.md, with accounts, sessions and its own protection against CSRF."""

import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from examples import example

VIEWS = example("docs/recipes.md", "python", "def chat_token(request)")


@cache
def make_site() -> "Site":
    """One for the process: Django is configured once."""
    return Site(Path(tempfile.mkdtemp(prefix="chatapi-site-")))


class Site:
    def __init__(self, directory: Path) -> None:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="of the tests",
            ROOT_URLCONF="site_urls",
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(directory / "site.db")}},
            INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
            MIDDLEWARE=[
                "django.contrib.sessions.middleware.SessionMiddleware",
                "django.middleware.csrf.CsrfViewMiddleware",
                "django.contrib.auth.middleware.AuthenticationMiddleware",
            ],
            TEMPLATES=[
                {
                    "BACKEND": "django.template.backends.django.DjangoTemplates",
                    "DIRS": [str(directory)],
                    "OPTIONS": {"loaders": ["django.template.loaders.filesystem.Loader"]},  # read again each time
                }
            ],
            PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        )
        django.setup()
        self.template = directory / "chat.html"
        self.views = ModuleType("views")
        exec(VIEWS, vars(self.views))
        self._serve_urls()
        call_command("migrate", verbosity=0)
        from django.contrib.auth.models import User

        self.user = User.objects.create_user("alice", password="secret")
        self.user_id = f"user-{self.user.pk}"
        self.application: Any = get_wsgi_application()

    def _serve_urls(self) -> None:
        from django.contrib.auth import login
        from django.urls import path

        def enter(request: HttpRequest) -> HttpResponse:
            login(request, self.user)
            return HttpResponse('<link rel="icon" href="data:,">logged in')

        urls = ModuleType("site_urls")
        urls.urlpatterns = [  # type: ignore[attr-defined]
            path("enter", enter),
            path("", self.views.chat_page),
            path("chat-token", self.views.chat_token),
        ]
        sys.modules["site_urls"] = urls

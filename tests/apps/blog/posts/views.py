"""What visitors see."""

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from .models import Post


def index(request: HttpRequest) -> HttpResponse:
    newest = Post.objects.order_by("-id")[:20]
    return render(request, "posts/index.html", {"posts": newest, "release": settings.RELEASE})


def health(request: HttpRequest) -> JsonResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok", "database": "ok", "release": settings.RELEASE})


def posts(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"posts": list(Post.objects.values_list("title", flat=True))})

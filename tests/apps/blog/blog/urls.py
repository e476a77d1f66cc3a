"""The pages."""

from django.contrib import admin
from django.urls import path
from posts import views

urlpatterns = [
    path("", views.index),
    path("health", views.health),
    path("posts", views.posts),
    path("admin/", admin.site.urls),
]

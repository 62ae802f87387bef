# djangorestframework
import sys

import django
from django.conf import settings

settings.configure(
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="test",
    INSTALLED_APPS=["rest_framework"],
    REST_FRAMEWORK={"UNAUTHENTICATED_USER": None},
    DATA_UPLOAD_MAX_MEMORY_SIZE=2_000_000,
)
django.setup()

from django.core.wsgi import get_wsgi_application
from django.urls import path
from rest_framework import exceptions, renderers, serializers, views
from rest_framework.response import Response


class Item(serializers.Serializer):
    name = serializers.CharField(max_length=10)
    price = serializers.FloatField()

    def validate(self, data):
        if data["price"] < 0:
            raise serializers.ValidationError("A gift has no price.")
        return data


class Items(views.APIView):
    renderer_classes = [renderers.JSONRenderer]

    def post(self, request):
        item = Item(data=request.data)
        item.is_valid(raise_exception=True)
        return Response(item.data)


class Crash(views.APIView):
    renderer_classes = [renderers.JSONRenderer]

    def get(self, request):
        raise RuntimeError("db-7.internal is down")


class Private(Crash):
    def get(self, request):
        raise exceptions.PermissionDenied()


class Missing(Crash):
    def get(self, request):
        raise exceptions.NotFound()


class Busy(Crash):
    def get(self, request):
        raise exceptions.Throttled(wait=7)


urlpatterns = [
    path("items", Items.as_view()),
    path("crash", Crash.as_view()),
    path("private", Private.as_view()),
    path("missing", Missing.as_view()),
    path("busy", Busy.as_view()),
]

if __name__ == "__main__":
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", int(sys.argv[1]), get_wsgi_application()).serve_forever()

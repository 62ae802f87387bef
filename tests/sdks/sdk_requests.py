"""Sends one request to each endpoint with the SDK from PyPI and prints what the SDK's user gets, one JSON value per line.

python sdk_requests.py ENDPOINT...
"""

import json
import sys

from appwrite.client import Client
from appwrite.exception import AppwriteException
from appwrite.services.locale import Locale

for endpoint in sys.argv[1:]:
    client = Client().set_endpoint(endpoint).set_project("shop")
    try:
        outcome = {"country": Locale(client).get().country}
    except AppwriteException as error:
        outcome = {
            "raised": type(error).__name__,
            "code": error.code,
            "type": error.type,
            "message": error.message,
            "response": error.response,
        }
    except Exception as error:
        outcome = {"foreign": repr(error)}
    print(json.dumps(outcome), flush=True)

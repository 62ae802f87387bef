"""Sends one request to each URL with the library requests and prints what its user gets, one JSON value per line.

python truncated.py [--http1.0] URL...
"""

import http.client
import json
import sys

import requests

urls = sys.argv[1:]
if urls[0] == "--http1.0":
    http.client.HTTPConnection._http_vsn = 10
    http.client.HTTPConnection._http_vsn_str = "HTTP/1.0"
    urls = urls[1:]
for url in urls:
    try:
        response = requests.get(url, timeout=20)
        found = {"status": response.status_code, "body": response.text}
    except requests.exceptions.RequestException as error:
        found = {"failed": type(error).__name__}
    print(json.dumps(found), flush=True)

"""Calls an API through published SDKs from PyPI and prints what their user gets, one JSON value per line.

python api_errors.py SDK CALL...

CALL is `URL` or `URL#N`: with N the SDK may repeat the request up to N times by itself, otherwise never.
"""

import json
import os
import sys


def outcome_of(error, status, message, kind, code):
    return {"raised": type(error).__name__, "status": status, "message": message, "type": kind, "code": code}


def openai(url, retries):
    import openai

    client = openai.OpenAI(base_url=url + "/v1", api_key="test", max_retries=retries, timeout=30)
    try:
        completion = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
        return {"value": completion.choices[0].message.content}
    except openai.APIStatusError as error:
        return outcome_of(error, error.status_code, error.body["message"], error.type, error.code)
    except openai.APIConnectionError as error:
        return {"connection": type(error).__name__}


def anthropic(url, retries):
    import anthropic

    client = anthropic.Anthropic(base_url=url, api_key="test", max_retries=retries, timeout=30)
    try:
        message = client.messages.create(
            model="m", max_tokens=10, messages=[{"role": "user", "content": "hello"}]
        )
        return {"value": message.content[0].text}
    except anthropic.APIStatusError as error:
        body = error.body
        return outcome_of(error, error.status_code, body["error"]["message"], body["error"]["type"], body["type"])
    except anthropic.APIConnectionError as error:
        return {"connection": type(error).__name__}


def stripe(url, retries):
    import stripe

    client = stripe.StripeClient(
        "sk_test_1",
        base_addresses={"api": url},
        max_network_retries=retries,
        http_client=stripe.RequestsClient(timeout=30),
    )
    try:
        intent = client.v1.payment_intents.create({"amount": 2000, "currency": "usd"})
        return {"value": intent.id}
    except stripe.APIConnectionError as error:
        return {"connection": type(error).__name__}
    except stripe.StripeError as error:
        details = error.error
        outcome = outcome_of(error, error.http_status, error.user_message, details.type, details.code)
        if details.decline_code:
            outcome["decline_code"] = details.decline_code
        return outcome


def kubernetes(url, retries):
    import urllib3
    from kubernetes import client

    configuration = client.Configuration(host=url)
    # What the library takes from urllib3: GET is repeated after 429 and 503 with Retry-After.
    configuration.retries = urllib3.Retry(retries, raise_on_status=False) if retries else False
    try:
        with client.ApiClient(configuration) as api:
            pod = client.CoreV1Api(api).read_namespaced_pod("web", "default", _request_timeout=30)
        return {"value": pod.metadata.name}
    except client.ApiException as error:
        status = json.loads(error.body)
        return outcome_of(error, error.status, status["message"], status["reason"], status["kind"])
    except urllib3.exceptions.HTTPError as error:
        return {"connection": type(error).__name__}


def oauth2(url, retries):
    # The gateway of this test has no TLS.
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
    import requests
    from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error
    from requests.adapters import HTTPAdapter
    from requests_oauthlib import OAuth2Session
    from urllib3 import Retry

    session = OAuth2Session(client=BackendApplicationClient(client_id="client"))
    repeat = Retry(retries, allowed_methods=None, raise_on_status=False) if retries else 0
    session.mount("http://", HTTPAdapter(max_retries=repeat))
    try:
        token = session.fetch_token(url + "/token", client_secret="secret", timeout=30)
        return {"value": token["access_token"]}
    except OAuth2Error as error:
        # Its exceptions know no status.
        return outcome_of(error, None, error.description, error.error, None)
    except requests.RequestException as error:
        return {"connection": type(error).__name__}


def google(url, retries):
    import requests
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client("p", credentials=AnonymousCredentials(), client_options={"api_endpoint": url})
    try:
        # Its retries do not read Retry-After.
        return {"value": client.get_bucket("b", retry=None, timeout=30).name}
    except GoogleAPICallError as error:
        # The message begins with the method and the URL.
        message = error.message.partition("prettyPrint=false: ")[2]
        body = error.response.json()["error"]
        return outcome_of(error, error.code, message, body.get("status"), error.reason)
    except requests.RequestException as error:
        return {"connection": type(error).__name__}


def github(url, retries):
    import github
    import requests

    retry = github.GithubRetry(total=retries, secondary_rate_wait=1) if retries else None
    client = github.Github(base_url=url, retry=retry, timeout=30, seconds_between_requests=None)
    try:
        return {"value": client.get_repo("o/r").full_name}
    except github.GithubException as error:
        return outcome_of(error, error.status, error.data["message"], error.data["documentation_url"], error.data.get("status"))
    except requests.RequestException as error:
        return {"connection": type(error).__name__}


SDKS = {
    "anthropic": anthropic,
    "github": github,
    "google": google,
    "kubernetes": kubernetes,
    "oauth2": oauth2,
    "openai": openai,
    "stripe": stripe,
}

# This file's directory has scripts with the names of libraries.
sys.path.pop(0)
call = SDKS[sys.argv[1]]
for argument in sys.argv[2:]:
    url, _, retries = argument.partition("#")
    try:
        outcome = call(url, int(retries or 0))
    except Exception as error:
        outcome = {"foreign": repr(error)}
    print(json.dumps(outcome), flush=True)

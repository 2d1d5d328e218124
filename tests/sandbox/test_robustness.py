"""Random requests to the sandbox: it never fails itself."""

from __future__ import annotations

import http.client
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp.http_exceptions import HttpProcessingError
from anyio.from_thread import start_blocking_portal
from hypothesis import given, strategies as st

from wxtcb.sandbox import Sandbox
from wxtcb.sandbox.admin import ADMIN_ROUTES
from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS, FieldSchema, JsonType, ObjectSchema

Request = tuple[str, str, dict[str, str], bytes]

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
# Strings that some handler treats in a special way.
STATEMENTS = ["db.collection('people').where({_id: 'a'}).get()", "db.collection('people').add({data: [{}]})"]
WORDS = ["env", "a", "people", "wx0000000000000001", "../x", "cloud://x/y", "[]", "{}", "0", "1e999", "zip", "UEsDBA=="]
STRINGS = st.text(max_size=20) | st.sampled_from([*WORDS, *STATEMENTS, "http://127.0.0.1:1/", "\ud800"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
# Strings that some handler treats in a special way.
STRINGS = st.text(max_size=20) | st.sampled_from(
    [
        "env",
        "a",
        "people",
        "wx0000000000000001",
        "../x",
        "cloud://x/y",
        "[]",
        "{}",
        "http://127.0.0.1:1/",
        "0",
        "1e999",
        "db.collection('people').where({_id: 'a'}).get()",
        "db.collection('people').add({data: [{}]})",
        "zip",
        "UEsDBA==",
    ]
)
VALUES = {
    JsonType.STRING: STRINGS,
    JsonType.INTEGER: st.integers(-2, 3) | st.integers(),
    JsonType.NUMBER: st.floats(allow_nan=False, allow_infinity=False),
    JsonType.BOOLEAN: st.booleans(),
}
ADMIN_NAMES = ["url", "every", "repeated", "late", "env", "appid", "seconds", "polls", "builds_fail", "release_fails"]
ADMIN_NAMES += ["name", "result", "fails", "kind", "path", "times", "status", "envs", "newest"]


def bodies(schema: ObjectSchema) -> st.SearchStrategy[dict[str, Any]]:
    """Generate bodies that the facts allow."""
    required = {field.name: values(field) for field in schema.required}
    optional = {name: values(field) for name, field in schema.fields.items() if not field.required}
    return st.fixed_dictionaries(required, optional=optional)


def values(field: FieldSchema) -> st.SearchStrategy[Any]:
    """Generate values that a field may have."""
    one = bodies(field.object_schema) if field.object_schema else VALUES[field.json_type]
    return st.lists(one, max_size=3) if field.is_array else one


@st.composite
def calls(draw: st.DrawFn) -> Request:
    """Generate calls that the validator accepts, mostly."""
    schema = ENDPOINT_SCHEMAS[draw(st.sampled_from(sorted(ENDPOINT_SCHEMAS)))]
    action = draw(st.sampled_from(sorted(schema.body_schemas, key=str)))
    body = draw(bodies(schema.body_schemas[action])) | ({} if action is None else {"action": action})
    query = "&".join(f"{name}=env" for name in schema.query_schema.fields if name != "action")
    return "POST", f"{schema.path}?access_token={{token}}&{query}".rstrip("&"), {}, json.dumps(body).encode()


@st.composite
def admin_requests(draw: st.DrawFn) -> Request:
    """Generate requests to the admin API, whose bodies have the right names, mostly."""
    method, path = draw(st.sampled_from(ADMIN_ROUTES))
    options = draw(st.dictionaries(st.sampled_from(ADMIN_NAMES), JSON_VALUES | STRINGS, max_size=4))
    body = draw(st.sampled_from([b""]) | st.binary(max_size=20) | st.sampled_from([json.dumps(options).encode()] * 3))
    if path.endswith("/faults"):
        body = json.dumps([{"kind": "busy", **options}]).encode()
    return method, path, {"Content-Type": "application/json"}, body


def odd_requests() -> st.SearchStrategy[Request]:
    """Generate requests of any method, path, header and body."""
    paths = st.sampled_from(
        [
            *ENDPOINT_SCHEMAS,
            *(path for _, path in ADMIN_ROUTES),
            "/_cos/post",
            "/_cos/put",
            "/_cos/get",
            "/_cos/",
            "/",
            "*",
        ]
    )
    tails = st.text("abc/?&=%#.0~_-+[]{}", max_size=20)
    headers = st.dictionaries(
        st.sampled_from(["Content-Type", "Origin", "Range", "Content-Encoding", "Authorization", "x-cos-meta-fileid"]),
        st.text("abc/:;=,-.*0123456789", max_size=20) | st.sampled_from(["application/json", "multipart/form-data"]),
        max_size=3,
    )
    methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "X"])
    return st.tuples(
        methods,
        st.builds(lambda path, tail: path + tail, paths, tails),
        headers,
        st.binary(max_size=50) | JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    )


@pytest.fixture(scope="module")
def send() -> Iterator[Callable[[Request], int]]:
    """Serve a sandbox with some content, and return a function that sends a request and returns the status."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Sandbox()) as sandbox:
        sandbox.world.add("env", env="env")
        sandbox.world.databases.add_collection("env", "people")

        def send(request: Request) -> int:
            method, path, headers, body = request
            # Faults of the admin API delay and drop responses, and pushes would go out.
            sandbox.faults.clear()
            sandbox.world.credentials.push_enabled = False
            token = sandbox.world.credentials.token or sandbox.world.issue_token()
            connection = http.client.HTTPConnection(sandbox.host, sandbox.port, timeout=60)
            try:
                connection.request(method, path.replace("{token}", token), body, headers)
                response = connection.getresponse()
                response.read()
                return response.status
            finally:
                connection.close()

        yield send


@pytest.mark.parametrize("requests", [calls(), admin_requests(), odd_requests()], ids=["calls", "admin", "odd"])
def test_sandbox_never_fails_itself(
    send: Callable[[Request], int], requests: st.SearchStrategy[Request], caplog: pytest.LogCaptureFixture
) -> None:
    """No request gets a 500, and none leaves an exception in the log."""

    @given(requests)
    def check(request: Request) -> None:
        assert send(request) < 500, request
        # aiohttp itself logs the requests that are no HTTP, and answers them with 400.
        errors = [record.exc_info for record in caplog.records if record.levelno >= logging.ERROR]
        assert all(error and isinstance(error[1], HttpProcessingError) for error in errors), request
        caplog.clear()

    check()

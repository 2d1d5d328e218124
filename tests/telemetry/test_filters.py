"""Filters: they redact what OpenTelemetry's and Sentry's instrumentations record.

Each has a control that shows the token without the filter.
"""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import aiohttp
import pytest
import sentry_sdk
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.integrations.aiohttp import AioHttpIntegration
from sentry_sdk.transport import Transport
from yarl import URL

import wxtcb
from wxtcb import errors
from wxtcb.api import environment
from wxtcb.sandbox import Sandbox
from wxtcb.telemetry import OpenTelemetryHook, sentry_filter, url_filter

DOCS = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text(encoding="utf-8")
NAMES = re.findall(r"`(\w+)`", DOCS[DOCS.index("the values of all names") :].partition(", in lower")[0])
SECRET = "s3cr3t-v4lue_0123456789"
TOKENS = [
    f"POST https://api.weixin.qq.com/a?access_token={SECRET}",
    f"access_token={SECRET}&x=1",
    f"next=https%3A%2F%2Fb%3Faccess_token%3D{SECRET}",
    f"{{'component_access_token': '{SECRET}', 'expires_in': 7200}}",
    f'{{"component_appsecret": "{SECRET}"}}',
    f'"{{\\"component_verify_ticket\\":\\"{SECRET}\\"}}"',
    f"Server(password='{SECRET}')",
    f"EncodingAESKey = {SECRET}",
    f"got ticket@@@{SECRET} at last",
]


@contextlib.asynccontextmanager
async def instrumented_session(sandbox, **options):
    """Open a session on an aiohttp session of the caller, which the instrumentations see."""
    async with (
        aiohttp.ClientSession() as http,
        wxtcb.Session(
            component_appid=sandbox.component_appid,
            component_appsecret=sandbox.component_appsecret,
            ticket=sandbox.ticket,
            base_url=sandbox.url,
            http=http,
            **options,
        ) as session,
    ):
        yield session


@contextlib.contextmanager
def instrumented(**options):
    """Instrument aiohttp and return the tracer provider and the recorded spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    AioHttpClientInstrumentor().instrument(tracer_provider=provider, **options)
    try:
        yield provider, exporter
    finally:
        AioHttpClientInstrumentor().uninstrument()
        provider.shutdown()


def token_of(sandbox):
    return sandbox.world.credentials.token


async def spans_of_a_call(sandbox, **options):
    """Make a successful call and one that is disconnected, and return all spans as JSON."""
    with instrumented(**options) as (provider, exporter):
        hook = OpenTelemetryHook(tracer_provider=provider)
        async with instrumented_session(sandbox, hooks=[hook], retry=wxtcb.RetryPolicy(attempts=1)) as session:
            await environment.describe_envs(session)
            sandbox.faults.drop_after(path="/componenttcb/describeenvs", times=1)
            with pytest.raises(errors.TransportError):
                await environment.describe_envs(session)
        return exporter.get_finished_spans()


async def test_opentelemetry_records_the_token_without_the_filter():
    """As a control, the instrumentation records the whole URL."""
    async with Sandbox() as sandbox:
        spans = await spans_of_a_call(sandbox)
        assert token_of(sandbox) in "".join(span.to_json() for span in spans)


async def test_opentelemetry_records_no_token_with_the_filter():
    """The URL is recorded without the token, for successful and failed calls."""
    async with Sandbox() as sandbox:
        spans = await spans_of_a_call(sandbox, url_filter=url_filter)
        everything = "".join(span.to_json() for span in spans)
        assert "/componenttcb/describeenvs?access_token=***" in everything
        assert token_of(sandbox) not in everything


async def test_spans_of_the_instrumentation_are_children_of_the_call():
    """The span of each attempt is a child of the span of the call."""
    async with Sandbox() as sandbox:
        spans = await spans_of_a_call(sandbox, url_filter=url_filter)
    calls = [span for span in spans if span.name == "/componenttcb/describeenvs"]
    posts = [span for span in spans if span.name == "POST" and span.parent is not None]
    assert len(calls) == 2
    assert {span.parent.span_id for span in posts} == {span.context.span_id for span in calls}


class RecordingTransport(Transport):
    """Sentry transport that records what would be sent."""

    def __init__(self, options=None):
        super().__init__(options)
        self.sent = []

    def capture_envelope(self, envelope):
        self.sent += [item.payload.json for item in envelope.items if item.payload.json]


@pytest.fixture
def sentry():
    """Return a function that starts Sentry with options and returns the transport."""
    transport = RecordingTransport()

    def start(**options):
        sentry_sdk.init(
            dsn="https://key@sentry.invalid/1",
            transport=transport,
            traces_sample_rate=1.0,
            default_integrations=False,
            integrations=[AioHttpIntegration()],
            **options,
        )
        return transport

    with sentry_sdk.isolation_scope():
        yield start
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


FILTERS = {
    "before_send": sentry_filter,
    "before_send_transaction": sentry_filter,
    "before_breadcrumb": sentry_filter,
}


def fail_with_secret(component_appsecret, url):
    """Fail with a secret and a URL in local variables, and capture the exception."""
    try:
        int(url)
    except ValueError as error:
        sentry_sdk.capture_exception(error)


async def careless_backend(sandbox):
    """Make a call in a transaction, leave a breadcrumb, and fail."""
    with sentry_sdk.start_transaction(name="request"):
        async with instrumented_session(sandbox) as session:
            await environment.describe_envs(session)
            text = f"GET {sandbox.url}/any?component_access_token={token_of(sandbox)}"
            sentry_sdk.add_breadcrumb(category="note", message=text, data={"ticket": sandbox.ticket})
            fail_with_secret(sandbox.component_appsecret, text)


def secrets_sent(sandbox, transport):
    """Return which secrets were sent, and the types of the items."""
    text = json.dumps(transport.sent)
    secrets = {"token": token_of(sandbox), "secret": sandbox.component_appsecret, "ticket": sandbox.ticket}
    kinds = {each.get("type", "event") for each in transport.sent}
    return {name for name, secret in secrets.items() if secret in text}, kinds


async def test_sentry_records_the_secrets_without_the_filter(sentry):
    """As a control, query strings, breadcrumbs and local variables contain all of them."""
    transport = sentry()
    async with Sandbox() as sandbox:
        await careless_backend(sandbox)
        assert secrets_sent(sandbox, transport) == ({"token", "secret", "ticket"}, {"event", "transaction"})


async def test_sentry_records_no_secret_with_the_filter(sentry):
    """Event and transaction are sent without the secrets."""
    transport = sentry(**FILTERS)
    async with Sandbox() as sandbox:
        await careless_backend(sandbox)
        assert secrets_sent(sandbox, transport) == (set(), {"event", "transaction"})
    assert "/componenttcb/describeenvs" in json.dumps(transport.sent)


@pytest.mark.parametrize("name", ["before_send", "before_send_transaction"])
async def test_events_and_transactions_each_need_the_filter(sentry, name):
    """Either one without the filter contains the token."""
    transport = sentry(**{**FILTERS, name: None})
    async with Sandbox() as sandbox:
        await careless_backend(sandbox)
        assert secrets_sent(sandbox, transport)[0] >= {"token"}


@pytest.mark.filterwarnings("ignore:The send_default_pii option")  # without it Sentry streams no query
@pytest.mark.parametrize(("options", "shown"), [({}, True), ({"before_send_span": sentry_filter}, False)])
async def test_sentry_streams_spans_without_the_token(sentry, options, shown):
    """Streamed spans need the filter as `before_send_span`; without it they contain the token."""
    transport = sentry(trace_lifecycle="stream", send_default_pii=True, **options)
    async with Sandbox() as sandbox:
        with sentry_sdk.traces.start_span(name="request"):
            async with instrumented_session(sandbox) as session:
                await environment.describe_envs(session)
        sentry_sdk.flush()
        text = json.dumps(transport.sent)
        assert "/componenttcb/describeenvs" in text
        assert (token_of(sandbox) in text) is shown


async def test_breadcrumb_is_recorded_without_the_token(sentry):
    """`before_breadcrumb` redacts it when the request is made."""
    crumbs = []

    def record(crumb, hint):
        crumbs.append(crumb)
        return sentry_filter(crumb, hint)

    sentry(before_breadcrumb=record)
    async with Sandbox() as sandbox, instrumented_session(sandbox) as session:
        await environment.describe_envs(session)
        assert token_of(sandbox) in repr(crumbs)
        assert token_of(sandbox) not in repr(sentry_sdk.get_isolation_scope()._breadcrumbs)


async def test_frames_of_wxtcb_hold_no_secret_without_the_filter(sentry):
    """Sentry captures the local variables of the whole stack during a retry."""
    transport = sentry(attach_stacktrace=True, max_value_length=100_000)
    async with Sandbox() as sandbox:
        sandbox.faults.busy(path="/componenttcb/describeenvs", times=1)

        def capture(event):
            sentry_sdk.capture_message(type(event).__name__)

        async with instrumented_session(sandbox, hooks=[capture]) as session:
            await environment.describe_envs(session)
        frames = [
            frame
            for event in transport.sent
            for thread in event.get("threads", {"values": []})["values"]
            for frame in thread["stacktrace"]["frames"]
            if frame["module"].startswith("wxtcb.")
        ]
        assert {"wxtcb._http.executor", "wxtcb.tokens.cache"} <= {frame["module"] for frame in frames}
        shown = json.dumps(frames)
        assert not [
            secret for secret in (token_of(sandbox), sandbox.component_appsecret, sandbox.ticket) if secret in shown
        ]


@pytest.mark.parametrize("text", TOKENS)
def test_secret_in_a_string_is_redacted(text):
    """In URLs, JSON and reprs the value is replaced, and its surroundings stay."""
    hidden = sentry_filter(text, {})
    assert hidden == text.replace(f"ticket@@@{SECRET}", "***").replace(SECRET, "***")
    assert SECRET not in hidden


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (r"Server(password='a, b) \'c\' & \"d\"', id=1)", "Server(password='***', id=1)"),
        ("{'password': 'cut off, her", "{'password': '***"),
        (r'"{\"password\": \"a, b\", \"id\": 1}"', r'"{\"password\": \"***\", \"id\": 1}"'),
        ("token=''", "token='***'"),
    ],
)
def test_quoted_secret_is_redacted_as_a_whole(text, hidden):
    """It ends at its quote or at the end of the string, not at commas, brackets or spaces."""
    assert sentry_filter(text, {}) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "token 8 fetched in 0.25 s, because the platform rejected the previous one; it expires in 7200 s",
        "https://api.weixin.qq.com/componenttcb/createenv?action=query",
        "no token",
        "tokenizer=5",
    ],
)
def test_string_without_a_secret_is_unchanged(text):
    """Nothing else is redacted."""
    assert sentry_filter(text, {}) == text


def test_value_is_redacted_by_its_name():
    """Values of all types are redacted, except None."""
    event = {"vars": {"access_token": SECRET, "AppSecret": {"a": SECRET}, "ticket": None, "env": "e-1"}}
    assert sentry_filter(event, {}) == {
        "vars": {"access_token": "***", "AppSecret": "***", "ticket": None, "env": "e-1"}
    }


def test_lists_and_bytes_are_filtered():
    """Bytes become strings; numbers and other names are unchanged."""
    body = f"access_token={SECRET}".encode()
    assert sentry_filter({1: [body, (body, 5)]}, {}) == {1: ["access_token=***", ["access_token=***", 5]]}


def test_recursive_value_is_cut_off():
    """A value that contains itself is followed to a limited depth."""
    endless = {}
    endless["inner"] = endless
    assert repr(sentry_filter(endless, {})).count("inner") == 32


def test_url_filter_removes_user_and_password():
    """Credentials before the host are removed."""
    assert url_filter(URL("https://user:pass@a.example/b?access_token=c&d=e")) == (
        "https://a.example/b?access_token=***&d=e"
    )


@pytest.mark.parametrize("mark", [",", ";", ")", "'", "<", '"', "]", "}", "/", "?", ":", "=", " ", "+", "%26"])
def test_value_in_a_url_ends_at_the_next_parameter(mark):
    """Other punctuation does not end it."""
    url = URL(f"https://a.example/b?access_token=a{mark}{SECRET}&d=e#f", encoded=mark == "%26")
    assert url_filter(url) == "https://a.example/b?access_token=***&d=e#f"


def test_value_in_a_fragment_is_redacted():
    """Some applications put tokens there."""
    assert url_filter(URL(f"https://a.example/b#access_token={SECRET}")) == "https://a.example/b#access_token=***"


@pytest.mark.parametrize("text", ["GET https://b.example/?x=1&access_token=a{},{}&y", "access_token=a;{},{}&y=2"])
def test_value_in_a_query_within_a_string_is_redacted_as_a_whole(text):
    """Commas and brackets do not end it."""
    hidden = sentry_filter(text.format(")", SECRET), {})
    assert hidden == text.replace("a{},{}", "***").replace("a;{},{}", "***")


def test_authorization_with_a_scheme_is_redacted():
    """The scheme is redacted as well."""
    text = f"Authorization: Bearer {SECRET} and more"
    assert sentry_filter(text, {}) == "Authorization: *** and more"


@pytest.mark.parametrize("name", NAMES)
def test_every_documented_name_is_redacted(name):
    """This holds in URLs, strings and names, in upper case, and at the end of a longer name."""
    for each in (name, name.upper(), f"component_{name}"):
        assert url_filter(URL(f"https://a.example/?{each}={SECRET}")) == f"https://a.example/?{each}=***"
        assert sentry_filter(f"with {each}: {SECRET}", {}) == f"with {each}: ***"
        assert sentry_filter({each: [SECRET]}, {}) == {each: "***"}


@pytest.mark.parametrize("encoded", ["%3D", "%253D", "%25253d"])
def test_encoded_equals_sign_is_recognised(encoded):
    """A nested URL contains the token in encoded form."""
    text = f"next=b%3Faccess_token{encoded}{SECRET}"
    assert sentry_filter(text, {}) == f"next=b%3Faccess_token{encoded}***"
    assert url_filter(URL(f"https://a.example/?{text}", encoded=True)).endswith(f"access_token{encoded}***")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("https://h/a?sign=q-sign-algorithm%3Dsha1%26q-signature%3Dabc&x=1", "https://h/a?sign=***&x=1"),
        ("https://h/a?x=1&sign=abc&t=1600", "https://h/a?x=1&sign=***&t=1600"),
        ("https://h/a?q-sign-algorithm=sha1&q-signature=abc", "https://h/a?q-sign-algorithm=sha1&q-signature=***"),
        ("https://h/a?design=abc", "https://h/a?design=abc"),
    ],
)
def test_signature_of_a_link_is_redacted(text, hidden):
    """Links to object storage are signed in their query."""
    assert url_filter(URL(text, encoded=True)) == hidden
    assert sentry_filter({"url": text}, {}) == {"url": hidden}


def test_url_filter_leaves_other_urls_unchanged():
    """The filter applies to all requests of a process."""
    url = URL("https://a.example/b?c=d%20e#f")
    assert url_filter(url) == str(url)


def test_value_of_a_secret_in_use_is_redacted_under_any_name():
    """No spelling of a name matters: the value itself is known, whole, cut off, or as a key."""
    secret = wxtcb.Secret("Zq7-odd-value_8205917346-wmxvkrtznbqyhclp")
    value = secret.reveal()
    event = {"x": f"got {value}!", "y": [value[:20]], value: 1, "z": value[5:40].encode()}
    assert sentry_filter(event, {}) == {"x": "got ***!", "y": ["***"], "***": 1, "z": "***"}
    del secret
    assert sentry_filter(f"got {value}!", {}) == f"got {value}!"


def test_short_secret_in_use_is_not_searched():
    """An environment variable "production" must not change every event."""
    secret = wxtcb.Secret("production")
    assert sentry_filter({"environment": secret.reveal()}, {}) == {"environment": "production"}


def test_redactor_is_built_once_for_the_same_secrets(monkeypatch):
    """An application with many secrets does not pay for them with each event."""
    secrets = [wxtcb.Secret(f"secret-number-{number:04}") for number in range(100)]
    sentry_filter("x", {})
    built = []
    monkeypatch.setattr("wxtcb.telemetry.filters.Redactor", lambda *_, **__: built.append(1))
    sentry_filter({"a": ["x"] * 10}, {})
    assert not built
    assert len(secrets) == 100


@pytest.mark.parametrize(
    "name",
    [
        "WXTCB_TOKEN_STORE",
        "WXTCB_TOKEN_STORE_KEY",
        "fernet_key",
        "AuthorizationCode",
        "PreAuthCode",
        "passwd",
        "credentials",
        "Set-Cookie",
        "environment_variables",
    ],
)
def test_value_of_a_common_name_is_redacted(name):
    """As a key of any kind, in an assignment, and in JSON."""
    assert sentry_filter({name: SECRET, name.encode(): SECRET}, {}) == {name: "***"}
    assert sentry_filter(f"{name}={SECRET} x", {}) == f"{name}=*** x"
    assert sentry_filter(json.dumps({name: SECRET}), {}) == json.dumps({name: "***"})


@pytest.mark.parametrize(
    "value",
    [
        {"errcode": 40001, "status_code": 200, "retry_code": True},
        '{"errcode": 40001, "errmsg": "no"}',
        "errcode=40001&x=1",
        "error code: InvalidKey",
        "token store: the connection was lost",
    ],
    ids=repr,
)
def test_number_or_prose_behind_a_common_name_is_kept(value):
    """An errcode is needed to understand an event, and a sentence must remain readable."""
    assert sentry_filter(value, {}) == value


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("redis://:s3cret-pw@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://user:p@ss@host/0 down", "rediss://user:***@host/0 down"),
        ("http://bob:s3cret-pw@proxy:3128", "http://bob:***@proxy:3128"),
        ("https://host:8080/a@b", "https://host:8080/a@b"),
        ("https://host:8080?a=b@c", "https://host:8080?a=b@c"),
    ],
)
def test_password_in_a_url_is_redacted(text, hidden):
    """One rule covers stores, proxies and databases; a port and a path are no password."""
    assert sentry_filter(text, {}) == hidden


@pytest.mark.parametrize("value", [SECRET, f"<![CDATA[{SECRET}]]>", f"\n<![CDATA[{SECRET}]]>\n"], ids=repr)
@pytest.mark.parametrize("name", ["ComponentVerifyTicket", "AuthorizationCode", "PreAuthCode"])
def test_xml_of_a_push_is_redacted(name, value):
    """WeChat pushes credentials as XML."""
    hidden = sentry_filter(f"<xml><{name}>{value}</{name}><CreateTime>5</CreateTime></xml>", {})
    assert SECRET not in hidden
    assert "<CreateTime>5</CreateTime>" in hidden


@pytest.mark.parametrize("value", [f"<![CDATA[{SECRET}", f"<![CDATA[{SECRET}]]>"], ids=["in CDATA", "behind CDATA"])
def test_xml_that_is_cut_off_is_redacted(value):
    """A tool may cut a body, also in the middle of an element."""
    assert SECRET not in sentry_filter(f"<xml><ComponentVerifyTicket>{value}", {})


def test_value_between_escaped_quotes_ends_at_the_same_quote():
    """A quote that is escaped once more is part of the value."""
    text = json.dumps({"body": json.dumps({"token": f'a"{SECRET}', "b": 1})})
    assert sentry_filter(text, {}) == json.dumps({"body": json.dumps({"token": "***", "b": 1})})


@pytest.mark.parametrize(
    "text",
    [
        "<token>" + "a" * 1_000_000,
        "<token>" + "ab " * 330_000,
        "<token><![CDATA[" * 60_000,
        "<token><![CDATA[" * 60_000 + "]]><x",
        "token=" + "\\" * 500_000 + '"' + "\\" * 500_000,
    ],
    ids=["element", "words", "CDATA", "late end of CDATA", "backslashes"],
)
def test_time_is_linear_in_the_length_of_a_string(text):
    """A quadratic search would take minutes."""
    assert "***" in sentry_filter(f"{text} token=x", {})


@pytest.mark.parametrize("kind", [set, frozenset, tuple, list])
def test_every_kind_of_collection_is_filtered(kind):
    """Sets become lists."""
    assert sentry_filter(kind([f"access_token={SECRET}"]), {}) == ["access_token=***"]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_bytes_is_filtered(kind):
    """They become strings."""
    assert sentry_filter({"body": kind(f"access_token={SECRET}".encode())}, {}) == {"body": "access_token=***"}

"""The filters hide what OpenTelemetry's and Sentry's instrumentations would otherwise record.

Each is shown with its control: without the filter the token is there.
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
async def instrumented_session(box, **options):
    """Open a session on an aiohttp session of the caller's, which is what instrumentations see."""
    async with (
        aiohttp.ClientSession() as http,
        wxtcb.Session(
            component_appid=box.component_appid,
            component_appsecret=box.component_appsecret,
            ticket=box.ticket,
            base_url=box.url,
            http=http,
            **options,
        ) as session,
    ):
        yield session


@contextlib.contextmanager
def instrumented(**options):
    """Instrument aiohttp, and give the tracer provider and the spans that are kept."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    AioHttpClientInstrumentor().instrument(tracer_provider=provider, **options)
    try:
        yield provider, exporter
    finally:
        AioHttpClientInstrumentor().uninstrument()
        provider.shutdown()


def token_of(box):
    return box.world.credentials._token


async def spans_of_a_call(box, **options):
    """Make a call that works and one that loses its connection; return all spans as JSON."""
    with instrumented(**options) as (provider, exporter):
        hook = OpenTelemetryHook(tracer_provider=provider)
        async with instrumented_session(box, hooks=[hook], retry=wxtcb.RetryPolicy(attempts=1)) as session:
            await environment.describe_envs(session)
            box.faults.drop_after(path="/componenttcb/describeenvs", times=1)
            with pytest.raises(errors.TransportError):
                await environment.describe_envs(session)
        return exporter.get_finished_spans()


async def test_opentelemetry_records_the_token_without_the_filter():
    """The control: the instrumentation writes the whole URL on its span."""
    async with Sandbox() as box:
        spans = await spans_of_a_call(box)
        assert token_of(box) in "".join(span.to_json() for span in spans)


async def test_opentelemetry_records_no_token_with_the_filter():
    """The URL stands there without the token, good and bad calls alike."""
    async with Sandbox() as box:
        spans = await spans_of_a_call(box, url_filter=url_filter)
        everything = "".join(span.to_json() for span in spans)
        assert "/componenttcb/describeenvs?access_token=***" in everything
        assert token_of(box) not in everything


async def test_spans_of_the_instrumentation_are_children_of_the_call():
    """Each attempt of a call is a span beneath that of the call."""
    async with Sandbox() as box:
        spans = await spans_of_a_call(box, url_filter=url_filter)
    calls = [span for span in spans if span.name == "/componenttcb/describeenvs"]
    posts = [span for span in spans if span.name == "POST" and span.parent is not None]
    assert len(calls) == 2
    assert {span.parent.span_id for span in posts} == {span.context.span_id for span in calls}


class Kept(Transport):
    """A Sentry transport that keeps what would be sent."""

    def __init__(self, options=None):
        super().__init__(options)
        self.sent = []

    def capture_envelope(self, envelope):
        self.sent += [item.payload.json for item in envelope.items if item.payload.json]


@pytest.fixture
def sentry():
    """Give a function that starts Sentry with options, and returns the transport."""
    kept = Kept()

    def start(**options):
        sentry_sdk.init(
            dsn="https://key@sentry.invalid/1",
            transport=kept,
            traces_sample_rate=1.0,
            default_integrations=False,
            integrations=[AioHttpIntegration()],
            **options,
        )
        return kept

    with sentry_sdk.isolation_scope():
        yield start
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


FILTERS = {
    "before_send": sentry_filter,
    "before_send_transaction": sentry_filter,
    "before_breadcrumb": sentry_filter,
}


def fail(component_appsecret, url):
    """Fail with a secret and a URL in local variables, and have it captured."""
    try:
        int(url)
    except ValueError as error:
        sentry_sdk.capture_exception(error)


async def careless_backend(box):
    """Call within a transaction, leave a breadcrumb, and fail."""
    with sentry_sdk.start_transaction(name="request"):
        async with instrumented_session(box) as session:
            await environment.describe_envs(session)
            text = f"GET {box.url}/any?component_access_token={token_of(box)}"
            sentry_sdk.add_breadcrumb(category="note", message=text, data={"ticket": box.ticket})
            fail(box.component_appsecret, text)


def in_what_was_sent(box, kept):
    """Return which of the secrets are in what was sent, and the types of the items."""
    text = json.dumps(kept.sent)
    secrets = {"token": token_of(box), "secret": box.component_appsecret, "ticket": box.ticket}
    kinds = {each.get("type", "event") for each in kept.sent}
    return {name for name, secret in secrets.items() if secret in text}, kinds


async def test_sentry_records_the_secrets_without_the_filter(sentry):
    """The control: query strings, breadcrumbs and local variables bring them all."""
    kept = sentry()
    async with Sandbox() as box:
        await careless_backend(box)
        assert in_what_was_sent(box, kept) == ({"token", "secret", "ticket"}, {"event", "transaction"})


async def test_sentry_records_no_secret_with_the_filter(sentry):
    """Event and transaction arrive without them, and with everything else."""
    kept = sentry(**FILTERS)
    async with Sandbox() as box:
        await careless_backend(box)
        assert in_what_was_sent(box, kept) == (set(), {"event", "transaction"})
    assert "/componenttcb/describeenvs" in json.dumps(kept.sent)


@pytest.mark.parametrize("name", ["before_send", "before_send_transaction"])
async def test_events_and_transactions_each_need_the_filter(sentry, name):
    """Without it in one of them that one lets the token through."""
    kept = sentry(**{**FILTERS, name: None})
    async with Sandbox() as box:
        await careless_backend(box)
        assert in_what_was_sent(box, kept)[0] >= {"token"}


@pytest.mark.filterwarnings("ignore:The send_default_pii option")  # without it Sentry streams no query
@pytest.mark.parametrize(("options", "shown"), [({}, True), ({"before_send_span": sentry_filter}, False)])
async def test_sentry_streams_spans_without_the_token(sentry, options, shown):
    """Where spans are streamed, `before_send_span` takes the filter; without it, the control, the token is there."""
    kept = sentry(trace_lifecycle="stream", send_default_pii=True, **options)
    async with Sandbox() as box:
        with sentry_sdk.traces.start_span(name="request"):
            async with instrumented_session(box) as session:
                await environment.describe_envs(session)
        sentry_sdk.flush()
        text = json.dumps(kept.sent)
        assert "/componenttcb/describeenvs" in text
        assert (token_of(box) in text) is shown


async def test_a_breadcrumb_is_kept_without_the_token(sentry):
    """`before_breadcrumb` hides it as soon as the request is made."""
    crumbs = []

    def keep(crumb, hint):
        crumbs.append(crumb)
        return sentry_filter(crumb, hint)

    sentry(before_breadcrumb=keep)
    async with Sandbox() as box, instrumented_session(box) as session:
        await environment.describe_envs(session)
        assert token_of(box) in repr(crumbs)
        assert token_of(box) not in repr(sentry_sdk.get_isolation_scope()._breadcrumbs)


async def test_frames_of_the_library_hold_no_secret_even_without_the_filter(sentry):
    """A retry that Sentry captures with the local variables of the whole stack shows none in a frame of wxtcb."""
    kept = sentry(attach_stacktrace=True, max_value_length=100_000)
    async with Sandbox() as box:
        box.faults.busy(path="/componenttcb/describeenvs", times=1)

        def capture(event):
            sentry_sdk.capture_message(type(event).__name__)

        async with instrumented_session(box, hooks=[capture]) as session:
            await environment.describe_envs(session)
        frames = [
            frame
            for event in kept.sent
            for thread in event.get("threads", {"values": []})["values"]
            for frame in thread["stacktrace"]["frames"]
            if frame["module"].startswith("wxtcb.")
        ]
        assert {"wxtcb._http.executor", "wxtcb.tokens.cache"} <= {frame["module"] for frame in frames}
        shown = json.dumps(frames)
        assert not [secret for secret in (token_of(box), box.component_appsecret, box.ticket) if secret in shown]


@pytest.mark.parametrize("text", TOKENS)
def test_a_secret_is_hidden_in_any_text(text):
    """In URLs, in JSON, in reprs: the value goes, what stands around it stays."""
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
def test_a_secret_in_quotes_is_hidden_whole(text, hidden):
    """Commas, brackets and spaces do not end it, only its quote, or the end of the text."""
    assert sentry_filter(text, {}) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "token 8 fetched (advisory) in 0.25 s",
        "https://api.weixin.qq.com/componenttcb/createenv?action=query",
        "no token",
        "tokenizer=5",
    ],
)
def test_a_text_without_a_secret_stays_as_it_is(text):
    """Nothing else is touched."""
    assert sentry_filter(text, {}) == text


def test_a_value_is_hidden_by_its_name():
    """Whatever its type; None, which hides nothing, stays."""
    event = {"vars": {"access_token": SECRET, "AppSecret": {"a": SECRET}, "ticket": None, "env": "e-1"}}
    assert sentry_filter(event, {}) == {
        "vars": {"access_token": "***", "AppSecret": "***", "ticket": None, "env": "e-1"}
    }


def test_lists_and_bytes_are_looked_into():
    """Bytes become text; numbers and names that are no text stay."""
    body = f"access_token={SECRET}".encode()
    assert sentry_filter({1: [body, (body, 5)]}, {}) == {1: ["access_token=***", ["access_token=***", 5]]}


def test_what_has_no_end_is_cut_off():
    """A value that contains itself is followed for a while only."""
    endless = {}
    endless["inner"] = endless
    assert repr(sentry_filter(endless, {})).count("inner") == 32


def test_the_url_filter_takes_out_credentials_of_the_host():
    """A user and a password before the host are no one's business either."""
    assert url_filter(URL("https://user:pass@a.example/b?access_token=c&d=e")) == (
        "https://a.example/b?access_token=***&d=e"
    )


@pytest.mark.parametrize("mark", [",", ";", ")", "'", "<", '"', "]", "}", "/", "?", ":", "=", " ", "+", "%26"])
def test_a_value_in_a_url_ends_at_the_next_one_only(mark):
    """No other mark ends it, so nothing of it stays."""
    url = URL(f"https://a.example/b?access_token=a{mark}{SECRET}&d=e#f", encoded=mark == "%26")
    assert url_filter(url) == "https://a.example/b?access_token=***&d=e#f"


def test_a_value_in_a_fragment_is_hidden():
    """Some put their token there."""
    assert url_filter(URL(f"https://a.example/b#access_token={SECRET}")) == "https://a.example/b#access_token=***"


@pytest.mark.parametrize("text", ["GET https://b.example/?x=1&access_token=a{},{}&y", "access_token=a;{},{}&y=2"])
def test_a_value_in_a_query_that_a_text_holds_is_hidden_whole(text):
    """Commas and brackets do not end it there either."""
    hidden = sentry_filter(text.format(")", SECRET), {})
    assert hidden == text.replace("a{},{}", "***").replace("a;{},{}", "***")


def test_a_credential_behind_its_scheme_is_hidden():
    """The scheme is hidden with it."""
    text = f"Authorization: Bearer {SECRET} and more"
    assert sentry_filter(text, {}) == "Authorization: *** and more"


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_the_documentation_lists_is_hidden(name):
    """In URLs, in texts and as names of values, in capitals too, and at the end of a longer name."""
    for each in (name, name.upper(), f"component_{name}"):
        assert url_filter(URL(f"https://a.example/?{each}={SECRET}")) == f"https://a.example/?{each}=***"
        assert sentry_filter(f"with {each}: {SECRET}", {}) == f"with {each}: ***"
        assert sentry_filter({each: [SECRET]}, {}) == {each: "***"}


@pytest.mark.parametrize("encoded", ["%3D", "%253D", "%25253d"])
def test_a_quoted_equals_sign_is_one(encoded):
    """A URL in a URL in a URL holds its token as well."""
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
def test_the_signature_of_a_link_is_hidden(text, hidden):
    """Files go to and come from object storage by such links."""
    assert url_filter(URL(text, encoded=True)) == hidden
    assert sentry_filter({"url": text}, {}) == {"url": hidden}


def test_the_url_filter_leaves_other_urls_alone():
    """It serves a whole process, so it hides nothing that is not secret."""
    url = URL("https://a.example/b?c=d%20e#f")
    assert url_filter(url) == str(url)

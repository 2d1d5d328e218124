"""Secrecy of the whole library: every secret that it can hold, and every place where it prints something.

The secrets are in `canaries.CANARIES`. A value may be visible in these places only:

- what the caller asks for: `Secret.reveal`, `Session.token`, `wxtcb.raw`, and the `fields` of a `Notification`;
- the contents of a store without encryption, whose file has mode 0600 (`test_files_have_mode_0600`);
- frames of aiohttp, which needs the token in the URL: `sentry_filter` removes it there.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import inspect
import logging
import os
import pickle
import pprint
import signal
import stat
import sys
import tempfile
import traceback
import types
import warnings
from contextlib import AsyncExitStack
from pathlib import Path
from unittest import mock
from urllib.parse import urlencode

import aiohttp
import attrs
import orjson
import prometheus_client
import pytest
import rich.pretty
from cryptography.fernet import Fernet
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from typer.testing import CliRunner

import wxtcb
from tests.canaries import CANARIES, find_canaries
from wxtcb import Secret
from wxtcb._protocol.codec import RequestBody, encode_body, read_reply
from wxtcb.api import cloudrun, containers, database, environment, functions, hosting, storage, token
from wxtcb.cli.app import app
from wxtcb.errors import WxtcbError
from wxtcb.provision import Provisioner, Service, SqliteJournal, Tenant
from wxtcb.provision.report_csv import render_csv
from wxtcb.provision.report_html import render_html
from wxtcb.sandbox import Fault, FaultKind, Sandbox
from wxtcb.sandbox.credentials import CredentialStore
from wxtcb.sandbox.push.crypto import encrypt_and_sign
from wxtcb.telemetry import OpenTelemetryHook, PrometheusHook, sentry_filter
from wxtcb.tokens import ComponentToken, MemoryStore, SqliteStore, env_vars
from wxtcb.tokens.encrypted import EncryptedStore
from wxtcb.tokens.postgres import PostgresStore
from wxtcb.tokens.redis import RedisStore
from wxtcb.tokens.ticket import Notification, TicketReceiver
from wxtcb.tokens.token_state import StoredTicket, StoredToken, TokenState

REAL_KEY = Fernet.generate_key().decode()
APPID = "wxb11529c136998cb6"
NOW = 1_413_192_605
TOKEN_PATH = "/cgi-bin/component/api_component_token"
RECEIVER = {
    "component_appid": APPID,
    "message_token": CANARIES["message token"],
    "encoding_aes_key": CANARIES["EncodingAESKey"],
    "previous_encoding_aes_key": CANARIES["previous EncodingAESKey"],
    "plain_push_key": CANARIES["plain push key"],
}
REDIS_URL = f"rediss://user:{CANARIES['password of Redis']}@127.0.0.1:1/0"
POSTGRES_URL = f"postgresql://user:{CANARIES['password of PostgreSQL']}@127.0.0.1:1/shop"
PROXY_URL = f"http://user:{CANARIES['password of the proxy']}@127.0.0.1:1"
UPLOAD_URL = f"https://h.myqcloud.com/a?sign={CANARIES['signature of an upload URL']}"
DOWNLOAD_URL = f"https://h.tcb.qcloud.la/a?sign={CANARIES['signature of a download URL']}"
EXPORT_URL = f"https://h.cos.ap-shanghai.myqcloud.com/a?sign={CANARIES['signature of an export URL']}"


# Values: each entry creates an object that holds secrets, from plain strings where the caller may pass them
def session_with(**options):
    return wxtcb.Session(component_appid=APPID, component_appsecret=CANARIES["app secret"], **options)


def from_variables(created, changes=types.MappingProxyType({})):
    """Create a session or receiver from the variables of the process."""
    with mock.patch.dict(os.environ, VARIABLES | changes):
        return created.from_env()


def reply_of(endpoint, **fields):
    return read_reply(endpoint, orjson.dumps({"errcode": 0, **fields}))


def es_info():
    return cloudrun.EsInfo(id=1, password=CANARIES["password of Elasticsearch"])


def server_version(**changes):
    sidecar = cloudrun.SidecarSpec(env_var={"A": CANARIES["variable of a sidecar"]})
    options = {
        "env_id": "e-1",
        "service_name": "s",
        "upload_type": "image",
        "flow_ratio": 0,
        "cpu": 1,
        "mem": 2,
        "min_num": 1,
        "max_num": 2,
        "policy_type": "cpu",
        "policy_threshold": 60,
        "container_port": 80,
        "env_params": {"A": CANARIES["variable of a server version"]},
        "image_secret_info": cloudrun.ImageSecretInfo(
            registry_server="hub", user_name="me", password=CANARIES["password of a registry"], email="a@b"
        ),
        "es_info": es_info(),
        "sidecar_specs": [sidecar],
    }
    return cloudrun.Version(**{**options, **changes})


def container_version():
    return containers.CsVersion(
        service_name="s",
        upload_type="image",
        flow_ratio=0,
        cpu=1,
        mem=1,
        min_num=0,
        max_num=1,
        policy_type="cpu",
        policy_threshold=60,
        container_port=80,
        env_params={"A": CANARIES["variable of a container"]},
        image_secret_info=containers.CsImageSecretInfo(
            registry_server="hub",
            user_name="me",
            password=CANARIES["password of a container registry"],
            email="a@b",
        ),
    )


def function_config():
    return functions.FunctionConfig(environment_variables={"A": CANARIES["variable of a function"]})


def notification():
    codes = {name: CANARIES[name] for name in ("AuthorizationCode", "PreAuthCode")}
    return Notification("authorized", APPID, NOW, codes)


def stored_state():
    token = StoredToken(Secret(CANARIES["stored token"]), 1, 7200.0, 0.0, "host:1", "first")
    return TokenState(token=token, ticket=StoredTicket(Secret(CANARIES["pushed ticket"]), NOW, 0.0))


OBJECTS = {
    "Session": lambda: session_with(
        ticket=CANARIES["ticket"], token_store=REDIS_URL, proxy=PROXY_URL, retry=wxtcb.RetryPolicy()
    ),
    "view of a Session": lambda: session_with(ticket=CANARIES["ticket"]).with_options(partial="return"),
    "TicketReceiver": lambda: TicketReceiver(**RECEIVER, token_store=REDIS_URL),
    "RedisStore": lambda: RedisStore.from_url(REDIS_URL),
    "PostgresStore": lambda: PostgresStore.from_url(POSTGRES_URL),
    "EncryptedStore": lambda: EncryptedStore(MemoryStore(), CANARIES["store key"]),
    "EncryptedStore with two keys": lambda: EncryptedStore(MemoryStore(), [CANARIES["store key"]] * 2),
    "ComponentToken": lambda: ComponentToken(CANARIES["token of a service"], 7200),
    "TokenState": stored_state,
    "Notification": notification,
    "EsInfo": es_info,
    "Server": lambda: cloudrun.Server(env_id="e", service_name="s", is_public=True, es_info=es_info()),
    "Version": server_version,
    "CsVersion": container_version,
    "CsVersionConfig": lambda: containers.CsVersionConfig(env_params={"A": CANARIES["variable of a container"]}),
    "FunctionConfig": function_config,
    "Tenant": lambda: Tenant(
        "a", services=[Service(cloudrun.Server(service_name="s", is_public=True, es_info=es_info()))]
    ),
    "PlatformSettings": lambda: env_vars.read_platform(VARIABLES),
    "ReceiverSettings": lambda: env_vars.read_receiver(VARIABLES),
    "Variables": lambda: env_vars.Variables.read(VARIABLES, None, None),
    "Session of variables": lambda: from_variables(wxtcb.Session),
    "TicketReceiver of variables": lambda: from_variables(TicketReceiver),
    "RequestBody": lambda: encode_body({"a": container_version(), "b": function_config()}, endpoint="/a"),
    "UploadLink": lambda: reply_of(
        storage.UPLOAD_FILE_LINK,
        url=UPLOAD_URL,
        token=CANARIES["token of an upload"],
        authorization=CANARIES["authorization of an upload"],
        file_id="f",
        cos_file_id=CANARIES["file id of an upload"],
    ),
    "StaticUploadLink": lambda: reply_of(
        hosting.STATIC_UPLOAD_FILE, signed_url=UPLOAD_URL, token=CANARIES["token of an upload"]
    ),
    "FileLinks": lambda: reply_of(
        storage.BATCH_DOWNLOAD_FILE,
        file_list=[{"fileid": "f", "download_url": DOWNLOAD_URL, "status": 0, "errmsg": "ok"}],
    ),
    "MigrationState": lambda: reply_of(database.DB_MIGRATION_STATE, status="success", file_url=EXPORT_URL),
    "CsVersionDetail": lambda: reply_of(
        containers.GET_CS_VERSION_DETAIL,
        env_params=orjson.dumps({"A": CANARIES["variable of a container"]}).decode(),
    ),
    "RidInfo": lambda: reply_of(
        token.GET_RID_INFO,
        request={
            "invoke_time": 1,
            "cost_in_ms": 1,
            "request_url": f"access_token={CANARIES['query of a failed request']}",
            "request_body": CANARIES["query of a failed request"],
            "response_body": CANARIES["query of a failed request"],
            "client_ip": "::1",
        },
    ),
    "API token reply": lambda: reply_of(
        token.API_COMPONENT_TOKEN, component_access_token=CANARIES["token of a service"], expires_in=7200
    ),
}


def texts_of(value):
    """Return everything that can be printed of *value*."""
    ways = [
        *(repr, str, ascii, format, pprint.pformat, rich.pretty.pretty_repr),
        *("%s".__mod__, "%r".__mod__, lambda each: f"{[each]!s:>9}{{'a': {each!r}}}"),
        lambda each: repr(copy.copy(each)),
        lambda each: orjson.dumps(each, default=str).decode(),
        lambda each: repr(wxtcb.raw(each)),
    ]
    # The fields of a notification are the credentials that the caller asks for, and the body of a request is sent.
    if not isinstance(value, Notification | RequestBody):
        ways += [
            lambda each: repr(vars(each)),
            lambda each: repr(attrs.asdict(each)),
            lambda each: repr(attrs.asdict(each, recurse=False)),
            lambda each: pickle.dumps(each).decode("latin-1"),
        ]
    for way in ways:
        try:
            yield way(value)
        except Exception as error:  # noqa: BLE001 - any way of printing may fail in its own manner
            # Not every way is possible for every value; what the failure says counts, too.
            yield from texts_of_error(error)


def texts_of_error(error):
    """Return all texts of an exception: its chain, and the locals of all frames but those of this file."""
    seen = set[int]()
    pending = [error]
    while pending:
        error = pending.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        pending += [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]
        yield from (repr(error), str(error), repr(vars(error)), repr(error.args), *getattr(error, "__notes__", ()))
        for frame, _ in traceback.walk_tb(error.__traceback__):
            yield from texts_of_frame(frame)
    yield "".join(traceback.format_exception(error))


def texts_of_frame(frame):
    if frame.f_code.co_filename != __file__:
        for name, value in [*frame.f_locals.items()]:
            yield f"{frame.f_code.co_filename}:{frame.f_lineno} {name} = {value!r}"


@pytest.mark.parametrize("create", OBJECTS.values(), ids=OBJECTS)
def test_no_text_of_a_value_contains_a_secret(create):
    """Neither repr, str, format, pretty printers, pickles, JSON nor raw replies do."""
    value = create()
    assert not isinstance(value, WxtcbError)
    assert find_canaries(texts_of(value)) == []
    gc.collect()


def test_objects_hold_every_secret_of_a_class(monkeypatch):
    """Without the repr of `Secret`, the search finds the secrets of every object with a `Secret` in its repr."""
    monkeypatch.setattr(Secret, "__repr__", Secret.reveal)
    shown = {"Session", "TicketReceiver", "ComponentToken", "TokenState", "EsInfo", "FileLinks", "RidInfo", "Version"}
    assert not [name for name in shown if not find_canaries([repr(OBJECTS[name]())])]


def test_value_types_hold_no_plain_string_of_a_secret():
    """A secret that was passed as a string is a `Secret` afterwards, also as the value of a variable."""
    version = server_version()
    secrets = (
        version.env_params["A"],
        version.sidecar_specs[0].env_var["A"],
        version.image_secret_info.password,
        container_version().env_params["A"],
        container_version().image_secret_info.password,
        function_config().environment_variables["A"],
        es_info().password,
    )
    assert [type(each) for each in secrets] == [Secret] * len(secrets)


# Errors of invalid arguments: the value is a secret, or is next to one
# As Python decodes bytes of a variable that are not UTF-8.
BAD = "\udcff"
INVALID = {
    "password in base_url": lambda: session_with(
        ticket="t", base_url=f"https://user:{CANARIES['password in base_url']}@host"
    ),
    "secret as base_url": lambda: session_with(ticket="t", base_url=CANARIES["app secret in a file"]),
    "secret as appid": lambda: wxtcb.Session(component_appid=f"{CANARIES['ticket']}", component_appsecret="s"),
    "secret as appid of a receiver": lambda: TicketReceiver(
        **{**RECEIVER, "component_appid": CANARIES["store key"]}, token_store=MemoryStore()
    ),
    "app secret in bytes": lambda: wxtcb.Session(
        component_appid=APPID, component_appsecret=CANARIES["app secret"].encode()
    ),
    "app secret that is not Unicode": lambda: wxtcb.Session(
        component_appid=APPID, component_appsecret=CANARIES["app secret"] + BAD
    ),
    "ticket in bytes": lambda: session_with(ticket=CANARIES["ticket"].encode()),
    "ticket and token source": lambda: session_with(ticket=CANARIES["ticket"], token_source=wxtcb.tokens.ReadOnly()),
    "store of another kind": lambda: session_with(token_store=f"mysql://u:{CANARIES['password of Redis']}@h/0"),
    "store without a host": lambda: session_with(token_store=f"redis://u:{CANARIES['password of Redis']}@[h/0"),
    "store with an unknown option": lambda: session_with(token_store=f"{REDIS_URL}?nonsense=1"),
    "store with a bad port": lambda: session_with(token_store=REDIS_URL.replace(":1/0", ":x/0")),
    "store without encryption": lambda: RedisStore.from_url(
        f"redis://u:{CANARIES['password of Redis']}@10.0.0.1/0?protocol=x"
    ),
    "PostgreSQL with an unknown option": lambda: session_with(token_store=f"{POSTGRES_URL}?nonsense=1"),
    "PostgreSQL with a bad host": lambda: session_with(token_store=POSTGRES_URL.replace("127", "[127")),
    "PostgreSQL without encryption": lambda: session_with(token_store=POSTGRES_URL.replace("127.0.0.1", "10.0.0.1")),
    "store of a receiver": lambda: TicketReceiver(**RECEIVER, token_store=f"{REDIS_URL}?nonsense=1"),
    "proxy of another kind": lambda: session_with(ticket="t", proxy=PROXY_URL.replace("http", "socks5")),
    "message token": lambda: TicketReceiver(
        **{**RECEIVER, "message_token": CANARIES["message token"] + "!"}, token_store=MemoryStore()
    ),
    "EncodingAESKey": lambda: TicketReceiver(
        **{**RECEIVER, "encoding_aes_key": CANARIES["EncodingAESKey"][:-1]}, token_store=MemoryStore()
    ),
    "previous EncodingAESKey": lambda: TicketReceiver(
        **{**RECEIVER, "previous_encoding_aes_key": CANARIES["EncodingAESKey"] + "=="}, token_store=MemoryStore()
    ),
    "plain push key": lambda: TicketReceiver(
        **{**RECEIVER, "plain_push_key": CANARIES["plain push key"] + "/"}, token_store=MemoryStore()
    ),
    "store key": lambda: EncryptedStore(MemoryStore(), CANARIES["store key"][1:]),
    "store key in a list": lambda: EncryptedStore(MemoryStore(), [CANARIES["store key"], "short"]),
    "variable": lambda: functions.FunctionConfig(environment_variables={"A": CANARIES["variable of a function"] + BAD}),
    "variable next to a bad one": lambda: functions.FunctionConfig(
        environment_variables={"A": CANARIES["variable of a function"], "B": 1}
    ),
    "container next to a bad variable": lambda: containers.CsVersionConfig(
        env_params={"A": CANARIES["variable of a container"], "B": 1}
    ),
    "sidecar next to a bad variable": lambda: cloudrun.SidecarSpec(
        env_var={"A": CANARIES["variable of a sidecar"], "B": 1}
    ),
    "version with another bad field": lambda: server_version(min_num="x", flow_ratio=[]),
    "version with a bad list": lambda: server_version(sidecar_specs="x"),
    "password of a wrong type": lambda: cloudrun.EsInfo(id=1, password=CANARIES["password of Elasticsearch"].encode()),
    "token in bytes": lambda: ComponentToken(CANARIES["token of a service"].encode(), 7200),
    "body that is not JSON": lambda: encode_body({"a": server_version(), "b": object()}, endpoint="/a"),
    "variables with a password in the base URL": lambda: from_variables(wxtcb.Session, SETTINGS["bad base URL"]),
    "variables with a bad store": lambda: from_variables(wxtcb.Session, SETTINGS["bad store"]),
    "variables with bad keys": lambda: from_variables(TicketReceiver, SETTINGS["bad keys"]),
    "swapped variables": lambda: from_variables(wxtcb.Session, SETTINGS["swapped"]),
    "variables that are not Unicode": lambda: from_variables(wxtcb.Session, {"WXTCB_TICKET": CANARIES["ticket"] + BAD}),
    "pickle": lambda: pickle.dumps(Secret(CANARIES["app secret"])),
}


@pytest.mark.parametrize("create", INVALID.values(), ids=INVALID)
def test_no_error_of_an_argument_contains_a_secret(create):
    """Neither its message, its chain, nor the locals of the frames of its traceback do."""
    with pytest.raises((WxtcbError, TypeError)) as caught:
        create()
    assert isinstance(caught.value, WxtcbError) or "pickled" in str(caught.value)
    assert find_canaries(texts_of_error(caught.value)) == []


# Calls: with every fault of the platform, on both transports
QUICK = wxtcb.RetryPolicy(attempts=2, once_attempts=2, base=0.001, cap=0.001)


async def find_env(session):
    """Return the id of an environment, if the platform lists one."""
    return next(iter((await environment.describe_envs(session)).by_env), "e-1")


async def upload(session):
    await storage.upload_file(session, await find_env(session), "a", b"content")


async def download(session):
    env = await find_env(session)
    with tempfile.TemporaryDirectory() as folder:
        await storage.download_file(session, env, f"cloud://{env}.7465-{env}-1304480914/out", Path(folder) / "file")


CALLS = {
    "create": lambda session: environment.create_env(session, alias="abc"),
    "list": environment.describe_envs,
    "own token": lambda session: environment.modify_env(session, "e-1", token=CANARIES["own token"]),
    "server": lambda session: cloudrun.establish_cloudbaserun_server(session, OBJECTS["Server"]()),
    "server version": lambda session: cloudrun.create_cloudbaserun_server_version(session, server_version()),
    "container version": lambda session: containers.create_cs_version(session, container_version(), env="e-1"),
    "function": lambda session: functions.update_scf_config(session, "e-1", "f", function_config()),
    "push of the ticket": token.api_start_push_ticket,
    "reset of the quota": token.clear_component_quota_by_app_secret,
    "upload": upload,
    "download": download,
}
KINDS = {
    # What carries no token must be named.
    "calls": (None, "/cgi-bin/component/api_start_push_ticket", "/cgi-bin/component/clear_quota/v2"),
    "token": (TOKEN_PATH,),
    "files": ("/_cos/post", "/_cos/get"),
}


class Watch:
    """Collector of everything that is printed or recorded while it is entered, with asyncio in debug mode."""

    def __init__(self, caplog, monkeypatch):
        self._caplog = caplog
        self._others, self.texts, self.events = [], [], []
        create = Secret.__init__

        def remember(secret, value):
            create(secret, value)
            # Of a URL, only what follows the question mark is secret, or the address would be found everywhere.
            self._others.append(value.partition("?")[2] if "://" in value else value)

        # Every secret counts, also those that the platform creates.
        monkeypatch.setattr(Secret, "__init__", remember)
        caplog.set_level(logging.DEBUG)
        logging.getLogger("asyncio").setLevel(logging.DEBUG)
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self._tracers, self._meters = TracerProvider(), MeterProvider([self._reader])
        self._tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._registry = prometheus_client.CollectorRegistry()
        telemetry = OpenTelemetryHook(tracer_provider=self._tracers, meter_provider=self._meters)
        self.hooks = (self.events.append, telemetry, PrometheusHook(registry=self._registry))

    def __enter__(self):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        self._warnings = warnings.catch_warnings(record=True)
        self._warned = self._warnings.__enter__()
        warnings.simplefilter("always")
        return self

    def __exit__(self, *_):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(None)
        self._warnings.__exit__(None, None, None)
        self.texts += [str(each) + repr(each.source) for each in self._warned]
        self.texts += [span.to_json() for span in self._exporter.get_finished_spans()]
        data = self._reader.get_metrics_data()
        self.texts += [data.to_json() if data else "", prometheus_client.generate_latest(self._registry).decode()]
        self.texts += [text for event in self.events for text in (repr(event), str(event), repr(attrs.asdict(event)))]
        self.texts += [self._caplog.text, *(repr(vars(record)) for record in self._caplog.records)]
        self._tracers.shutdown()
        self._meters.shutdown()

    def _on_loop_error(self, loop, context):
        self.texts.append(repr(context))
        if (error := context.get("exception")) is not None:
            self.texts += texts_of_error(error)
        loop.default_exception_handler(context)

    async def call(self, coroutine):
        """Run *coroutine*, and collect its error; look at all tasks before it is cancelled."""
        task = asyncio.ensure_future(coroutine)
        await asyncio.wait([task], timeout=0.25)
        if not task.done():
            self.texts += texts_of_tasks()
            task.cancel()
            await asyncio.wait([task])
        self.texts.append(repr(task))
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, WxtcbError), error
            self.texts += texts_of_error(error)

    @property
    def leaks(self):
        others = {f"secret {number}": value for number, value in enumerate({*self._others} - {*CANARIES.values()})}
        return find_canaries(self.texts, others)


def texts_of_tasks():
    """Return the reprs of all tasks, and the locals of their frames in wxtcb, as a debugger or a monitor shows them."""
    texts = []
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        texts.append(repr(task))
        awaited = task.get_coro()
        while inspect.iscoroutine(awaited) and awaited.cr_frame is not None:
            parts = Path(awaited.cr_code.co_filename).parts
            # The sandbox is the other side: it has what was sent.
            if "wxtcb" in parts and "sandbox" not in parts:
                texts += texts_of_frame(awaited.cr_frame)
            awaited = awaited.cr_await
    return texts


@pytest.fixture
def watch(caplog, monkeypatch):
    """Return a collector of everything that is printed."""
    return Watch(caplog, monkeypatch)


TRANSPORTS = ["connector", "client session"]


@contextlib.asynccontextmanager
async def open_transport(name):
    """Return the options of a session for a transport."""
    if name == "connector":
        yield {}
    else:
        async with aiohttp.ClientSession() as http:
            yield {"http": http}


def connect(sandbox, **options):
    account = {name: getattr(sandbox, name) for name in ("component_appid", "component_appsecret", "ticket")}
    return wxtcb.Session(**account, base_url=sandbox.url, retry=QUICK, **options)


async def call_with_fault(watch, kind, transport, paths):
    """Make the calls that a fault of *paths* concerns, and collect what they print."""
    async with Sandbox() as sandbox, open_transport(transport) as options:
        sandbox.world.storage.write(sandbox.world.add("a"), "out", b"content")
        for path in paths:
            sandbox.faults.add(Fault(kind, path=path, seconds=0.3, megabytes=2))
        timeout = wxtcb.Timeout(connect=0.1, reply=0.05)
        async with connect(sandbox, timeout=timeout, hooks=watch.hooks, **options) as session:
            names = {TOKEN_PATH: ["list"], "/_cos/post": ["upload", "download"]}.get(paths[0], CALLS)
            await asyncio.gather(*(watch.call(CALLS[name](session)) for name in names))
            watch.texts += [repr(session), repr(await session.health()), repr(session.stats())]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", FaultKind, ids=lambda kind: kind.value)
async def test_no_fault_makes_a_secret_visible(kind, transport, watch):
    """Errors with their frames, logs, events, spans, metrics, tasks and reprs contain no secret."""
    with watch:
        await asyncio.gather(*(call_with_fault(watch, kind, transport, paths) for paths in KINDS.values()))
    assert watch.leaks == []


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", [FaultKind.ECHO_MESSAGE, FaultKind.HANG], ids=lambda kind: kind.value)
async def test_debug_mode_of_asyncio_shows_no_secret(kind, transport, watch):
    """With every callback logged as slow, no repr of a task, future, handle or transport contains a secret."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    with watch:
        await call_with_fault(watch, kind, transport, KINDS["token"])
        await call_with_fault(watch, kind, transport, KINDS["calls"][:1])
    loop.set_debug(False)
    assert any("Executing" in text for text in watch.texts)
    assert watch.leaks == []


@pytest.mark.parametrize("kind", ["calls", "files"])
async def test_secrets_of_calls_are_found_without_their_repr(kind, watch, monkeypatch):
    """The search finds the secrets of calls and transfers if the repr of `Secret` shows its value."""
    monkeypatch.setattr(Secret, "__repr__", Secret.reveal)
    with watch:
        await call_with_fault(watch, FaultKind.HANG, "connector", KINDS[kind])
    assert len(watch.leaks) > 3
    assert any("q-sign" in text for text in watch.texts) is (kind == "files")


class Interruption(BaseException):
    """What a signal handler raises."""


def interrupt_after(lines):
    """Raise an `Interruption` after so many lines of the package of the transports."""
    remaining = iter(range(lines))

    def trace(frame, event, _):
        if event == "line" and next(remaining, None) is None:
            sys.settrace(None)
            raise Interruption
        return trace

    sys.settrace(lambda frame, *_: trace if "_http" in Path(frame.f_code.co_filename).parts else None)


@pytest.mark.unmeasured
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_filter_redacts_the_frames_of_an_interrupted_call(transport, watch):
    """Only the frames that write the token, or look for its echo, contain it, and `sentry_filter` redacts them."""
    places = set()
    async with Sandbox() as sandbox, open_transport(transport) as options, connect(sandbox, **options) as session:
        await CALLS["list"](session)
        known = {"token": (await session.token()).reveal()}
        for lines in range(3, 1000, 7):
            interrupt_after(lines)
            try:
                await session.call(functions.UPDATE_SCF_CONFIG, {"a": function_config()}, query={"n": str(lines)})
            except Interruption as error:
                frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
            except WxtcbError:
                break
            finally:
                sys.settrace(None)
            texts = dict[str, str]()
            for frame in frames:
                if "wxtcb" in Path(frame.f_code.co_filename).parts:
                    texts |= {f"{frame.f_code.co_name} {name}": repr(each) for name, each in frame.f_locals.items()}
            places |= {name for name, text in texts.items() if find_canaries([text], known)}
            assert find_canaries(sentry_filter({"extra": texts}, None)["extra"].values(), known) == []
    assert {place.partition(" ")[0] for place in places} <= {"_build_head", "build_url", "_redact_token", "_write"}


# Pushes
def pushed(fields, **changes):
    """Return query and body of a push, with *changes* of the credentials."""
    message = "".join(f"<{name}><![CDATA[{value}]]></{name}>" for name, value in fields.items())
    options = {"appid": APPID, "message_token": RECEIVER["message_token"]}
    options |= {"encoding_aes_key": RECEIVER["encoding_aes_key"], "timestamp": NOW, "nonce": "n"} | changes
    sealed = encrypt_and_sign(f"<xml>{message}</xml>".encode(), random_prefix=b"a" * 16, **options)
    return urlencode(sealed.query).encode(), sealed.body


def ticket_push(**changes):
    texts = {"AppId": APPID, "CreateTime": NOW, "InfoType": "component_verify_ticket"}
    return pushed({**texts, "ComponentVerifyTicket": CANARIES["pushed ticket"]}, **changes)


def code_push(**changes):
    codes = {name: CANARIES[name] for name in ("AuthorizationCode", "PreAuthCode")}
    return pushed({"AppId": APPID, "CreateTime": NOW, "InfoType": "authorized", **codes, **changes})


PLAIN_CODE = orjson.dumps({"AppId": APPID, "CreateTime": NOW, "InfoType": "authorized", **notification().fields})
PUSHES = {
    "ticket": ticket_push(),
    "ticket with the previous key": ticket_push(encoding_aes_key=RECEIVER["previous_encoding_aes_key"]),
    "ticket with another key": ticket_push(encoding_aes_key="Z" * 43),
    "ticket for another platform": ticket_push(appid="wx0"),
    "ticket of another signer": ticket_push(message_token="x" * 32),
    "old ticket": ticket_push(timestamp=1),
    "notification": code_push(),
    "notification of another time": code_push(CreateTime="soon"),
    "notification that is cut": (code_push()[0], code_push()[1][:-30]),
    "message without encryption": (b"", PLAIN_CODE),
}


class BrokenStore(MemoryStore):
    """A store whose errors quote what it was to store."""

    async def compare_and_set(self, component_appid, document, *, version):
        raise OSError(document)


@pytest.mark.parametrize("store", [MemoryStore, BrokenStore])
async def test_no_push_makes_a_secret_visible(store, watch):
    """Neither answers, events, logs nor the report of a failing callback contain a secret."""

    async def fail(received):
        raise ValueError("the callback failed")

    with watch:
        options = {"hooks": [watch.events.append], "clock": lambda: NOW, "on_notification": fail}
        async with TicketReceiver(**RECEIVER, token_store=store(), **options) as receiver:
            for path in ("/push", f"/push/{CANARIES['plain push key']}"):
                for query, body in PUSHES.values():
                    watch.texts += [str(await send_push(receiver, query, body, path)), repr(receiver)]
            watch.texts += texts_of_tasks()
    assert len({type(event) for event in watch.events}) >= 4
    assert watch.leaks == []


async def send_push(receiver, query, body, path):
    """Send a push as an ASGI server does, and return the messages of the answer."""
    sent, received = [], [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return received.pop()

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": query}
    await receiver({**scope, "headers": [], "client": ("127.0.0.1", 1)}, receive, send)
    return sent


# Stores and files
async def test_errors_of_stores_contain_no_secret(tmp_path, watch):
    """Neither a server that is down, another key, nor a damaged document makes a secret visible."""
    document = orjson.dumps({"token": CANARIES["stored token"], "ticket": [CANARIES["pushed ticket"]]}).decode()
    memory, sqlite = MemoryStore(), SqliteStore(tmp_path / "tokens.db")
    await memory.compare_and_set(APPID, document, version="")
    await sqlite.compare_and_set(APPID, document, version="")
    redis = RedisStore.from_url(REDIS_URL)
    postgres = PostgresStore.from_url(POSTGRES_URL)
    stores = [memory, sqlite, redis, postgres]
    stores += [EncryptedStore(memory, CANARIES["store key"]), EncryptedStore(redis, [REAL_KEY])]
    with watch:
        for store in stores:
            async with AsyncExitStack() as stack:
                session = session_with(ticket=CANARIES["ticket"], token_store=store, base_url="http://127.0.0.1:1")
                watch.texts.append(repr(session))
                await watch.call(stack.enter_async_context(session))
                await watch.call(session.token())
            # Not the fields of the store in memory, which contain its documents.
            watch.texts += [repr(store), rich.pretty.pretty_repr(store)]
    await redis.aclose()
    await postgres.aclose()
    await sqlite.aclose()
    assert watch.leaks == []


async def test_files_have_mode_0600_and_reports_contain_no_secret(tmp_path, watch):
    """A store may contain token and ticket; journal, plan, report and audit contain no secret, also after failures."""
    old_umask = os.umask(0)
    try:
        async with Sandbox() as sandbox:
            for path in ("/componenttcb/establishcloudbaserunserver", "/componenttcb/batchshareenv"):
                sandbox.faults.add(Fault(FaultKind.ECHO_MESSAGE, path=path, errcode=40097))
            sandbox.faults.add(Fault(FaultKind.ECHO_MESSAGE, path="/componenttcb/createenv", times=1, errcode=40097))
            tenants = [attrs.evolve(OBJECTS["Tenant"](), name=name, appids=[f"wx{'0' * 16}"]) for name in "abc"]
            store = SqliteStore(tmp_path / "tokens.db")
            with watch:
                async with (
                    connect(sandbox, token_store=store, hooks=watch.hooks) as session,
                    SqliteJournal(tmp_path / "journal.db") as journal,
                    Provisioner(session, journal=journal, settle=0.01, interval=0.01) as provisioner,
                ):
                    plan = await provisioner.plan(tenants)
                    run = provisioner.apply(plan)
                    watch.texts += [repr(event) async for event in run.events()]
                    report = await run.wait()
                    audit = await provisioner.audit(tenants)
                    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
                await store.aclose()
                printed = [report.to_json().decode(), render_csv(report), render_html(report), plan.to_json().decode()]
                watch.texts += [*printed, audit.to_json().decode(), repr(report), repr(plan), repr(run), str(audit)]
                watch.texts.append((tmp_path / "journal.db").read_bytes().decode("latin-1"))
    finally:
        os.umask(old_umask)
    assert "40097" in printed[0]
    assert {"tokens.db", "journal.db"} <= modes.keys()
    assert {*modes.values()} == {0o600}
    assert watch.leaks == []


async def test_forgotten_session_shows_no_secret(watch, monkeypatch):
    """Neither the ResourceWarning of a session that was never closed, nor what the interpreter cannot raise, does."""
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with watch:
        async with Sandbox() as sandbox:
            session = connect(sandbox, hooks=watch.hooks)
            await session.__aenter__()
            await session.token()
            resources = session._lifecycle.resources
            del session
            gc.collect()
            await resources.aclose()
            gc.collect()
    watch.texts += [f"{each.object!r} {each.exc_value!r} {each.err_msg}" for each in unraisable]
    assert any("never closed" in text for text in watch.texts)
    assert watch.leaks == []


# The command
VARIABLES = {
    "WXTCB_COMPONENT_APPID": APPID,
    "WXTCB_COMPONENT_APPSECRET": CANARIES["app secret"],
    "WXTCB_TICKET": CANARIES["ticket"],
    "WXTCB_TOKEN_STORE": REDIS_URL,
    "WXTCB_TOKEN_STORE_KEY": CANARIES["store key"],
    "WXTCB_BASE_URL": "http://127.0.0.1:1",
    "WXTCB_MESSAGE_TOKEN": CANARIES["message token"],
    "WXTCB_ENCODING_AES_KEY": CANARIES["EncodingAESKey"],
    "WXTCB_PREVIOUS_ENCODING_AES_KEY": CANARIES["previous EncodingAESKey"],
    "WXTCB_PLAIN_PUSH_KEY": CANARIES["plain push key"],
}
COMMANDS = [
    *([name, "--help"] for name in ("token", "call", "plan", "provision", "audit", "sandbox", "endpoints")),
    *(["--help"], ["ticket", "serve", "--help"], ["nonsense"], ["ticket", "serve", "--host", "nonsense"]),
    *(["-v", "token"], ["-v", "token", "--fetch"], ["-v", "call", "describe_envs"], ["call", "create_env", "--yes"]),
    *(["call", "api_component_token"], ["call", "update_scf_config", "--example"]),
    *(["plan", "missing.csv"], ["provision", "missing.csv"], ["audit", "missing.csv"]),
]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
SETTINGS = {
    "all": {},
    # Without a store, no token is fetched from another machine.
    "no store": {"WXTCB_TOKEN_STORE": "", "WXTCB_TOKEN_STORE_KEY": "", "WXTCB_BASE_URL": "https://h.invalid"},
    "bad base URL": {"WXTCB_BASE_URL": f"https://user:{CANARIES['password in base_url']}@host"},
    "bad store": {"WXTCB_TOKEN_STORE": f"mysql://user:{CANARIES['password of Redis']}@host"},
    "bad keys": {
        "WXTCB_TOKEN_STORE_KEY": CANARIES["store key"][1:],
        "WXTCB_ENCODING_AES_KEY": CANARIES["EncodingAESKey"][1:],
    },
    "ticket as appid": {"WXTCB_COMPONENT_APPID": CANARIES["ticket"]},
    "swapped": {"WXTCB_COMPONENT_APPID": CANARIES["ticket"], "WXTCB_BASE_URL": CANARIES["app secret"]},
}


def texts_of_commands():
    """Run all commands in this process, and return what they print and what their tracebacks contain."""
    for words in COMMANDS:
        result = CliRunner().invoke(app, words)
        assert isinstance(result.exception, SystemExit | None), result.exception
        yield result.output
        if result.exception is not None:
            yield from texts_of_error(result.exception)


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_no_output_of_the_command_contains_a_secret(changes, monkeypatch, tmp_path):
    """Neither help, results, errors nor the log do, with complete and with wrong settings."""
    monkeypatch.chdir(tmp_path)
    for name, value in (VARIABLES | changes).items():
        monkeypatch.setenv(name, value)
    assert find_canaries(texts_of_commands()) == []


def test_secrets_in_files_are_not_printed(monkeypatch, tmp_path):
    """Neither a readable nor an unreadable file of a secret is quoted, only its path."""
    names = {"APPSECRET": "app secret in a file", "TICKET": "ticket in a file"}
    monkeypatch.chdir(tmp_path)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    texts = []
    for content in ("{}", "{}\udcff", "\n{}\n{}"):
        for name, canary in names.items():
            variable = f"WXTCB_{'COMPONENT_' if name == 'APPSECRET' else ''}{name}"
            path = tmp_path / name
            path.write_bytes(content.format(CANARIES[canary], "x").encode(errors="surrogateescape"))
            path.chmod(0o600)
            monkeypatch.delenv(variable, raising=False)
            monkeypatch.setenv(f"{variable}_FILE", str(path))
        texts += texts_of_commands()
    assert find_canaries(texts) == []


async def test_process_shows_no_secret_at_a_signal(tmp_path, monkeypatch):
    """Neither its arguments, which all users can list, nor its output, in debug mode, contain one."""
    others = {"store key": REAL_KEY}
    issue_token = CredentialStore.issue_token

    def remember(credentials, *args):
        token = others[f"token {len(others)}"] = issue_token(credentials, *args)
        return token

    monkeypatch.setattr(CredentialStore, "issue_token", remember)
    async with Sandbox() as sandbox:
        others |= {"app secret": sandbox.component_appsecret, "ticket": sandbox.ticket}
        sandbox.faults.add(Fault(FaultKind.HANG))
        account = {
            "WXTCB_COMPONENT_APPID": sandbox.component_appid,
            "WXTCB_COMPONENT_APPSECRET": sandbox.component_appsecret,
            "WXTCB_TICKET": sandbox.ticket,
            "WXTCB_BASE_URL": sandbox.url,
            "WXTCB_TOKEN_STORE": f"sqlite:///{tmp_path}/tokens.db",
            "WXTCB_TOKEN_STORE_KEY": REAL_KEY,
        }

        async def run():
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-X", "dev", "-m", "wxtcb", "-v", "call", "describe_envs"),
                env={**os.environ, **account, "PYTHONASYNCIODEBUG": "1"},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            return process, asyncio.create_task(process.communicate())

        processes = [await run() for _ in SIGNALS]
        while sandbox.count("/componenttcb/describeenvs") < len(SIGNALS):
            assert not any(output.done() for _, output in processes)
            await asyncio.sleep(0.01)
        texts = []
        for number, (process, output) in zip(SIGNALS, processes, strict=True):
            if (arguments := Path(f"/proc/{process.pid}/cmdline")).exists():
                texts.append(arguments.read_text())  # noqa: ASYNC240
            process.send_signal(number)
            texts.append((await output)[0].decode())
            assert process.returncode == 128 + number
    assert len(others) > 3
    assert find_canaries(texts, others) == []


# Tools that record everything. These canaries are held by no object of `OBJECTS`, or not as a `Secret`.
NOT_HELD = {
    "app secret in a file",
    "ticket in a file",
    "own token",
    "password in base_url",
    *notification().fields,
}


@pytest.mark.parametrize("form", [str, str.encode, "a/{}?b".format], ids=["text", "bytes", "part"])
def test_filter_knows_the_secrets_in_use(form):
    """`sentry_filter` redacts each secret that an object holds, under any name."""
    objects = [create() for create in OBJECTS.values()]
    held = CANARIES.keys() - NOT_HELD
    event = {"extra": [{"text": form(CANARIES[name])} for name in held]}
    assert find_canaries([repr(sentry_filter(event, None))]) == []
    assert len(objects) == len(OBJECTS)

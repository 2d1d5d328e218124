"""Versions of container services: every field, every rule, and batch calls."""

from __future__ import annotations

import itertools
import json
import traceback

import attrs
import pytest

import wxtcb
from wxtcb.api import containers
from wxtcb.api.containers import (
    BatchEntry,
    BatchFailure,
    CsCodeDetail,
    CsImageInfo,
    CsImageSecretInfo,
    CsRepositoryName,
    CsVersion,
    CsVersionConfig,
    CsVersionInfo,
    TrafficSplit,
    VersionFlow,
    VersionRef,
)

DONE = {"errcode": 0, "errmsg": "ok"}
REQUIRED = {"service_name": "echo", "upload_type": "image"}
WIRE_NAMES = ["minnum", "maxnum", "repo", "repo_type", "cpu", "env_params", "status", "buildid", "min_replicas"]
IMAGE = {"repository_name": "r", "is_public": False, "tag_name": "t", "server_addr": "a", "image_url": "a/r:t"}
REF = {"env": "e", "service_name": "s", "version_name": "v"}
HIDDEN = 'S3CRET"of\\mine'
FIELDS = [
    ("flow_ratio", 0, {"flow_ratio": 0}),
    ("flow_ratio", 100, {"flow_ratio": 100}),
    ("cpu", 0.25, {"cpu": 0.25}),
    ("cpu", 2, {"cpu": 2}),
    ("mem", 0.5, {"mem": 0.5}),
    ("min_num", 0, {"minnum": 0}),
    ("max_num", 50, {"maxnum": 50}),
    ("policy_type", "mem", {"policy_type": "mem"}),
    ("policy_threshold", 60, {"policy_threshold": 60}),
    ("container_port", 80, {"container_port": 80}),
    ("repository_type", "coding", {"repository_type": "coding"}),
    ("dockerfile_path", "Dockerfile", {"dockerfile_path": "Dockerfile"}),
    ("build_dir", "", {"build_dir": ""}),
    ("env_params", {"A": "1"}, {"env_params": '{"A":"1"}'}),
    ("env_params", {}, {"env_params": ""}),
    ("repository", "o/n", {"repository": "o/n"}),
    ("branch", "main", {"branch": "main"}),
    ("version_remark", "text", {"version_remark": "text"}),
    ("package_name", "p", {"package_name": "p"}),
    ("package_version", "1", {"package_version": "1"}),
    (
        "image_info",
        CsImageInfo(**IMAGE),
        {
            "image_info": {
                "repository_name": "r",
                "ispublic": False,
                "tagname": "t",
                "server_addr": "a",
                "image_url": "a/r:t",
            }
        },
    ),
    ("code_detail", CsCodeDetail(url="u"), {"code_detail": {"url": "u"}}),
    ("code_detail", CsCodeDetail(name=CsRepositoryName(name="n")), {"code_detail": {"name": {"name": "n"}}}),
    (
        "code_detail",
        CsCodeDetail(name=CsRepositoryName(full_name="o/n")),
        {"code_detail": {"name": {"fullname": "o/n"}}},
    ),
    (
        "image_secret_info",
        CsImageSecretInfo(registry_server="r", user_name="u", password="p", email="m"),
        {"image_secret_info": {"registryserver": "r", "username": "u", "password": "p", "email": "m"}},
    ),
    ("image_secret_info", CsImageSecretInfo(), {"image_secret_info": {}}),
    ("image_pull_secret", "name", {"image_pulls_secret": "name"}),
    ("custom_logs", "stdout", {"custom_logs": "stdout"}),
    ("mount_wx_token", False, {"mount_wx_token": False}),
]


def rejections(kind, required, name, values):
    """Return the test cases of one field that rejects each of *values*."""
    return [pytest.param(kind, required, name, value, id=f"{kind.__name__}-{name}-{value!r}") for value in values]


SPLIT = {"env": "e", "service_name": "s", "items": [VersionFlow(version_name="v", flow_ratio=100)]}
VARIABLES = ["{}", ["A"], {"A": 1}, {"A": None}, {"": "a"}, {5: "a"}, {"A": "\ud800"}]


@pytest.mark.parametrize(("name", "value", "sent"), FIELDS)
async def test_field_is_sent_under_the_platforms_name(session, platform, name, value, sent):
    """Each optional field is sent with the platform's spelling, to one environment and to many."""
    platform.replies = [DONE]
    version = CsVersion(**REQUIRED, **{name: value})
    await containers.create_cs_version(session, version, env="e")
    await containers.batch_create_cs_version(session, version, envs=["e", "f"])
    assert platform.bodies == [
        {"env": "e", **REQUIRED, **sent},
        {"envs": ["e", "f"], **REQUIRED, **sent},
    ]


def test_every_field_of_a_version_is_tested():
    """The cases above cover all fields."""
    assert {name for name, *_ in FIELDS} | set(REQUIRED) == {each.name for each in CsVersion.__attrs_attrs__}


@pytest.mark.parametrize(
    ("kind", "required", "name", "value"),
    [
        *rejections(CsVersion, REQUIRED, "flow_ratio", [-1, 101]),
        *rejections(CsVersion, REQUIRED, "cpu", [float("nan"), float("inf")]),
        *rejections(CsVersion, REQUIRED, "min_num", [-1]),
        *rejections(CsVersion, REQUIRED, "max_num", [51]),
        *rejections(CsVersion, REQUIRED, "env_params", VARIABLES),
        *rejections(CsVersion, REQUIRED, "image_secret_info", [{"password": "p"}]),
        *rejections(CsImageSecretInfo, {}, "password", [5, b"x", ["x"]]),
        *rejections(CsVersionConfig, {}, "min_num", [-1]),
        *rejections(CsVersionConfig, {}, "max_num", [51]),
        *rejections(CsVersionConfig, {}, "env_params", VARIABLES),
        *rejections(VersionFlow, {"version_name": "v", "flow_ratio": 1}, "flow_ratio", [-1, 101]),
        *rejections(TrafficSplit, SPLIT, "items", [[]]),
    ],
)
def test_invalid_field_is_rejected_by_name(kind, required, name, value):
    """A value outside of the documented bounds is rejected by class and field."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{kind.__name__}: {name}\b"):
        kind(**{**required, name: value})


@pytest.mark.parametrize(("shares", "allowed"), [([100], 1), ([80, 20], 1), ([0, 0], 1), ([80], 0), ([60, 60], 0)])
def test_flow_ratios_add_up_to_100_or_0(shares, allowed):
    """Any other sum is rejected, and the message contains the sum."""
    items = [VersionFlow(version_name=f"v-{number}", flow_ratio=share) for number, share in enumerate(shares)]
    if allowed:
        assert TrafficSplit(**{**SPLIT, "items": items}).items == tuple(items)
    else:
        with pytest.raises(wxtcb.InvalidArgument, match=f"100 or 0, not {sum(shares)}"):
            TrafficSplit(**{**SPLIT, "items": items})


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda session: containers.batch_create_cs_version(session, CsVersion(**REQUIRED), envs=[]), "envs"),
        (lambda session: containers.batch_create_cs_version(session, CsVersion(**REQUIRED), envs="e"), "envs"),
        (lambda session: containers.wait_until_version_normal(session, "e", "s", "v", timeout=0), "timeout"),
        (lambda session: containers.batch_del_cs_version(session, []), "items"),
        (lambda session: containers.batch_set_cs_propotion(session, []), "items"),
    ],
    ids=itertools.count(),
)
async def test_invalid_argument_is_rejected_before_a_request(session, platform, call, name):
    """The message names the argument, and no token is fetched."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name}\b"):
        await call(session)
    assert (platform.sent, platform.token_requests) == ([], [])


async def test_only_given_settings_are_sent(session, platform):
    """The platform may reset omitted settings, so wxtcb sends nothing in their place."""
    platform.replies = [DONE]
    config = CsVersionConfig(custom_logs="", env_params={"A": wxtcb.Secret("a")})
    await containers.set_cs_version_config(session, "e", "s", "v", config)
    assert platform.bodies == [{**REF, "custom_logs": "", "env_params": '{"A":"a"}'}]


def test_variables_are_copied():
    """A later change of the caller's mapping has no effect."""
    given = {"A": "a"}
    config = CsVersionConfig(env_params=given)
    given["B"] = None
    assert config.env_params == {"A": wxtcb.Secret("a")}


@pytest.mark.parametrize(
    "value",
    [
        CsVersion(**REQUIRED, env_params={"A": "a"}),
        CsVersionConfig(env_params={"A": "a"}),
        containers.CsVersionDetail(env_params={"A": wxtcb.Secret("a")}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_class_with_variables_is_hashable(value):
    """A mapping has no hash: variables are compared, but not part of the hash."""
    one = {"A": wxtcb.Secret("a")}
    others = {attrs.evolve(value, env_params=each) for each in (one, {"A": wxtcb.Secret("b")}, None)}
    assert (len(others), value in others) == (3, True)


@pytest.mark.parametrize("kind", [str, wxtcb.Secret])
def test_variables_and_passwords_are_in_no_repr(kind):
    """Neither strings nor secrets are shown."""
    secret = CsImageSecretInfo(password=kind(HIDDEN))
    version = CsVersion(**REQUIRED, image_secret_info=secret, env_params={"A": kind(HIDDEN)})
    assert secret == CsImageSecretInfo(password=HIDDEN)
    assert "S3CRET" not in repr(version) + repr(CsVersionConfig(env_params={"A": kind(HIDDEN)}))


@pytest.mark.parametrize(
    "fields",
    [
        {"image_secret_info": {"password": HIDDEN}},
        {"env_params": {"A": HIDDEN, "B": 5}},
        {"env_params": {"A": f"{HIDDEN}\ud800"}},
    ],
    ids=["dict", "number", "surrogate"],
)
def test_rejected_version_shows_no_secret(fields):
    """Neither the message nor a frame of the traceback contains it."""
    with pytest.raises(wxtcb.InvalidArgument) as caught:
        CsVersion(**REQUIRED, **fields)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert "S3CRET" not in str(caught.value)
    assert not [frame for frame in frames if frame.filename != __file__ and "S3CRET" in str(frame.locals)]


@pytest.mark.parametrize("times", [0, 1, 2], ids=["as it is", "as in the text", "as in the request"])
async def test_echoed_secret_variable_is_redacted(session, platform, times):
    """The error shows `***` in its place, however the value was escaped."""
    echoed = HIDDEN
    for _ in range(times):
        echoed = json.dumps(echoed)[1:-1]
    platform.replies = [{"errcode": 40097, "errmsg": f"bad {echoed} rid: 5f-1"}]
    version = CsVersion(**REQUIRED, env_params={"A": wxtcb.Secret(HIDDEN)})
    with pytest.raises(wxtcb.InvalidRequest, match=r"bad \*\*\* rid") as caught:
        await containers.create_cs_version(session, version, env="e")
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert not [frame for frame in frames if frame.filename != __file__ and "S3CRET" in str(frame.locals)]


@pytest.mark.parametrize(
    ("written", "read"),
    [("", {}), ("null", {}), (None, None), ("{}", {}), ('{"A":"a","PORT":80}', {"A": wxtcb.Secret("a"), "PORT": 80})],
)
async def test_variables_are_returned_as_a_mapping(session, platform, written, read):
    """They are JSON in a string, empty without variables, and in no repr; strings among them are secrets."""
    platform.replies = [{**DONE, "version_name": "v", "env_params": written}]
    detail = await containers.get_cs_version_detail(session, "e", "s", "v")
    assert (detail.env_params, detail.version_name) == (read, "v")
    assert "PORT" not in repr(detail)


@pytest.mark.parametrize("is_missing", [True, False], ids=["absent", "null"])
@pytest.mark.parametrize("reply", [containers.NewCsVersion, containers.CsVersionDetail, containers.CsVersionList])
async def test_every_field_of_a_version_is_optional(session, platform, reply, is_missing):
    """A missing or null field is None, also for a version of a list."""
    empty = {} if is_missing else dict.fromkeys([*WIRE_NAMES, "total", "version_name"])
    platform.replies = [{**DONE, **empty, "items": [empty]}]
    found = await session.call(wxtcb.Endpoint("/x", reply, wxtcb.Repeat.READ), {})
    assert found == (reply(items=(CsVersionInfo(),)) if reply is containers.CsVersionList else reply())


async def test_field_of_the_wrong_type_is_a_bad_reply(session, platform):
    """A number in a string is not a number here."""
    platform.replies = [{**DONE, "container_port": "80"}]
    with pytest.raises(wxtcb.BadReply, match=r"container_port"):
        await containers.get_cs_version_detail(session, "e", "s", "v")


async def test_variables_that_are_not_a_mapping_are_a_bad_reply(session, platform):
    """The error names the field and does not quote its value."""
    platform.replies = [{**DONE, "env_params": "hunter2"}]
    with pytest.raises(wxtcb.BadReply, match="env_params") as bad:
        await containers.get_cs_version_detail(session, "e", "s", "v")
    assert "hunter2" not in str(bad.value)


async def test_all_pages_are_iterated(session, platform):
    """The next offset is the number of entries received."""
    platform.replies = [{**DONE, "total": 2, "items": [{"version_name": name}]} for name in "ab"]
    found = [each async for each in containers.iter_versions(session, "e", "s", page_size=1)]
    assert found == [CsVersionInfo(version_name=name) for name in "ab"]
    requested = [{"env": "e", "service_name": "s", "limit": 1, "offset": offset} for offset in (0, 1)]
    assert platform.bodies == requested


@pytest.mark.parametrize("spelling", ["errormsg", "errmsg"])
@pytest.mark.parametrize(
    "call",
    [
        lambda session: containers.batch_create_cs_version(session, CsVersion(**REQUIRED), envs=["e", "f"]),
        lambda session: containers.batch_del_cs_version(session, [VersionRef(**REF)]),
        lambda session: containers.batch_set_cs_propotion(session, [TrafficSplit(**SPLIT)]),
    ],
    ids=["create", "delete", "split"],
)
async def test_partial_failure_of_a_batch_is_raised(session, platform, call, spelling):
    """The error has successes and failures in every spelling of the reason; a view returns the reply."""
    platform.replies = [{**DONE, "succ_list": [{"env": "e"}], "fail_list": [{"env": "f", spelling: "no"}]}]
    with pytest.raises(wxtcb.PartialFailure) as partial:
        await call(session)
    assert partial.value.failed == (BatchFailure(env="f", errmsg="no"),)
    assert partial.value.reply.succ_list == (BatchEntry(env="e"),)
    assert await call(session.with_options(partial="return")) == partial.value.reply


@pytest.mark.parametrize("reply", [DONE, {**DONE, "succ_list": None, "fail_list": None}], ids=["absent", "null"])
async def test_lists_of_a_batch_result_are_optional(session, platform, reply):
    """A reply without lists is an empty result."""
    platform.replies = [reply]
    assert await containers.batch_del_cs_version(session, [VersionRef(**REF)]) == containers.BatchResult()

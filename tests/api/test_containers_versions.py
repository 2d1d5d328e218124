"""Versions of container services: every field, every rule, and what comes of many at once."""

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
    CodeDetail,
    CsVersion,
    CsVersionConfig,
    CsVersionInfo,
    ImageInfo,
    ImageSecretInfo,
    RepositoryName,
    TrafficSplit,
    VersionFlow,
    VersionRef,
)

DONE = {"errcode": 0, "errmsg": "ok"}
LEAST = {"service_name": "echo", "upload_type": "image"}
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
        ImageInfo(**IMAGE),
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
    ("code_detail", CodeDetail(url="u"), {"code_detail": {"url": "u"}}),
    ("code_detail", CodeDetail(name=RepositoryName(name="n")), {"code_detail": {"name": {"name": "n"}}}),
    ("code_detail", CodeDetail(name=RepositoryName(full_name="o/n")), {"code_detail": {"name": {"fullname": "o/n"}}}),
    (
        "image_secret_info",
        ImageSecretInfo(registry_server="r", user_name="u", password="p", email="m"),
        {"image_secret_info": {"registryserver": "r", "username": "u", "password": "p", "email": "m"}},
    ),
    ("image_secret_info", ImageSecretInfo(), {"image_secret_info": {}}),
    ("image_pull_secret", "name", {"image_pulls_secret": "name"}),
    ("custom_logs", "stdout", {"custom_logs": "stdout"}),
    ("mount_wx_token", False, {"mount_wx_token": False}),
]


def refusals(kind, least, name, values):
    """Make the cases of one field that refuses each of *values*."""
    return [pytest.param(kind, least, name, value, id=f"{kind.__name__}-{name}-{value!r}") for value in values]


TEXTS, NUMBERS, PERCENTS = [5, b"x", ["x"]], ["1", True, 1.5], [-1, 101, "50", True, 0.5]
SPLIT = {"env": "e", "service_name": "s", "items": [VersionFlow(version_name="v", flow_ratio=100)]}
VARIABLES = ["{}", ["A"], {"A": 1}, {"A": None}, {"": "a"}, {5: "a"}, {"A": "\ud800"}]


@pytest.mark.parametrize(("name", "value", "sent"), FIELDS)
async def test_a_field_goes_out_under_the_platforms_name(session, platform, name, value, sent):
    """Each optional field is sent when given, under its own spelling, to one environment and to many alike."""
    platform.replies = [DONE]
    version = CsVersion(**LEAST, **{name: value})
    await containers.create_cs_version(session, version, env="e")
    await containers.batch_create_cs_version(session, version, envs=["e", "f"])
    assert platform.bodies == [
        {"env": "e", **LEAST, **sent},
        {"envs": ["e", "f"], **LEAST, **sent},
    ]


def test_every_field_of_a_version_is_tried():
    """The cases above leave no field out."""
    assert {name for name, *_ in FIELDS} | set(LEAST) == {each.name for each in CsVersion.__attrs_attrs__}


@pytest.mark.parametrize(
    ("kind", "least", "name", "value"),
    [
        *refusals(CsVersion, LEAST, "service_name", ["", *TEXTS]),
        *refusals(CsVersion, LEAST, "upload_type", ["", None]),
        *refusals(CsVersion, LEAST, "flow_ratio", PERCENTS),
        *refusals(CsVersion, LEAST, "cpu", ["0.5", True, float("nan"), float("inf")]),
        *refusals(CsVersion, LEAST, "mem", ["1"]),
        *refusals(CsVersion, LEAST, "min_num", [-1, "1", True, 0.5]),
        *refusals(CsVersion, LEAST, "max_num", [51, "1", True, 0.5]),
        *refusals(CsVersion, LEAST, "policy_threshold", NUMBERS),
        *refusals(CsVersion, LEAST, "env_params", VARIABLES),
        *refusals(CsVersion, LEAST, "image_info", [{"tagname": "t"}]),
        *refusals(CsVersion, LEAST, "code_detail", ["n", RepositoryName()]),
        *refusals(CsVersion, LEAST, "mount_wx_token", [1, "true"]),
        *refusals(CodeDetail, {}, "name", ["n"]),
        *refusals(RepositoryName, {}, "full_name", TEXTS),
        *refusals(ImageSecretInfo, {}, "password", TEXTS),
        *refusals(ImageSecretInfo, {}, "user_name", TEXTS),
        *(case for name in IMAGE for case in refusals(ImageInfo, IMAGE, name, [None, 5])),
        *refusals(CsVersionConfig, {}, "min_num", [-1]),
        *refusals(CsVersionConfig, {}, "max_num", [51]),
        *refusals(CsVersionConfig, {}, "container_port", NUMBERS),
        *refusals(CsVersionConfig, {}, "env_params", VARIABLES),
        *refusals(VersionFlow, {"version_name": "v", "flow_ratio": 1}, "flow_ratio", [*PERCENTS, None]),
        *refusals(VersionFlow, {"version_name": "v", "flow_ratio": 1}, "version_name", [""]),
        *(case for name in REF for case in refusals(VersionRef, REF, name, ["", 5])),
        *refusals(TrafficSplit, SPLIT, "items", [[], None, [("v", 100)], {"v": 100}]),
        *refusals(TrafficSplit, SPLIT, "env", [""]),
        *refusals(TrafficSplit, SPLIT, "service_name", [None]),
    ],
)
def test_a_field_that_breaks_a_rule_is_refused_by_name(kind, least, name, value):
    """The message names class and field; nothing of another type or outside of the documented bounds passes."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{kind.__name__}: {name}\b"):
        kind(**{**least, name: value})


@pytest.mark.parametrize(("shares", "allowed"), [([100], 1), ([80, 20], 1), ([0, 0], 1), ([80], 0), ([60, 60], 0)])
def test_the_shares_of_a_split_total_100_or_0(shares, allowed):
    """Any other sum is refused, and the message says which it was."""
    items = [VersionFlow(version_name=f"v-{number}", flow_ratio=share) for number, share in enumerate(shares)]
    if allowed:
        assert TrafficSplit(**{**SPLIT, "items": items}).items == tuple(items)
    else:
        with pytest.raises(wxtcb.InvalidArgument, match=f"must total 100 or 0, not {sum(shares)}"):
            TrafficSplit(**{**SPLIT, "items": items})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda session: containers.create_cs_version(session, {}, env="e"), "version must be CsVersion"),
        (lambda session: containers.create_cs_version(session, CsVersion(**LEAST), env=""), "env must be"),
        (lambda session: containers.batch_create_cs_version(session, None, envs=["e"]), "version must be CsVersion"),
        (lambda session: containers.batch_create_cs_version(session, CsVersion(**LEAST), envs=[]), "envs must hold"),
        (lambda session: containers.batch_create_cs_version(session, CsVersion(**LEAST), envs="e"), "envs must be"),
        (lambda session: containers.get_cs_version_list(session, "", "s"), "env must be"),
        (lambda session: containers.get_cs_version_list(session, "e", ""), "service_name must be"),
        (lambda session: containers.get_cs_version_list(session, "e", "s", limit="5"), "limit must be"),
        (lambda session: containers.get_cs_version_list(session, "e", "s", offset=True), "offset must be"),
        (lambda session: containers.get_cs_version_detail(session, "e", "s", ""), "version_name must be"),
        (lambda session: containers.wait_until_version_normal(session, "e", None, "v"), "service_name must be"),
        (lambda session: containers.wait_until_version_normal(session, "e", "s", "v", timeout=0), "timeout must be"),
        (
            lambda session: containers.set_cs_version_config(session, "e", "s", "v", {"minnum": 1}),
            "config must be CsVersionConfig",
        ),
        (lambda session: containers.set_cs_version_config(session, 5, "s", "v", CsVersionConfig()), "env must be"),
        (lambda session: containers.del_cs_version(session, "e", " ", "v"), "service_name must be"),
        (lambda session: containers.batch_del_cs_version(session, []), "items must hold"),
        (lambda session: containers.batch_del_cs_version(session, [("e", "s", "v")]), r"items\[0\] must be VersionRef"),
        (lambda session: containers.set_cs_propotion(session, {}), "split must be TrafficSplit"),
        (lambda session: containers.batch_set_cs_propotion(session, []), "items must hold"),
        (lambda session: containers.batch_set_cs_propotion(session, TrafficSplit(**SPLIT)), "items must be a list"),
    ],
    ids=itertools.count(),
)
async def test_arguments_are_checked_before_anything_is_sent(session, platform, call, message):
    """What cannot be right is refused by its name, and buys no token."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{message}"):
        await call(session)
    assert (platform.sent, platform.bought) == ([], [])


async def test_only_what_is_given_of_a_configuration_is_sent(session, platform):
    """Whether the platform resets what is left out is not documented, so nothing is put in its place."""
    platform.replies = [DONE]
    config = CsVersionConfig(custom_logs="", env_params={"A": wxtcb.Secret("a")})
    await containers.set_cs_version_config(session, "e", "s", "v", config)
    assert platform.bodies == [{**REF, "custom_logs": "", "env_params": '{"A":"a"}'}]


def test_variables_stay_as_they_were_checked():
    """What becomes of the mapping that was given changes nothing."""
    given = {"A": "a"}
    config = CsVersionConfig(env_params=given)
    given["B"] = None
    assert config.env_params == {"A": "a"}


@pytest.mark.parametrize(
    "value",
    [
        CsVersion(**LEAST, env_params={"A": "a"}),
        CsVersionConfig(env_params={"A": "a"}),
        containers.CsVersionDetail(env_params={"A": "a"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_holds_variables_can_be_in_a_set(value):
    """A mapping has no hash: the variables are compared, but are no part of it."""
    others = {attrs.evolve(value, env_params=each) for each in ({"A": "a"}, {"A": "b"}, None)}
    assert (len(others), value in others) == (3, True)


@pytest.mark.parametrize("kind", [str, wxtcb.Secret])
def test_variables_and_passwords_show_in_no_repr(kind):
    """However they are given."""
    secret = ImageSecretInfo(password=kind(HIDDEN))
    version = CsVersion(**LEAST, image_secret_info=secret, env_params={"A": kind(HIDDEN)})
    assert secret == ImageSecretInfo(password=HIDDEN)
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
def test_no_secret_shows_when_a_version_is_refused(fields):
    """Neither in the message nor in a frame of the traceback."""
    with pytest.raises(wxtcb.InvalidArgument) as caught:
        CsVersion(**LEAST, **fields)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert "S3CRET" not in str(caught.value)
    assert not [frame for frame in frames if frame.filename != __file__ and "S3CRET" in str(frame.locals)]


@pytest.mark.parametrize("times", [0, 1, 2], ids=["as it is", "as in the text", "as in the request"])
async def test_a_secret_variable_that_the_platform_quotes_is_hidden(session, platform, times):
    """A message with the value, however it was escaped on its way, shows `***` in its place."""
    echoed = HIDDEN
    for _ in range(times):
        echoed = json.dumps(echoed)[1:-1]
    platform.replies = [{"errcode": 40097, "errmsg": f"bad {echoed} rid: 5f-1"}]
    version = CsVersion(**LEAST, env_params={"A": wxtcb.Secret(HIDDEN)})
    with pytest.raises(wxtcb.InvalidRequest, match=r"bad \*\*\* rid") as refused:
        await containers.create_cs_version(session, version, env="e")
    frames = traceback.TracebackException.from_exception(refused.value, capture_locals=True).stack
    assert not [frame for frame in frames if frame.filename != __file__ and "S3CRET" in str(frame.locals)]


@pytest.mark.parametrize(
    ("written", "read"),
    [("", {}), ("null", {}), (None, None), ("{}", {}), ('{"A":"a","PORT":80}', {"A": "a", "PORT": 80})],
)
async def test_the_variables_of_a_version_come_as_a_mapping(session, platform, written, read):
    """They are JSON in a text, which is empty where there are none, and are in no repr."""
    platform.replies = [{**DONE, "version_name": "v", "env_params": written}]
    detail = await containers.get_cs_version_detail(session, "e", "s", "v")
    assert (detail.env_params, detail.version_name) == (read, "v")
    assert "PORT" not in repr(detail)


@pytest.mark.parametrize("gone", [True, False], ids=["absent", "null"])
@pytest.mark.parametrize("reply", [containers.NewCsVersion, containers.CsVersionDetail, containers.CsVersionList])
async def test_no_field_of_a_version_is_promised(session, platform, reply, gone):
    """What is missing or null is None, in a version of a list too."""
    empty = {} if gone else dict.fromkeys([*WIRE_NAMES, "total", "version_name"])
    platform.replies = [{**DONE, **empty, "items": [empty]}]
    found = await session.call(wxtcb.Endpoint("/x", reply, wxtcb.Repeat.READ), {})
    assert found == (reply(items=(CsVersionInfo(),)) if reply is containers.CsVersionList else reply())


async def test_a_field_of_another_type_is_told_by_its_place(session, platform):
    """A number in a text is no number here."""
    platform.replies = [{**DONE, "container_port": "80"}]
    with pytest.raises(wxtcb.BadReply, match=r"container_port"):
        await containers.get_cs_version_detail(session, "e", "s", "v")


async def test_variables_that_are_no_mapping_are_told_by_their_place(session, platform):
    """The error names the field, and quotes nothing of it."""
    platform.replies = [{**DONE, "env_params": "hunter2"}]
    with pytest.raises(wxtcb.BadReply, match="env_params") as bad:
        await containers.get_cs_version_detail(session, "e", "s", "v")
    assert "hunter2" not in str(bad.value)


async def test_all_versions_are_gone_through_page_by_page(session, platform):
    """The next page begins after as many as came."""
    platform.replies = [{**DONE, "total": 2, "items": [{"version_name": name}]} for name in "ab"]
    found = [each async for each in containers.iter_versions(session, "e", "s", page_size=1)]
    assert found == [CsVersionInfo(version_name=name) for name in "ab"]
    asked = [{"env": "e", "service_name": "s", "limit": 1, "offset": offset} for offset in (0, 1)]
    assert platform.bodies == asked


@pytest.mark.parametrize("spelling", ["errormsg", "errmsg"])
@pytest.mark.parametrize(
    "call",
    [
        lambda session: containers.batch_create_cs_version(session, CsVersion(**LEAST), envs=["e", "f"]),
        lambda session: containers.batch_del_cs_version(session, [VersionRef(**REF)]),
        lambda session: containers.batch_set_cs_propotion(session, [TrafficSplit(**SPLIT)]),
    ],
    ids=["create", "delete", "split"],
)
async def test_a_batch_that_failed_in_part_is_raised(session, platform, call, spelling):
    """With what succeeded and what did not, however this call spells the reason; a view may have it returned."""
    platform.replies = [{**DONE, "succ_list": [{"env": "e"}], "fail_list": [{"env": "f", spelling: "no"}]}]
    with pytest.raises(wxtcb.PartialFailure) as partial:
        await call(session)
    assert partial.value.failed == (BatchFailure(env="f", errmsg="no"),)
    assert partial.value.reply.succ_list == (BatchEntry(env="e"),)
    assert await call(session.with_options(partial="return")) == partial.value.reply


@pytest.mark.parametrize("reply", [DONE, {**DONE, "succ_list": None, "fail_list": None}], ids=["absent", "null"])
async def test_a_batch_may_tell_of_nothing(session, platform, reply):
    """No list of the reply is promised."""
    platform.replies = [reply]
    assert await containers.batch_del_cs_version(session, [VersionRef(**REF)]) == containers.BatchResult()

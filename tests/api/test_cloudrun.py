"""Cloud-hosting services: every field, and every argument that is refused."""

from __future__ import annotations

import re
import traceback

import pytest

import wxtcb
from wxtcb.api import cloudrun
from wxtcb.errors import InvalidArgument

DONE = {"errcode": 0, "errmsg": "ok"}
LEAST = {"env_id": "test-6gxk23no5605e14f", "service_name": "ss1", "is_public": True}
ES = {
    "id": 0,
    "secret_name": "name",
    "ip": "10.0.0.1",
    "port": 9200,
    "index": "",
    "account": "elastic",
    "password": "es-password",
}
VPC = {"vpc_id": "vpc-1", "subnet_ids": ["s-1", "s-2"], "create_type": 0}
OPTIONS = {"image_repo": "registry/ss1", "remark": "", "log_type": "cls", "public_access": 0}
WRONG_TEXTS = [1, True, b"text", ["text"], {}]
WRONG_NUMBERS = ["1", True, False, 1.0, [1]]


async def establish(session, platform, **options):
    """Create a service with *options* and return the body that went out."""
    platform.replies = [DONE]
    await cloudrun.establish_cloudbaserun_server(session, cloudrun.Server(**LEAST, **options))
    [body] = platform.bodies
    return body


def refusals(kind, name, values):
    """Make the cases of one field that refuses each of *values*."""
    return [pytest.param(kind, name, value, id=f"{kind.__name__}-{name}-{value!r}") for value in values]


async def test_only_what_is_given_is_sent(session, platform):
    """A service with nothing but its required fields sends these three."""
    assert await establish(session, platform) == LEAST


@pytest.mark.parametrize(("name", "value"), OPTIONS.items())
async def test_an_option_goes_out_under_its_own_name(session, platform, name, value):
    """Each optional field is sent when given, also where it is empty or 0."""
    assert await establish(session, platform, **{name: value}) == {**LEAST, name: value}


@pytest.mark.parametrize(("name", "value"), ES.items())
async def test_a_field_of_es_info_goes_out_under_its_own_name(session, platform, name, value):
    """All seven are sent alone when given alone, the password in clear."""
    assert await establish(session, platform, es_info=cloudrun.EsInfo(**{name: value})) == {
        **LEAST,
        "es_info": {name: value},
    }


@pytest.mark.parametrize(("name", "value"), VPC.items())
async def test_a_field_of_vpc_info_goes_out_under_its_own_name(session, platform, name, value):
    """All three are sent alone when given alone."""
    assert await establish(session, platform, vpc_info=cloudrun.VpcInfo(**{name: value})) == {
        **LEAST,
        "vpc_info": {name: value},
    }


async def test_a_service_that_is_not_public_says_so(session, platform):
    """False is sent, not left out."""
    platform.replies = [DONE]
    await cloudrun.establish_cloudbaserun_server(session, cloudrun.Server(**{**LEAST, "is_public": False}))
    assert platform.bodies == [{**LEAST, "is_public": False}]


async def test_empty_subnets_and_an_empty_password_are_sent(session, platform):
    """What is empty but given is sent."""
    es, vpc = cloudrun.EsInfo(password=""), cloudrun.VpcInfo(subnet_ids=[])
    body = await establish(session, platform, es_info=es, vpc_info=vpc)
    assert (body["es_info"], body["vpc_info"]) == ({"password": ""}, {"subnet_ids": []})


@pytest.mark.parametrize("password", ["es-password", wxtcb.Secret("es-password")], ids=["text", "secret"])
def test_the_password_is_kept_as_a_secret(password):
    """However it is given, the password shows in no repr, and equal ones are equal."""
    es = cloudrun.EsInfo(password=password)
    assert es.password == wxtcb.Secret("es-password")
    assert "es-password" not in repr(cloudrun.Server(**LEAST, es_info=es))
    assert es == cloudrun.EsInfo(password="es-password")


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *refusals(cloudrun.Server, "env_id", [*WRONG_TEXTS, None, "", " "]),
        *refusals(cloudrun.Server, "service_name", [*WRONG_TEXTS, None, "", " "]),
        *refusals(cloudrun.Server, "is_public", [None, 0, 1, "true"]),
        *refusals(cloudrun.Server, "image_repo", WRONG_TEXTS),
        *refusals(cloudrun.Server, "remark", WRONG_TEXTS),
        *refusals(cloudrun.Server, "log_type", WRONG_TEXTS),
        *refusals(cloudrun.Server, "public_access", WRONG_NUMBERS),
        *refusals(cloudrun.Server, "es_info", [{"id": 1}, cloudrun.VpcInfo(), "es"]),
        *refusals(cloudrun.Server, "vpc_info", [{"vpc_id": "v"}, cloudrun.EsInfo(), ["s-1"]]),
        *refusals(cloudrun.EsInfo, "id", WRONG_NUMBERS),
        *refusals(cloudrun.EsInfo, "secret_name", WRONG_TEXTS),
        *refusals(cloudrun.EsInfo, "ip", WRONG_TEXTS),
        *refusals(cloudrun.EsInfo, "port", WRONG_NUMBERS),
        *refusals(cloudrun.EsInfo, "index", WRONG_TEXTS),
        *refusals(cloudrun.EsInfo, "account", WRONG_TEXTS),
        *refusals(cloudrun.EsInfo, "password", [1, True, b"text", ["text"]]),
        *refusals(cloudrun.VpcInfo, "vpc_id", WRONG_TEXTS),
        *refusals(cloudrun.VpcInfo, "subnet_ids", ["s-1", b"s-1", 1, ["s-1", 2], [""], [None], [["s-1"]]]),
        *refusals(cloudrun.VpcInfo, "create_type", WRONG_NUMBERS),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_by_name(kind, name, value):
    """Every field has one type: a bool is no int, an int no bool, one text no list; the message names the field."""
    fields = {**(LEAST if kind is cloudrun.Server else {}), name: value}
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{kind.__name__}: {name}\b"):
        kind(**fields)


def test_a_refused_password_is_not_quoted():
    """A password of the wrong type stays out of the message."""
    with pytest.raises(wxtcb.InvalidArgument) as refused:
        cloudrun.EsInfo(password=b"hunter2")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("server", [None, LEAST, "ss1", cloudrun.EsInfo()], ids=["None", "dict", "text", "EsInfo"])
async def test_only_a_server_can_be_established(session, platform, server):
    """Anything else is refused before a token is bought or anything sent."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^server must be Server"):
        await cloudrun.establish_cloudbaserun_server(session, server)
    assert (platform.sent, platform.bought) == ([], [])


async def test_a_name_that_exists_is_refused_with_the_platforms_words(session, platform):
    """40097 is a refusal with errmsg and rid, not sent again, and hides an echoed password."""
    platform.replies = [{"errcode": 40097, "errmsg": "service exists es-password rid: 5f-1"}]
    server = cloudrun.Server(**LEAST, es_info=cloudrun.EsInfo(password="es-password"))
    with pytest.raises(wxtcb.InvalidRequest, match=re.escape("service exists *** rid: 5f-1")) as refused:
        await cloudrun.establish_cloudbaserun_server(session, server)
    assert (refused.value.errcode, refused.value.rid, len(platform.sent)) == (40097, "5f-1", 1)


def test_no_password_shows_when_a_server_is_refused():
    """A dict where an `EsInfo` belongs is the commonest mistake, and holds the password in clear."""
    with pytest.raises(InvalidArgument) as caught:
        cloudrun.Server(env_id="e", service_name="s", is_public=True, es_info={"password": "S3CRET"})
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert not [frame for frame in frames if frame.filename != __file__ and "S3CRET" in str(frame.locals)]

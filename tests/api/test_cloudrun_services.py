"""Cloud-hosting services: every field, and every argument that is rejected."""

from __future__ import annotations

import re
import traceback

import pytest

import wxtcb
from wxtcb.api import cloudrun
from wxtcb.errors import InvalidArgument

DONE = {"errcode": 0, "errmsg": "ok"}
REQUIRED = {"env_id": "test-6gxk23no5605e14f", "service_name": "ss1", "is_public": True}
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


async def establish(session, platform, **options):
    """Create a service with *options* and return the body of the request."""
    platform.replies = [DONE]
    await cloudrun.establish_cloudbaserun_server(session, cloudrun.Server(**REQUIRED, **options))
    [body] = platform.bodies
    return body


def rejections(kind, name, values):
    """Return the test cases of one field that rejects each of *values*."""
    return [pytest.param(kind, name, value, id=f"{kind.__name__}-{name}-{value!r}") for value in values]


async def test_only_given_fields_are_sent(session, platform):
    """A service with only its required fields sends these three."""
    assert await establish(session, platform) == REQUIRED


@pytest.mark.parametrize(("name", "value"), OPTIONS.items())
async def test_optional_field_is_sent_under_its_name(session, platform, name, value):
    """Each optional field is sent if it is given, also if it is empty or 0."""
    assert await establish(session, platform, **{name: value}) == {**REQUIRED, name: value}


@pytest.mark.parametrize(("name", "value"), ES.items())
async def test_field_of_es_info_is_sent_under_its_name(session, platform, name, value):
    """Each of the seven fields is sent alone if it is given alone, the password in plain text."""
    assert await establish(session, platform, es_info=cloudrun.EsInfo(**{name: value})) == {
        **REQUIRED,
        "es_info": {name: value},
    }


@pytest.mark.parametrize(("name", "value"), VPC.items())
async def test_field_of_vpc_info_is_sent_under_its_name(session, platform, name, value):
    """Each of the three fields is sent alone if it is given alone."""
    assert await establish(session, platform, vpc_info=cloudrun.VpcInfo(**{name: value})) == {
        **REQUIRED,
        "vpc_info": {name: value},
    }


async def test_private_service_sends_false(session, platform):
    """False is sent, not omitted."""
    platform.replies = [DONE]
    await cloudrun.establish_cloudbaserun_server(session, cloudrun.Server(**{**REQUIRED, "is_public": False}))
    assert platform.bodies == [{**REQUIRED, "is_public": False}]


async def test_empty_subnets_and_empty_password_are_sent(session, platform):
    """Empty values that are given are sent."""
    es, vpc = cloudrun.EsInfo(password=""), cloudrun.VpcInfo(subnet_ids=[])
    body = await establish(session, platform, es_info=es, vpc_info=vpc)
    assert (body["es_info"], body["vpc_info"]) == ({"password": ""}, {"subnet_ids": []})


@pytest.mark.parametrize("password", ["es-password", wxtcb.Secret("es-password")], ids=["text", "secret"])
def test_password_is_stored_as_a_secret(password):
    """A password given as a string or as a `Secret` is in no repr, and both compare equal."""
    es = cloudrun.EsInfo(password=password)
    assert es.password == wxtcb.Secret("es-password")
    assert "es-password" not in repr(cloudrun.Server(**REQUIRED, es_info=es))
    assert es == cloudrun.EsInfo(password="es-password")


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *rejections(cloudrun.Server, "env_id", ["", " "]),
        *rejections(cloudrun.Server, "service_name", ["", " "]),
        *rejections(cloudrun.Server, "log_type", ["foo", "", 1]),
        *rejections(cloudrun.Server, "public_access", [3, -1, True, "1"]),
        *rejections(cloudrun.Server, "es_info", [{"id": 1}, cloudrun.VpcInfo(), "es"]),
        *rejections(cloudrun.EsInfo, "password", [1, True, b"text", ["text"]]),
        *rejections(cloudrun.VpcInfo, "subnet_ids", ["s-1", [""]]),
    ],
)
def test_invalid_field_is_rejected_by_name(kind, name, value):
    """Empty names, a string in place of a list, and values that would show a secret are rejected."""
    fields = {**(REQUIRED if kind is cloudrun.Server else {}), name: value}
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{kind.__name__}: {name}\b"):
        kind(**fields)


def test_rejected_password_is_not_quoted():
    """A password of the wrong type is not in the message."""
    with pytest.raises(wxtcb.InvalidArgument) as caught:
        cloudrun.EsInfo(password=b"hunter2")
    assert "hunter2" not in str(caught.value)


async def test_existing_name_is_rejected_with_the_platforms_message(session, platform):
    """40097 raises `InvalidRequest` with errmsg and rid, is not retried, and redacts an echoed password."""
    platform.replies = [{"errcode": 40097, "errmsg": "service exists es-password rid: 5f-1"}]
    server = cloudrun.Server(**REQUIRED, es_info=cloudrun.EsInfo(password="es-password"))
    with pytest.raises(wxtcb.InvalidRequest, match=re.escape("service exists *** rid: 5f-1")) as caught:
        await cloudrun.establish_cloudbaserun_server(session, server)
    assert (caught.value.errcode, caught.value.rid, len(platform.sent)) == (40097, "5f-1", 1)


def test_password_is_not_in_the_traceback_of_a_rejected_server():
    """A dict in place of an `EsInfo`, a common mistake, shows its password in no frame."""
    with pytest.raises(InvalidArgument) as caught:
        cloudrun.Server(env_id="e", service_name="s", is_public=True, es_info={"password": "S3CRET"})
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert not [frame for frame in frames if frame.filename != __file__ and "S3CRET" in str(frame.locals)]


async def test_service_needs_an_environment(session, platform):
    """A server without `env_id` is for tenants, whose environment does not exist yet."""
    with pytest.raises(wxtcb.InvalidArgument, match="server: env_id is missing; no request was sent"):
        await cloudrun.establish_cloudbaserun_server(session, cloudrun.Server(service_name="s", is_public=True))
    assert platform.sent == []

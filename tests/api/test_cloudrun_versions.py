"""Versions of cloud-hosting services: validation, secrets, and failures under errcode 0."""

from __future__ import annotations

import inspect
import traceback

import attrs
import orjson
import pytest

import wxtcb
from wxtcb._protocol.codec import encode_body
from wxtcb._protocol.fields import wire_fields_of
from wxtcb._protocol.structuring import structure_hook
from wxtcb.api import cloudrun
from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS

NAMES = {"env_id": "e-1", "service_name": "s", "version_name": "s-001"}
REQUIRED = {
    "env_id": "e-1",
    "service_name": "s",
    "upload_type": "image",
    "flow_ratio": 100,
    "cpu": 0.25,
    "mem": 0.5,
    "min_num": 0,
    "max_num": 1,
    "policy_type": "cpu",
    "policy_threshold": 60,
    "container_port": 80,
}
UPDATE = {"env_id": "e-1", "version_name": "latest"}
CREATE, ROLL, DELETE, RELEASE = (
    cloudrun.CREATE_CLOUDBASERUN_SERVER_VERSION,
    cloudrun.ROLL_UPDATE_CLOUDBASERUN_SERVER_VERSION,
    cloudrun.DELETE_CLOUDBASERUN_SERVER_VERSION,
    cloudrun.RELEASE_CLOUDBASERUN_VERSION,
)
CALLING = {
    CREATE: lambda session: cloudrun.create_cloudbaserun_server_version(session, cloudrun.Version(**REQUIRED)),
    ROLL: lambda session: cloudrun.roll_update_cloudbaserun_server_version(session, cloudrun.VersionUpdate(**UPDATE)),
    DELETE: lambda session: cloudrun.delete_cloudbaserun_server_version(session, **NAMES),
    RELEASE: lambda session: cloudrun.release_cloudbaserun_version(session, **NAMES),
}


def reply(**fields):
    """Return a reply with errcode 0."""
    return {"errcode": 0, "errmsg": "ok", **fields}


def encoded(value):
    """Return the JSON that is sent for a value."""
    return orjson.loads(encode_body({"it": value}, endpoint="/x").data)["it"]


@pytest.mark.parametrize("calling", CALLING.values(), ids=[each.name for each in CALLING])
@pytest.mark.parametrize("result", ["failed", "fail", "FAILED", "weird"])
async def test_failed_result_is_a_partial_failure(session, platform, calling, result):
    """Under errcode 0 a failed result is raised, with the reply and the result on the error."""
    platform.replies = [reply(result=result)]
    with pytest.raises(wxtcb.PartialFailure, match=result) as caught:
        await calling(session)
    assert (caught.value.reply.result, caught.value.failed) == (result, (result,))


@pytest.mark.parametrize("calling", CALLING.values(), ids=[each.name for each in CALLING])
@pytest.mark.parametrize("fields", [{"result": each} for each in ("succ", "success", "creating", "", None)] + [{}])
async def test_successful_or_missing_result_is_returned(session, platform, calling, fields):
    """Both spellings of success, a running build, and a missing result are returned."""
    platform.replies = [reply(**fields)]
    assert (await calling(session)).result == fields.get("result")


@pytest.mark.parametrize(
    ("endpoint", "repeat"),
    [(CREATE, "ONCE"), (ROLL, "ONCE"), (RELEASE, "ONCE"), (DELETE, "SET")],
)
def test_only_delete_is_repeatable(endpoint, repeat):
    """A repeat of the others would start another build, rollout or release."""
    assert endpoint.repeat.name == repeat


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"flow_ratio": -1}, "flow_ratio"),
        ({"flow_ratio": 101}, "flow_ratio"),
        ({"min_num": -1}, "min_num"),
        ({"max_num": 51}, "max_num"),
        ({"min_num": 3, "max_num": 2}, "min_num"),
        ({"upload_type": "jar"}, "upload_filename is required"),
        ({"upload_type": "war", "upload_filename": ""}, "upload_filename is required"),
        ({"cpu": "0.25"}, "cpu must be"),
        ({"mem": True}, "mem must be"),
        ({"cpu": float("nan")}, "cpu must be"),
        ({"mem": float("inf")}, "mem must be"),
        ({"env_params": "{}"}, "env_params"),
        ({"env_params": {"": "x"}}, "env_params"),
        ({"env_params": {"N": "\ud800"}}, "env_params: N"),
        ({"env_params": {"N": 1}}, "env_params: N"),
        ({"sidecar_specs": [{"cpu": 1}]}, r"sidecar_specs\[0\]"),
    ],
)
def test_invalid_version_is_rejected(fields, words):
    """The message names class, field and rule."""
    with pytest.raises(wxtcb.InvalidArgument, match=f"^Version: {words}"):
        cloudrun.Version(**{**REQUIRED, **fields})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"flow_ratio": 101}, "flow_ratio"),
        ({"min_num": -1}, "min_num"),
        ({"min_num": 3, "max_num": 2}, "min_num"),
        ({"min_num": "1"}, "min_num"),
        ({"cpu": "0.25"}, "cpu must be"),
    ],
)
def test_invalid_update_is_rejected(fields, words):
    """Numbers are numbers in Python, although they are strings on the wire."""
    with pytest.raises(wxtcb.InvalidArgument, match=f"^VersionUpdate: {words}"):
        cloudrun.VersionUpdate(**{**UPDATE, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"flow_ratio": 0, "min_num": 50, "max_num": 50},
        {"upload_type": "zip"},
        {"upload_type": "jar", "upload_filename": "a.jar"},
        {"cpu": 1, "mem": 2},
        {"policy_type": "anything", "policy_threshold": 1000},
    ],
)
def test_undocumented_values_are_accepted(fields):
    """Values at the documented bounds, and texts without a documented set, are accepted."""
    cloudrun.Version(**{**REQUIRED, **fields})


@pytest.mark.parametrize(
    "fields", [{"max_num": 51}, {"min_num": 0}, {"upload_type": "jar"}, {"cpu": 1e-07}, {"service_name": "s"}]
)
def test_update_follows_its_own_page(fields):
    """Its page has no maximum of replicas, and requires no file name."""
    cloudrun.VersionUpdate(**{**UPDATE, **fields})


@pytest.mark.parametrize(
    ("fields", "wire"),
    [
        ({"cpu": 0.25, "mem": 2}, {"cpu": "0.25", "mem": "2"}),
        ({"cpu": 1e-07}, {"cpu": "0.0000001"}),
        (
            {"min_num": 0, "max_num": 3, "policy_threshold": 60},
            {"min_num": "0", "max_num": "3", "policy_threshold": "60"},
        ),
        ({"flow_ratio": 0, "container_port": 80}, {"flow_ratio": 0, "container_port": 80}),
        ({"service_name": "s"}, {"server_name": "s"}),
        ({"env_params": {}}, {"env_params": "{}"}),
        ({"env_params": {"A": 'x"y', "B": ""}}, {"env_params": '{"A":"x\\"y","B":""}'}),
        ({"mount_volume_info": []}, {"mount_volume_info": []}),
        ({"is_rebuild": False}, {"is_rebuild": False}),
    ],
)
def test_update_is_sent_in_the_documented_form(fields, wire):
    """Five numbers are strings, environment variables are JSON in a string, and None is not sent."""
    assert encoded(cloudrun.VersionUpdate(**UPDATE, **fields)) == {**UPDATE, **wire}


@pytest.mark.parametrize(("kind", "endpoint"), [(cloudrun.Version, CREATE), (cloudrun.VersionUpdate, ROLL)])
def test_class_has_exactly_the_documented_fields(kind, endpoint):
    """The wire names of a class are those of the platform's page."""
    assert {place.wire_name for place in wire_fields_of(kind)} == set(
        ENDPOINT_SCHEMAS[endpoint.path].body_schemas[None].fields
    )


@pytest.mark.parametrize(
    "value",
    [
        cloudrun.Version(
            **REQUIRED, env_params={"A": "1"}, sidecar_specs=[cloudrun.SidecarSpec(env_var={"B": ""}, mem=64)]
        ),
        cloudrun.VersionUpdate(**UPDATE, cpu=0.5, min_num=1, env_params={"A": "1"}),
    ],
)
def test_version_round_trips(value):
    """What is sent can be read into an equal value."""
    assert structure_hook(type(value))(encoded(value), type(value)) == value


def test_environment_variables_are_copied_and_in_no_repr():
    """A later change of the caller's mapping has no effect, and the repr shows no variable."""
    mine = {"KEY": "in-clear", "TOKEN": wxtcb.Secret("secret-value")}
    version = cloudrun.Version(**REQUIRED, env_params=mine, sidecar_specs=[cloudrun.SidecarSpec(env_var=mine)])
    mine["KEY"] = "changed"
    assert version.env_params["KEY"] == version.sidecar_specs[0].env_var["KEY"] == wxtcb.Secret("in-clear")
    assert not any(text in repr(version) for text in ("in-clear", "secret-value", "KEY"))
    assert hash(version) == hash(version)


async def test_secrets_of_a_version_are_redacted_in_errors(session, platform):
    """Passwords and secret variables are redacted, also in the form of the JSON in a string."""
    platform.replies = [{"errcode": 40097, "errmsg": 'bad pass-word, k"1, k\\"1 rid: 5f-1'}]
    account = cloudrun.ImageSecretInfo(user_name="me", password="pass-word")
    version = cloudrun.Version(**REQUIRED, image_secret_info=account, env_params={"K": wxtcb.Secret('k"1')})
    with pytest.raises(wxtcb.InvalidRequest) as caught:
        await cloudrun.create_cloudbaserun_server_version(session, version)
    assert "bad ***, ***, ***" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (cloudrun.Version, {**REQUIRED, "env_params": {"K": "S3CRET"}, "flow_ratio": 101}),
        (cloudrun.Version, {**REQUIRED, "image_secret_info": {"password": "S3CRET"}}),
        (cloudrun.Version, {**REQUIRED, "sidecar_specs": '[{"env_var": "S3CRET"}]'}),
        (cloudrun.VersionUpdate, {**UPDATE, "env_params": "S3CRET"}),
        (cloudrun.VersionSettings, {"env_params": ["S3CRET"]}),
        (cloudrun.SidecarSpec, {"env_var": {"K": b"S3CRET"}}),
        (cloudrun.ImageSecretInfo, {"password": b"S3CRET"}),
    ],
)
def test_rejected_class_shows_no_secret(kind, fields):
    """Neither the message nor the local variables in the traceback contain a secret."""
    with pytest.raises(wxtcb.InvalidArgument) as caught:
        kind(**fields)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert "S3CRET" not in str(caught.value)
    assert not [frame for frame in frames if frame.filename != __file__ and "S3CRET" in str(frame.locals)]


def test_required_fields_are_the_first_arguments() -> None:
    """Editors show them first. The docstring explains every field."""
    for kind in (cloudrun.Version, cloudrun.VersionUpdate):
        required = [parameter.default is parameter.empty for parameter in inspect.signature(kind).parameters.values()]
        assert required == sorted(required, reverse=True)
    names = {field.name for field in attrs.fields(cloudrun.Version)}
    assert [name for name in names if f"`{name}`" not in cloudrun.Version.__doc__] == []

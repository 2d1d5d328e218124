"""Versions of cloud-hosting services: what is refused, what is secret, and failure under errcode 0."""

from __future__ import annotations

import traceback

import orjson
import pytest

import wxtcb
from wxtcb._protocol.codec import encode_body
from wxtcb._protocol.converter import structure_hook
from wxtcb._protocol.fields import wire_fields_of
from wxtcb.api import cloudrun
from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS

NAMES = {"env_id": "e-1", "service_name": "s", "version_name": "s-001"}
LEAST = {
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
    CREATE: lambda session: cloudrun.create_cloudbaserun_server_version(session, cloudrun.Version(**LEAST)),
    ROLL: lambda session: cloudrun.roll_update_cloudbaserun_server_version(session, cloudrun.VersionUpdate(**UPDATE)),
    DELETE: lambda session: cloudrun.delete_cloudbaserun_server_version(session, **NAMES),
    RELEASE: lambda session: cloudrun.release_cloudbaserun_version(session, **NAMES),
}


def reply(**fields):
    """Make a reply with errcode 0."""
    return {"errcode": 0, "errmsg": "ok", **fields}


def written(value):
    """Return what goes out for a value."""
    return orjson.loads(encode_body({"it": value}, endpoint="/x").data)["it"]


@pytest.mark.parametrize("calling", CALLING.values(), ids=[each.name for each in CALLING])
@pytest.mark.parametrize("result", ["failed", "fail", "FAILED", "weird"])
async def test_a_result_that_is_no_success_is_a_partial_failure(session, platform, calling, result):
    """Errcode 0 does not help: the reply hangs on the error, with the result as what failed."""
    platform.replies = [reply(result=result)]
    with pytest.raises(wxtcb.PartialFailure, match=result) as caught:
        await calling(session)
    assert (caught.value.reply.result, caught.value.failed) == (result, (result,))


@pytest.mark.parametrize("calling", CALLING.values(), ids=[each.name for each in CALLING])
@pytest.mark.parametrize("fields", [{"result": each} for each in ("succ", "success", "creating", "", None)] + [{}])
async def test_a_result_that_is_well_or_missing_is_returned(session, platform, calling, fields):
    """Both spellings of success, a version that is still being built, and none at all."""
    platform.replies = [reply(**fields)]
    assert (await calling(session)).result == fields.get("result")


@pytest.mark.parametrize(
    ("endpoint", "repeat"),
    [(CREATE, "ONCE"), (ROLL, "ONCE"), (RELEASE, "ONCE"), (DELETE, "SET")],
)
def test_only_a_delete_may_be_sent_twice(endpoint, repeat):
    """Another build, rollout or release is what the others would start."""
    assert endpoint.repeat.name == repeat


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"flow_ratio": -1}, "flow_ratio must be a whole number from 0 to 100, not -1"),
        ({"flow_ratio": 101}, "flow_ratio must be a whole number from 0 to 100"),
        ({"flow_ratio": 50.0}, "flow_ratio must be a whole number"),
        ({"min_num": -1}, "min_num must be a whole number from 0 to 50"),
        ({"max_num": 51}, "max_num must be a whole number from 0 to 50"),
        ({"min_num": 3, "max_num": 2}, "min_num must not be above max_num, but 3 > 2"),
        ({"upload_type": "jar"}, "upload_filename is required where upload_type is jar"),
        ({"upload_type": "war", "upload_filename": ""}, "upload_filename is required"),
        ({"cpu": "0.25"}, "cpu must be a number, not '0.25'"),
        ({"mem": True}, "mem must be a number"),
        ({"cpu": float("nan")}, "cpu must be a number"),
        ({"mem": float("inf")}, "mem must be a number"),
        ({"env_id": ""}, "env_id"),
        ({"service_name": " "}, "service_name"),
        ({"upload_type": ""}, "upload_type"),
        ({"env_params": "{}"}, "env_params must be a mapping"),
        ({"env_params": {"": "x"}}, "env_params: a name"),
        ({"env_params": {"N": "\ud800"}}, "env_params: N must be a text or a Secret, in proper Unicode"),
        ({"env_params": {"N": 1}}, "env_params: N must be a text or a Secret, in proper Unicode"),
        ({"image_info": {"tag_name": "t"}}, "image_info must be ImageInfo"),
        ({"code_detail": "test/demo"}, "code_detail must be CodeDetail"),
        ({"sidecar_specs": cloudrun.SidecarSpec()}, "sidecar_specs must be a list of SidecarSpec, not SidecarSpec"),
        ({"sidecar_specs": [{"cpu": 1}]}, r"sidecar_specs\[0\] must be SidecarSpec, not dict"),
        ({"mount_volume_info": [cloudrun.NfsVolume()]}, r"mount_volume_info\[0\] must be VolumeMount"),
        ({"service_volumes": "v"}, "service_volumes must be a list"),
        ({"service_volume_mounts": [None]}, r"service_volume_mounts\[0\]"),
        ({"policy_detail": [cloudrun.PolicyDetail(), 1]}, r"policy_detail\[1\] must be PolicyDetail"),
    ],
)
def test_a_version_that_breaks_a_rule_is_refused(fields, words):
    """The message names class, field and rule."""
    with pytest.raises(wxtcb.InvalidArgument, match=f"^Version: {words}"):
        cloudrun.Version(**{**LEAST, **fields})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"version_name": ""}, "version_name"),
        ({"flow_ratio": 101}, "flow_ratio must be a whole number from 0 to 100"),
        ({"min_num": -1}, "min_num must be a whole number from 0 on, not -1"),
        ({"min_num": 3, "max_num": 2}, "min_num must not be above max_num"),
        ({"min_num": "1"}, "min_num must be a whole number"),
        ({"cpu": "0.25"}, "cpu must be a number"),
    ],
)
def test_a_roll_over_that_breaks_a_rule_is_refused(fields, words):
    """Numbers are numbers in Python, whatever they are on the wire."""
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
def test_nothing_is_refused_that_no_page_rules_out(fields):
    """Bounds are within, and words that are not documented as the only ones pass."""
    cloudrun.Version(**{**LEAST, **fields})


@pytest.mark.parametrize(
    "fields", [{"max_num": 51}, {"min_num": 0}, {"upload_type": "jar"}, {"cpu": 1e-07}, {"service_name": "s"}]
)
def test_a_roll_over_is_held_to_its_own_page(fields):
    """No page bounds its replicas above, or asks for a file name."""
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
def test_a_roll_over_goes_out_as_its_page_has_it(fields, wire):
    """Five numbers are strings there, environment variables JSON in a string; what is not given is not sent."""
    assert written(cloudrun.VersionUpdate(**UPDATE, **fields)) == {**UPDATE, **wire}


@pytest.mark.parametrize(("kind", "endpoint"), [(cloudrun.Version, CREATE), (cloudrun.VersionUpdate, ROLL)])
def test_every_field_of_the_page_has_its_place(kind, endpoint):
    """None is missing, and none is there that the page does not name."""
    assert {place.wire_name for place in wire_fields_of(kind)} == set(
        ENDPOINT_SCHEMAS[endpoint.path].body_schemas[None].fields
    )


@pytest.mark.parametrize(
    "value",
    [
        cloudrun.Version(
            **LEAST, env_params={"A": "1"}, sidecar_specs=[cloudrun.SidecarSpec(env_var={"B": ""}, mem=64)]
        ),
        cloudrun.VersionUpdate(**UPDATE, cpu=0.5, min_num=1, env_params={"A": "1"}),
    ],
)
def test_a_deployment_is_read_back_as_it_was(value):
    """What went out can be read into an equal value."""
    assert structure_hook(type(value))(written(value), type(value)) == value


def test_environment_variables_are_copied_and_shown_nowhere():
    """A change of the caller's mapping does not reach the version, and its repr has none of them."""
    mine = {"KEY": "in-clear", "TOKEN": wxtcb.Secret("secret-value")}
    version = cloudrun.Version(**LEAST, env_params=mine, sidecar_specs=[cloudrun.SidecarSpec(env_var=mine)])
    mine["KEY"] = "changed"
    assert version.env_params["KEY"] == version.sidecar_specs[0].env_var["KEY"] == "in-clear"
    assert not any(text in repr(version) for text in ("in-clear", "secret-value", "KEY"))
    assert hash(version) == hash(version)


async def test_secrets_of_a_version_are_blotted_out_of_what_the_platform_says(session, platform):
    """Passwords, and secrets among the environment variables, as they are and as the JSON in a string has them."""
    platform.replies = [{"errcode": 40097, "errmsg": 'bad pass-word, k"1, k\\"1 rid: 5f-1'}]
    account = cloudrun.ImageSecretInfo(user_name="me", password="pass-word")
    version = cloudrun.Version(**LEAST, image_secret_info=account, env_params={"K": wxtcb.Secret('k"1')})
    with pytest.raises(wxtcb.InvalidRequest) as refused:
        await cloudrun.create_cloudbaserun_server_version(session, version)
    assert "bad ***, ***, ***" in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (cloudrun.Version, {**LEAST, "env_params": {"K": "S3CRET"}, "flow_ratio": 101}),
        (cloudrun.Version, {**LEAST, "image_secret_info": {"password": "S3CRET"}}),
        (cloudrun.Version, {**LEAST, "sidecar_specs": '[{"env_var": "S3CRET"}]'}),
        (cloudrun.VersionUpdate, {**UPDATE, "env_params": "S3CRET"}),
        (cloudrun.VersionSettings, {"env_params": ["S3CRET"]}),
        (cloudrun.SidecarSpec, {"env_var": {"K": b"S3CRET"}}),
        (cloudrun.ImageSecretInfo, {"password": b"S3CRET"}),
    ],
)
def test_a_refused_class_forgets_its_secrets(kind, fields):
    """Neither message nor traceback shows them, locals included."""
    with pytest.raises(wxtcb.InvalidArgument) as caught:
        kind(**fields)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert "S3CRET" not in str(caught.value)
    assert not [frame for frame in frames if frame.filename != __file__ and "S3CRET" in str(frame.locals)]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        *(({each: ""}, each) for each in NAMES),
        *(({each: None}, each) for each in NAMES),
        ({"is_delete_server": 1}, "is_delete_server"),
        ({"is_delete_image": "no"}, "is_delete_image"),
    ],
)
async def test_a_delete_says_exactly_what_goes(session, platform, arguments, name):
    """Empty names, and flags that are none, are refused before anything is sent."""
    with pytest.raises(wxtcb.InvalidArgument, match=f"^{name} must be"):
        await cloudrun.delete_cloudbaserun_server_version(session, **{**NAMES, **arguments})
    assert platform.sent == []


@pytest.mark.parametrize("name", NAMES)
async def test_a_release_names_one_version(session, platform, name):
    """Empty names are refused before anything is sent."""
    with pytest.raises(wxtcb.InvalidArgument, match=f"^{name} must be"):
        await cloudrun.release_cloudbaserun_version(session, **{**NAMES, name: ""})
    assert platform.sent == []


async def test_only_the_class_of_a_call_can_be_sent(session, platform):
    """A version is no update, and a mapping neither."""
    version, update = cloudrun.Version(**LEAST), cloudrun.VersionUpdate(**UPDATE)
    for wrong in (update, LEAST, None):
        with pytest.raises(wxtcb.InvalidArgument, match=r"^version must be Version"):
            await cloudrun.create_cloudbaserun_server_version(session, wrong)
    for wrong in (version, UPDATE, None):
        with pytest.raises(wxtcb.InvalidArgument, match=r"^update must be VersionUpdate"):
            await cloudrun.roll_update_cloudbaserun_server_version(session, wrong)
    assert platform.sent == []

"""What one call is: its path, its reply, its name and whether it may be repeated."""

from __future__ import annotations

import copy
import inspect
import pickle

import attrs
import pytest

import wxtcb
from wxtcb import Credential, Done, Endpoint, InvalidArgument, Repeat, Reply, raw
from wxtcb.api import cloudrun, containers, environment, token
from wxtcb.api.environment import NewEnv
from wxtcb.endpoint import mark

CALLS = [
    ("create_env", "/componenttcb/createenv", Repeat.ONCE, Credential.COMPONENT),
    ("describe_envs", "/componenttcb/describeenvs", Repeat.READ, Credential.COMPONENT),
    ("batch_share_env", "/componenttcb/batchshareenv", Repeat.SET, Credential.COMPONENT),
    ("batch_get_env_id", "/componenttcb/batchgetenvid", Repeat.READ, Credential.COMPONENT),
    (
        "establish_cloudbaserun_server",
        "/componenttcb/establishcloudbaserunserver",
        Repeat.ONCE,
        Credential.COMPONENT,
    ),
    ("open_container_service", "/componenttcb/opencontainerservice", Repeat.ONCE, Credential.COMPONENT),
    ("create_container_service", "/componenttcb/createcontainerservice", Repeat.ONCE, Credential.COMPONENT),
    ("get_cs_list", "/componenttcb/getcslist", Repeat.READ, Credential.COMPONENT),
    ("del_container_service", "/componenttcb/delcontainerservice", Repeat.SET, Credential.COMPONENT),
    ("create_cs_version", "/componenttcb/createcsversion", Repeat.ONCE, Credential.COMPONENT),
    ("batch_create_cs_version", "/componenttcb/batchcreatecsversion", Repeat.ONCE, Credential.COMPONENT),
    ("get_cs_version_list", "/componenttcb/getcsversionlist", Repeat.READ, Credential.COMPONENT),
    ("get_cs_version_detail", "/componenttcb/getcsversiondetail", Repeat.READ, Credential.COMPONENT),
    ("set_cs_version_config", "/componenttcb/setcsversionconfig", Repeat.SET, Credential.COMPONENT),
    ("del_cs_version", "/componenttcb/delcsversion", Repeat.SET, Credential.COMPONENT),
    ("batch_del_cs_version", "/componenttcb/batchdelcsversion", Repeat.SET, Credential.COMPONENT),
    ("set_cs_propotion", "/componenttcb/setcspropotion", Repeat.SET, Credential.COMPONENT),
    ("batch_set_cs_propotion", "/componenttcb/batchsetcspropotion", Repeat.SET, Credential.COMPONENT),
    ("api_component_token", "/cgi-bin/component/api_component_token", Repeat.ONCE, Credential.NONE),
    ("api_start_push_ticket", "/cgi-bin/component/api_start_push_ticket", Repeat.SET, Credential.NONE),
]


def test_every_call_is_listed_with_its_documented_path_and_effect():
    """`endpoints` lists each call once, with the path, the effect and the credential of the platform's pages."""
    assert [(each.name, each.path, each.repeat, each.credential) for each in wxtcb.endpoints()] == CALLS


@pytest.mark.parametrize("endpoint", wxtcb.endpoints(), ids=lambda endpoint: endpoint.name)
def test_every_call_has_a_coroutine_of_its_name(endpoint):
    """The coroutine named like the endpoint takes the session first, gives its reply, and names the official page."""
    rooms = (environment, cloudrun, containers, token)
    [verb] = [getattr(room, endpoint.name) for room in rooms if hasattr(room, endpoint.name)]
    signature = inspect.signature(verb)
    assert inspect.iscoroutinefunction(verb)
    assert next(iter(signature.parameters)) == "session"
    assert signature.return_annotation == endpoint.reply.__name__
    assert "Official interface: " in " ".join(verb.__doc__.split())


def test_the_name_defaults_to_the_last_segment_of_the_path():
    """An endpoint that is given no name takes it from its path."""
    assert Endpoint("/tcb/modifyenv", Done, Repeat.SET).name == "modifyenv"


def test_a_call_needs_the_component_token_unless_said_otherwise():
    """The credential defaults to the component_access_token."""
    assert Endpoint("/x", Done, Repeat.READ).credential is Credential.COMPONENT


def test_an_endpoint_is_a_value():
    """Endpoints are frozen, equal by their fields and fit for a set."""
    made = Endpoint("/x", Done, Repeat.READ)
    assert len({made, Endpoint("/x", Done, Repeat.READ)}) == 1
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.path = "/y"


def test_a_reply_tells_of_no_failure_unless_it_has_one():
    """A plain reply has no failed entries and no earlier attempts that may have acted."""
    assert not Done().failed
    assert Done().maybe_acted == 0


def test_a_reply_tells_of_earlier_attempts_once_noted():
    """What the exchange notes on a frozen reply is what `maybe_acted` says."""
    reply = Done()
    object.__setattr__(reply, "_maybe_acted", 2)
    assert reply.maybe_acted == 2


def test_replies_keep_their_json_unless_it_holds_a_secret():
    """Only the reply that carries a new token gives up its raw JSON."""
    assert Reply.keeps_raw
    assert [each.name for each in wxtcb.endpoints() if not each.reply.keeps_raw] == ["api_component_token"]


@pytest.mark.parametrize(
    "path", ["", "/", "componenttcb/createenv", "@evil.example/x", "/a?b=c", "/a#b", "/a b", None, 5]
)
def test_an_endpoint_refuses_a_path_that_would_lead_elsewhere(path):
    """The token goes to base_url + path, so nothing of the host may hide in it."""
    with pytest.raises(InvalidArgument, match="path"):
        Endpoint(path, Done, Repeat.READ)


@pytest.mark.parametrize("reply", [dict, object, Reply, None, "Done"])
def test_an_endpoint_refuses_what_is_no_reply_class(reply):
    """A reply is an attrs class derived from `Reply`."""
    with pytest.raises(InvalidArgument, match="reply"):
        Endpoint("/tcb/x", reply, Repeat.READ)


@pytest.mark.parametrize("options", [{"repeat": None}, {"repeat": "READ"}, {"repeat": Repeat.READ, "credential": None}])
def test_an_endpoint_refuses_another_repeat_or_credential(options):
    """Taken for something else they would let a create be sent twice."""
    with pytest.raises(InvalidArgument):
        Endpoint("/tcb/x", Done, **options)


@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, lambda reply: pickle.loads(pickle.dumps(reply))])
def test_a_reply_travels_with_its_json_and_its_warning(travel):
    """Copied or pickled, a reply still says how many earlier attempts may have acted."""
    reply = mark(NewEnv("t", "e"), raw=b'{"env": "e"}', maybe_acted=2)
    there = travel(reply)
    assert (there, there.maybe_acted, raw(there)) == (reply, 2, {"env": "e"})

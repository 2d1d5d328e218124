"""What one call is: its path, its reply, its name and whether it may be repeated."""

from __future__ import annotations

import copy
import pickle

import attrs
import pytest

from wxtcb import Credential, Done, Endpoint, InvalidArgument, Repeat, Reply, raw
from wxtcb._protocol.endpoint import attach_metadata
from wxtcb.api.environment import NewEnv
from wxtcb.tokens.providers import ComponentToken


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


def test_replies_keep_their_json_unless_told_otherwise():
    """The one with a new token gives up its raw JSON."""
    assert Reply.keeps_raw
    assert not ComponentToken.keeps_raw


@pytest.mark.parametrize("options", [{"official": None}, {"action": ""}, {"action": 5}])
def test_an_endpoint_refuses_an_action_or_a_name_that_is_no_text(options):
    """An action goes out as it is."""
    with pytest.raises(InvalidArgument):
        Endpoint("/tcb/x", Done, Repeat.READ, **options)


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
    reply = attach_metadata(NewEnv("t", "e"), raw=b'{"env": "e"}', maybe_acted=2)
    there = travel(reply)
    assert (there, there.maybe_acted, raw(there)) == (reply, 2, {"env": "e"})

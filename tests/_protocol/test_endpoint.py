"""Endpoints and replies: path, name, idempotency, and the metadata of a reply."""

from __future__ import annotations

import copy
import pickle

import attrs
import pytest

from wxtcb import Credential, Done, Endpoint, InvalidArgument, Repeat, Reply, raw
from wxtcb._protocol.endpoint import attach_metadata
from wxtcb.api.environment import NewEnv
from wxtcb.tokens.providers import ComponentToken


def test_name_defaults_to_the_last_segment_of_the_path():
    """An endpoint without a name is named by its path."""
    assert Endpoint("/tcb/modifyenv", Done, Repeat.SET).name == "modifyenv"


def test_credential_defaults_to_the_component_token():
    """Most calls send the component_access_token."""
    assert Endpoint("/x", Done, Repeat.READ).credential is Credential.COMPONENT


def test_endpoint_is_a_value():
    """Endpoints are frozen, compared by their fields and hashable."""
    endpoint = Endpoint("/x", Done, Repeat.READ)
    assert len({endpoint, Endpoint("/x", Done, Repeat.READ)}) == 1
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        endpoint.path = "/y"


def test_plain_reply_has_no_failures():
    """A reply has no failed entries and no earlier attempts by default."""
    assert not Done().failed
    assert Done().maybe_acted == 0


def test_reply_has_the_number_of_earlier_attempts():
    """`maybe_acted` returns the number that the executor attached."""
    assert attach_metadata(Done(), maybe_acted=2).maybe_acted == 2


def test_reply_with_a_token_does_not_store_its_json():
    """Other replies store it."""
    assert Reply.keeps_raw
    assert not ComponentToken.keeps_raw


@pytest.mark.parametrize("options", [{"official": None}, {"action": ""}, {"action": 5}])
def test_action_and_official_name_must_be_strings(options):
    """An action is sent unchanged, so it must not be empty."""
    with pytest.raises(InvalidArgument):
        Endpoint("/tcb/x", Done, Repeat.READ, **options)


@pytest.mark.parametrize(
    "path", ["", "/", "componenttcb/createenv", "@evil.example/x", "/a?b=c", "/a#b", "/a b", None, 5]
)
def test_path_that_could_change_the_host_is_rejected(path):
    """The token is sent to base_url + path."""
    with pytest.raises(InvalidArgument, match="path"):
        Endpoint(path, Done, Repeat.READ)


@pytest.mark.parametrize("reply", [dict, object, Reply, None, "Done"])
def test_reply_must_be_an_attrs_class_derived_from_reply(reply):
    """Other classes are rejected."""
    with pytest.raises(InvalidArgument, match="reply"):
        Endpoint("/tcb/x", reply, Repeat.READ)


@pytest.mark.parametrize("options", [{"repeat": None}, {"repeat": "READ"}, {"repeat": Repeat.READ, "credential": None}])
def test_repeat_and_credential_must_be_members_of_their_enums(options):
    """A wrong value could make a create be sent twice."""
    with pytest.raises(InvalidArgument):
        Endpoint("/tcb/x", Done, **options)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda reply: pickle.loads(pickle.dumps(reply))])
def test_copied_or_pickled_reply_keeps_its_metadata(duplicate):
    """A copy has the JSON and the number of earlier attempts."""
    reply = attach_metadata(NewEnv("t", "e"), raw=b'{"env": "e"}', maybe_acted=2)
    result = duplicate(reply)
    assert (result, result.maybe_acted, raw(result)) == (reply, 2, {"env": "e"})

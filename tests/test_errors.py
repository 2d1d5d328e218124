"""Errors: the class of each errcode, the messages, and that errors can be copied and pickled."""

from __future__ import annotations

import copy
import pickle
from itertools import product

import pytest

from wxtcb import errors
from wxtcb._http.retry import RetryDecision, classify, decide
from wxtcb._protocol.endpoint import Repeat
from wxtcb._protocol.errcodes import ERRCODES, api_error
from wxtcb.api.environment import ShareFailure, ShareResult

PATH = "/componenttcb/createenv"

# Every code of the platform's pages, copied from the project's notes, and the classes that a client must distinguish.
KNOWN = """
    -601003 -601002 -601001 -504002 -504001 -503003 -503002 -503001 -502005 -502003 -502002 -502001 -501019 -501018
    -501017 -501016 -501015 -501009 -501008 -501007 -501006 -501005 -501004 -501003 -501002 -501001 -501000 -1000 -1
    40001 40002 40013 40014 40029 40066 40090 40091 40094 40097 40101 40125 40164 41001 41002 41004 41018 42001 42002
    42007 43001 43002 43003 44002 45002 45009 45011 45035 47001 48001 48004 48006 50001 50002 61000 61001 61003 61004
    61005 61006 61007 61009 61010 61011 61014 61015 61016 61017 61023 61024 61028 76001 76002 76003 76004 76021 76022
    85088 86000 89503
"""
CLASSES = [
    (errors.PlatformBusy, [-1]),
    (errors.CloudUnavailable, [-1000, -501001, -501002, -502011, -601001, -601003]),
    (errors.InvalidToken, [40001, 40014, 42001, 40094]),
    (errors.InvalidTicket, [61005, 61006, 40091]),
    (errors.InvalidAppSecret, [40125]),
    (errors.RateLimited, [45011]),
    (errors.QuotaExceeded, [45009, 48006]),
    (errors.IPNotAllowed, [40164, 61004, 45035, 40090]),
    (errors.PermissionDenied, [48001, 61003, 61007, 61016, 61017, 85088]),
    (errors.AccountBlocked, [48004, 50002, 61011]),
    (
        errors.InvalidRequest,
        [40013, 40066, 40097, 40101, 41001, 41002, 41004, 41018, 43001, 43002, 43003, 44002, 45002, 47001, 61014],
    ),
]
PERMANENT = """
    40002 40029 40125 42002 42007 50001 61000 61001 61009 61010 61015 61023 61024 61028 76001 76002 76003 76004 76021
    76022 86000 89503
"""
ADVICE = [
    (-1, "later"),
    (-1000, "check first"),
    (42001, "no longer the latest"),
    (45009, "reset"),
    (48006, "next month"),
    (61004, "list of allowed addresses"),
    (40164, "open.weixin.qq.com"),
    (61005, "api.token.api_start_push_ticket"),
    (61006, "next push"),
    (40125, "component_appsecret"),
    (85088, "cloud development"),
    (48001, "permission"),
    (45011, "next minute"),
    (44002, "rid"),
    (-501005, "environment id"),
]


def tree_of(root):
    """Return *root* and its subclasses, without those that other modules and tests define."""
    return {root}.union(*(tree_of(each) for each in root.__subclasses__() if each.__module__ == errors.__name__))


def annotated(error):
    """Set everything on *error* that the executor and the token cache may set."""
    error.maybe_acted, error.retry_after = 2, 4.5
    error.add_note("tried 2 times; attempts and backoffs took 3.0 s")
    return error


FAILURE = ShareFailure(env="e", appid="wx1", errmsg="invalid appid")
API_CLASSES = sorted(tree_of(errors.ApiError), key=lambda each: each.__name__)
OPERATIONS = [errors.OperationNotReady, errors.OperationTimeout, errors.OperationFailed, errors.OperationNotFound]
PLAIN = [errors.WxtcbError, errors.InvalidArgument, errors.SessionClosed, errors.WrongLoop, errors.TicketError]
ONE_OF_EACH = [
    *(each("words", endpoint=PATH) for each in PLAIN),
    errors.SendVetoed(endpoint=PATH),
    errors.TicketMissing(),
    errors.TicketExpired(50_000.0),
    errors.TokenFetchLimit(30, 12.0),
    errors.TokenConflict(5, 16.0),
    errors.TokenStoreError("failed (OSError in x.py, line 3)"),
    errors.TransportError("no reply in time", endpoint=PATH, sent=True, timeout=True),
    errors.BadReply("no number", endpoint=PATH, status=200, permanent=True, reply={"errcode": 0, "env": "e-1"}),
    errors.OutcomeUnknown(annotated(errors.CloudUnavailable(-1000, "system error", endpoint=PATH)), endpoint=PATH),
    errors.PartialFailure(ShareResult(err_list=(FAILURE,)), [FAILURE], endpoint=PATH),
    errors.TransferError("no luck", status=403, code="AccessDenied", request_id="r-1", stored=None, bytes_sent=7),
    *(each("still running", resource="job 7", status="running", env="e-1") for each in OPERATIONS),
    *(each(40097, "invalid args", endpoint=PATH, rid="5f-a", hint="Check it.") for each in API_CLASSES),
]


def as_values(value):
    """Return everything that an error contains, in a form that can be compared."""
    if isinstance(value, BaseException):
        return type(value), str(value), repr(value), {name: as_values(each) for name, each in vars(value).items()}
    return value


def test_every_documented_code_has_advice():
    """No code of the platform's pages is missing from the table."""
    assert [code for code in map(int, KNOWN.split()) if code not in ERRCODES] == []


@pytest.mark.parametrize(("error_class", "codes"), CLASSES, ids=lambda each: getattr(each, "__name__", None))
def test_codes_with_the_same_treatment_share_a_class(error_class, codes):
    """Each code has the class of its treatment."""
    assert {code: type(api_error(code, "", endpoint=PATH)) for code in codes} == dict.fromkeys(codes, error_class)


def test_permanent_code_is_never_retried():
    """A code that the platform calls permanent is raised at once, for every kind of call."""
    decisions = {
        decide(repeat, classify(api_error(int(code), "", endpoint=PATH)))
        for repeat, code in product(Repeat, PERMANENT.split())
    }
    assert decisions == {RetryDecision.RAISE}


@pytest.mark.parametrize("code", sorted(ERRCODES))
def test_message_contains_path_code_effect_and_advice(code):
    """The message consists of path, code, errmsg, effect and a sentence of advice."""
    error_class, advice = ERRCODES[code]
    message = str(api_error(code, "the errmsg", endpoint=PATH))
    effect = "It may have taken effect." if error_class.ambiguous else "It had no effect."
    assert message == f"{PATH}: {code} the errmsg. {effect} {advice}"
    assert len(advice.split()) > 2
    assert advice.endswith(".")


@pytest.mark.parametrize(("code", "words"), ADVICE)
def test_advice_fits_the_code(code, words):
    """The advice says how to fix this failure."""
    assert words in str(api_error(code, "", endpoint=PATH))


@pytest.mark.parametrize("code", [-1, -1000, -501001, -601003])
def test_internal_failure_of_the_platform_may_have_taken_effect(code):
    """The message of -1, -1000 and the transient cloud codes does not claim that the call had no effect."""
    assert "It may have taken effect." in str(api_error(code, "system error", endpoint=PATH))


@pytest.mark.parametrize(
    ("code", "error_class"),
    [(-502999, errors.CloudError), (-10000, errors.CloudError), (-2, errors.ApiError), (99999, errors.ApiError)],
)
def test_unknown_code_is_a_cloud_error_or_a_plain_api_error(code, error_class):
    """An unknown code of the cloud is a `CloudError`, any other an `ApiError`; the message suggests where to look."""
    error = api_error(code, "what", endpoint=PATH)
    assert type(error) is error_class
    assert "Unknown to wxtcb" in str(error)


def test_api_error_has_the_platforms_values_as_attributes():
    """errcode, errmsg, rid and path are attributes."""
    error = api_error(40097, "invalid args rid: 5f-a", endpoint=PATH, rid="5f-a")
    values = (error.errcode, error.errmsg, error.rid, error.endpoint, error.maybe_acted, error.retry_after)
    assert values == (40097, "invalid args rid: 5f-a", "5f-a", PATH, 0, None)


@pytest.mark.parametrize("code", [40001, 40014, 40094, 42001, 40125])
def test_invalid_credential_on_a_call_without_token_is_the_app_secret(code):
    """The call that fetches the token sends no token, so only the app secret can be wrong."""
    error = api_error(code, "invalid credential", endpoint=PATH, without_token=True)
    assert type(error) is errors.InvalidAppSecret
    assert "component_appsecret" in str(error)
    assert error.errcode == code


def test_other_code_on_a_call_without_token_keeps_its_class():
    """Only the codes of an invalid token change their class."""
    assert type(api_error(61005, "", endpoint=PATH, without_token=True)) is errors.InvalidTicket


@pytest.mark.parametrize(
    ("error_class", "base"),
    [
        (errors.InvalidArgument, ValueError),
        (errors.OperationTimeout, TimeoutError),
        (errors.InvalidTicket, errors.TicketError),
        (errors.InvalidTicket, errors.ApiError),
    ],
)
def test_error_has_a_second_base_class(error_class, base):
    """Some errors can also be caught as a class of Python's, or of another branch."""
    assert issubclass(error_class, base)


def test_every_error_has_one_base_class():
    """Every exception class of the module is a `WxtcbError`."""
    defined = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)}
    assert defined == tree_of(errors.WxtcbError)


def test_module_docstring_shows_every_error():
    """The tree in the docstring of the module contains every class."""
    words = {word for line in errors.__doc__.splitlines() for word in line.split()}
    assert {each.__name__ for each in tree_of(errors.WxtcbError)} <= words


def test_examples_contain_every_error():
    """No class is missing from the examples of this file."""
    assert {type(error) for error in ONE_OF_EACH} == tree_of(errors.WxtcbError)


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_copied_or_pickled_error_is_complete(duplicate, error):
    """A copied or pickled error has the class, message, attributes and notes of the original."""
    result = duplicate(annotated(copy.copy(error)))
    assert as_values(result) == as_values(annotated(copy.copy(error)))
    assert result.__notes__ == ["tried 2 times; attempts and backoffs took 3.0 s"]
    assert str(result) == str(error) != ""


def test_copy_does_not_share_its_attributes():
    """Setting an attribute of a copy does not change the original."""
    error = api_error(-1, "", endpoint=PATH)
    copy.copy(error).retry_after = 9.0
    assert error.retry_after is None


def test_hint_is_appended_to_the_message():
    """`add_hint` appends a sentence and changes nothing else."""
    error = api_error(40097, "invalid args", endpoint=PATH)
    before = str(error)
    error.add_hint("Try env_type='run'.")
    assert str(error) == f"{before} Try env_type='run'."
    assert error.errcode == 40097


@pytest.mark.parametrize(("sent", "words"), [(True, "may have reached"), (False, "No request was sent")])
def test_transport_error_says_whether_the_request_was_sent(sent, words):
    """The message distinguishes the two cases, because the next step depends on it."""
    error = errors.TransportError("no luck", endpoint=PATH, sent=sent)
    assert str(error).startswith(f"{PATH}: no luck. ")
    assert words in str(error)
    assert (error.sent, error.timeout) == (sent, False)


def test_bad_reply_contains_the_http_status():
    """Status and reason are in the message; the status is an attribute too."""
    error = errors.BadReply("12 bytes, 'Bad Gateway'", endpoint=PATH, status=502)
    assert str(error) == f"{PATH}: HTTP 502, 12 bytes, 'Bad Gateway'. Is base_url right?"
    assert "base_url" not in str(errors.BadReply("no field env", endpoint=PATH, status=200))
    assert (error.status, error.permanent) == (502, False)


def test_unknown_outcome_has_its_cause_and_says_what_to_do():
    """The error that replaced the response is the cause; the message asks to check before retrying."""
    cause = errors.TransportError("no reply in time", endpoint=PATH, sent=True, timeout=True)
    error = errors.OutcomeUnknown(cause, endpoint=PATH)
    assert error.cause is cause
    assert "no reply in time" in str(error)
    assert "Check whether it took effect" in str(error)


def test_partial_failure_has_the_reply_and_the_failed_entries():
    """The failed entries are quoted and attached, and so is the whole reply."""
    reply = ShareResult(err_list=(FAILURE,))
    error = errors.PartialFailure(reply, [FAILURE], endpoint=PATH)
    assert error.reply is reply
    assert error.failed == (FAILURE,)
    assert "1 failed" in str(error)
    assert "wx1" in str(error)


def test_partial_failure_quotes_three_entries():
    """The message of a large batch quotes three entries and counts the others, which are in `failed`."""
    many = [ShareFailure(env="e", appid=f"wx{number}", errmsg="invalid appid") for number in range(500)]
    messages = {size: str(errors.PartialFailure(ShareResult(), many[:size], endpoint=PATH)) for size in (3, 4, 500)}
    assert "wx2" in messages[3]
    assert ["more" in messages[3], "and 1 more" in messages[4], "and 497 more" in messages[500]] == [False, True, True]
    assert len(messages[500]) < 500
    assert errors.PartialFailure(ShareResult(), many, endpoint=PATH).failed == tuple(many)


def test_token_fetch_limit_says_when_the_next_fetch_is_allowed():
    """The message contains the limit, the wait and the usual cause."""
    error = errors.TokenFetchLimit(30, 1234.4)
    assert error.retry_after == 1234.4
    assert "30 component_access_tokens" in str(error)
    assert "1234 s" in str(error)
    assert "share one token_store" in str(error)


@pytest.mark.parametrize(("resource", "env"), [("environment e-1", "e-1"), ("import job 7", None)])
def test_failed_operation_is_named(resource, env):
    """The resource is in the message; it is an attribute like the last status and the environment's id."""
    error = errors.OperationFailed("failed: stopped", resource=resource, status="HALTED", env=env)
    assert str(error) == f"{resource}: failed: stopped"
    assert (error.resource, error.status, error.env) == (resource, "HALTED", env)


@pytest.mark.parametrize(
    ("errmsg", "ip"),
    [
        ("invalid ip 203.0.113.7, not in whitelist rid: 5f-a", "203.0.113.7"),
        ("access clientip 203.0.113.7: not registered", "203.0.113.7"),
        ("invalid ip 2001:db8::1 ipv6", "2001:db8::1"),
        ("invalid ip ::1", "::1"),
        ("invalid ip", None),
    ],
)
def test_rejected_ip_address_is_read_from_the_message(errmsg, ip):
    """`ip` is the first address in errmsg, or None."""
    assert api_error(40164, errmsg, endpoint=PATH).ip == ip


def test_partial_failure_takes_over_the_facts_of_its_cause():
    """A batch that is sent in several calls may be ended by an error in one of them."""
    cause = annotated(errors.PlatformBusy(-1, "system error", endpoint=PATH))
    error = errors.PartialFailure(ShareResult(err_list=(FAILURE,)), [FAILURE], endpoint=PATH, cause=cause)
    assert (error.cause, error.maybe_acted, error.retry_after) == (cause, 2, 4.5)
    assert "-1 system error" in str(error)


@pytest.mark.parametrize("code", [42006, 41021, 45040])
def test_codes_of_the_public_tables_of_the_open_platform_are_known(code):
    """They have a class and advice, although the pages of the calls do not list them."""
    assert "Unknown to wxtcb" not in str(api_error(code, "", endpoint=PATH, repeat=Repeat.ONCE))
    assert "It had no effect." in str(api_error(code, "", endpoint=PATH, repeat=Repeat.ONCE))


def test_outcome_unknown_has_the_rid_of_its_cause():
    """A failed create can be looked up in WeChat's console."""
    cause = errors.CloudUnavailable(-1000, "system error", endpoint=PATH, rid="5f-a")
    assert errors.OutcomeUnknown(cause, endpoint=PATH).rid == "5f-a"


def test_outcome_unknown_has_the_reply_of_its_cause():
    """The id of what was created is not lost, and the message does not advise another create."""
    cause = errors.BadReply("no string", endpoint=PATH, status=200, reply={"errcode": 0, "env": "e-1"})
    error = errors.OutcomeUnknown(cause, endpoint=PATH)
    assert error.reply == {"errcode": 0, "env": "e-1"}
    assert "reported a success" in str(error)


def test_reason_of_the_platform_is_shown_on_one_line():
    """A reason with line breaks and escape sequences cannot forge a line of a log."""
    reason = "failed: busy\r\n2026-11-30 wxtcb INFO ok\x1b[2J" + "x" * 100_000
    error = errors.OperationFailed(reason, resource="job 7", status="fail")
    assert str(error).isprintable()
    assert len(str(error)) < 3000

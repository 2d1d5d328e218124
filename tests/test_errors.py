"""The tree of errors: which class a code gets, what the message says, and that errors travel whole."""

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

# Every code of the platform's pages and the classes that a client must treat apart, copied from the project's notes.
KNOWN = """
    -601003 -601002 -601001 -504002 -504001 -503003 -503002 -503001 -502005 -502003 -502002 -502001 -501019 -501018
    -501017 -501016 -501015 -501009 -501008 -501007 -501006 -501005 -501004 -501003 -501002 -501001 -501000 -1000 -1
    40001 40002 40013 40014 40029 40066 40090 40091 40094 40097 40101 40125 40164 41001 41002 41004 41018 42001 42002
    42007 43001 43002 43003 44002 45002 45009 45011 45035 47001 48001 48004 48006 50001 50002 61000 61001 61003 61004
    61005 61006 61007 61009 61010 61011 61014 61015 61016 61017 61023 61024 61028 76001 76002 76003 76004 76021 76022
    85088 86000 89503
"""
POLICY = [
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
WHAT_TO_DO = [
    (-1, "Try again later"),
    (-1000, "look first"),
    (42001, "no longer the latest"),
    (45009, "Wait for the reset"),
    (48006, "next month"),
    (61004, "Add the address"),
    (40164, "list of allowed addresses on open.weixin.qq.com"),
    (61005, "api.token.api_start_push_ticket"),
    (61006, "Wait for the next push"),
    (40125, "Check component_appsecret"),
    (85088, "Switch on cloud development"),
    (48001, "Ask for the right to this interface"),
    (45011, "next minute"),
    (44002, "report it with the rid"),
    (-501005, "Check the environment id"),
]


def kinds_of(root):
    """Return the tree below and with *root*, without what other rooms and the tests have made of it."""
    return {root}.union(*(kinds_of(kind) for kind in root.__subclasses__() if kind.__module__ == errors.__name__))


def noted(error):
    """Give *error* everything that the exchange and the cache may write on one."""
    error.maybe_acted, error.retry_after = 2, 4.5
    error.add_note("sent 2 times in 3.0 s")
    return error


REFUSED_APP = ShareFailure(env="e", appid="wx1", errmsg="invalid appid")
API_KINDS = sorted(kinds_of(errors.ApiError), key=lambda kind: kind.__name__)
OPERATIONS = [errors.OperationNotReady, errors.OperationTimeout, errors.OperationFailed, errors.OperationNotFound]
PLAIN = [errors.WxtcbError, errors.InvalidArgument, errors.SessionClosed, errors.WrongLoop, errors.TicketError]
ONE_OF_EACH = [
    *(kind("words", endpoint=PATH) for kind in PLAIN),
    errors.SendVetoed(endpoint=PATH),
    errors.TicketMissing(),
    errors.TicketExpired(50_000.0),
    errors.TokenFetchLimit(30, 12.0),
    errors.TokenConflict(5, 16.0),
    errors.TokenStoreError("failed (OSError in x.py, line 3)"),
    errors.TransportError("no reply in time", endpoint=PATH, sent=True, timeout=True),
    errors.BadReply("a redirect", endpoint=PATH, status=302, permanent=True),
    errors.OutcomeUnknown(noted(errors.CloudUnavailable(-1000, "system error", endpoint=PATH)), endpoint=PATH),
    errors.PartialFailure(ShareResult(err_list=(REFUSED_APP,)), [REFUSED_APP], endpoint=PATH),
    errors.TransferError("no luck", status=403, code="AccessDenied", request_id="r-1", stored=None, bytes_sent=7),
    *(kind("still running", resource="job 7", status="running") for kind in OPERATIONS),
    *(kind(40097, "invalid args", endpoint=PATH, rid="5f-a", hint="Look.") for kind in API_KINDS),
]


def facts(value):
    """Return all that an error says, as something to compare."""
    if isinstance(value, BaseException):
        return type(value), str(value), repr(value), {name: facts(kept) for name, kept in vars(value).items()}
    return value


def test_every_code_of_the_platform_has_an_advice_of_its_own():
    """No code that the platform's pages name is unknown."""
    assert [code for code in map(int, KNOWN.split()) if code not in ERRCODES] == []


@pytest.mark.parametrize(("kind", "codes"), POLICY, ids=lambda each: getattr(each, "__name__", None))
def test_a_code_is_of_the_class_that_its_treatment_names(kind, codes):
    """Codes that want the same from the catcher share a class."""
    assert {code: type(api_error(code, "", endpoint=PATH)) for code in codes} == dict.fromkeys(codes, kind)


def test_a_permanent_code_is_raised_at_once_whatever_the_call():
    """What the platform's pages call permanent is never sent again."""
    verdicts = {
        decide(repeat, classify(api_error(int(code), "", endpoint=PATH)))
        for repeat, code in product(Repeat, PERMANENT.split())
    }
    assert verdicts == {RetryDecision.RAISE}


@pytest.mark.parametrize("code", sorted(ERRCODES))
def test_the_message_of_a_code_ends_with_its_advice(code):
    """Path, code, errmsg and effect come first, then a sentence on what to do."""
    kind, advice = ERRCODES[code]
    effect = (
        "It may have taken effect." if kind in (errors.PlatformBusy, errors.CloudUnavailable) else "It had no effect."
    )
    assert str(api_error(code, "the errmsg", endpoint=PATH)) == f"{PATH}: {code} the errmsg. {effect} {advice}"
    assert len(advice.split()) > 2
    assert advice.endswith(".")


@pytest.mark.parametrize(("code", "words"), WHAT_TO_DO)
def test_the_message_says_what_to_do(code, words):
    """The advice is the one that mends this very failure."""
    assert words in str(api_error(code, "", endpoint=PATH))


@pytest.mark.parametrize("code", [-1, -1000, -501001, -601003])
def test_what_fails_inside_the_platform_may_have_taken_effect(code):
    """-1, -1000 and the cloud's passing faults say so; nobody takes them for a plain no."""
    assert "It may have taken effect." in str(api_error(code, "system error", endpoint=PATH))


@pytest.mark.parametrize(
    ("code", "kind"),
    [(-502999, errors.CloudError), (-10000, errors.CloudError), (-2, errors.ApiError), (99999, errors.ApiError)],
)
def test_an_unknown_code_is_an_api_error_that_says_where_to_look(code, kind):
    """Unknown codes of the cloud are `CloudError`, others plain `ApiError`; both are looked up by rid."""
    error = api_error(code, "what", endpoint=PATH)
    assert type(error) is kind
    assert "Unknown to wxtcb: look errcode and rid up" in str(error)


def test_an_api_error_carries_what_the_platform_said():
    """errcode, errmsg, rid and the path are attributes."""
    error = api_error(40097, "invalid args rid: 5f-a", endpoint=PATH, rid="5f-a")
    said = (error.errcode, error.errmsg, error.rid, error.endpoint, error.maybe_acted, error.retry_after)
    assert said == (40097, "invalid args rid: 5f-a", "5f-a", PATH, 0, None)


@pytest.mark.parametrize("code", [40001, 40014, 40094, 42001, 40125])
def test_a_dead_token_on_a_call_without_one_means_the_secret(code):
    """The call that buys the token can only have sent a wrong app secret."""
    error = api_error(code, "invalid credential", endpoint=PATH, without_token=True)
    assert type(error) is errors.InvalidAppSecret
    assert "Check component_appsecret" in str(error)
    assert error.errcode == code


def test_a_call_without_token_gets_other_codes_as_they_are():
    """Only the dead-token codes read differently there."""
    assert type(api_error(61005, "", endpoint=PATH, without_token=True)) is errors.InvalidTicket


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (errors.InvalidArgument, ValueError),
        (errors.OperationTimeout, TimeoutError),
        (errors.InvalidTicket, errors.TicketError),
        (errors.InvalidTicket, errors.ApiError),
    ],
)
def test_an_error_is_caught_by_the_name_a_caller_would_think_of(kind, also):
    """Some errors are also of Python's class, or of a second branch."""
    assert issubclass(kind, also)


def test_everything_raised_has_one_base():
    """Every exception class of the module is a `WxtcbError`."""
    defined = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)}
    assert defined == kinds_of(errors.WxtcbError)


def test_every_error_names_the_module_that_one_imports_it_from():
    """In a traceback and a pickle each class is of `wxtcb.errors`, wherever it is written."""
    assert {kind.__module__ for kind in kinds_of(errors.WxtcbError)} == {"wxtcb.errors"}
    assert sorted(kind.__name__ for kind in kinds_of(errors.WxtcbError)) == errors.__all__


def test_the_tree_drawn_on_top_names_every_class():
    """The drawing of the module shows each class of the tree."""
    drawn = {word for line in errors.__doc__.splitlines() for word in line.split()}
    assert {kind.__name__ for kind in kinds_of(errors.WxtcbError)} <= drawn


def test_one_of_each_error_is_tried_here():
    """No class of the tree is missing from the examples."""
    assert {type(error) for error in ONE_OF_EACH} == kinds_of(errors.WxtcbError)


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "travel",
    [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_an_error_travels_whole(travel, error):
    """Copied or pickled, an error keeps class, message, attributes and notes."""
    there = travel(noted(copy.copy(error)))
    assert facts(there) == facts(noted(copy.copy(error)))
    assert there.__notes__ == ["sent 2 times in 3.0 s"]
    assert str(there) == str(error) != ""


def test_a_copy_can_be_written_on_alone():
    """What is set on a copy does not show on the original."""
    error = api_error(-1, "", endpoint=PATH)
    copy.copy(error).retry_after = 9.0
    assert error.retry_after is None


def test_an_advice_joins_the_message():
    """`advise` adds a sentence, and the error stays what it was."""
    error = api_error(40097, "invalid args", endpoint=PATH)
    before = str(error)
    error.add_hint("Try env_type='run'.")
    assert str(error) == f"{before} Try env_type='run'."
    assert error.errcode == 40097


@pytest.mark.parametrize(("sent", "words"), [(True, "It may have reached the platform."), (False, "Nothing was sent.")])
def test_a_transport_error_says_whether_the_request_left(sent, words):
    """The message tells the two cases apart, for the next step depends on it."""
    error = errors.TransportError("no luck", endpoint=PATH, sent=sent)
    assert str(error) == f"{PATH}: no luck. {words}"
    assert (error.sent, error.timeout) == (sent, False)


def test_a_bad_reply_names_the_http_status():
    """Status and reason stand in the message, the status also as an attribute."""
    error = errors.BadReply("12 bytes, 'Bad Gateway'", endpoint=PATH, status=502)
    assert str(error) == f"{PATH}: HTTP 502, 12 bytes, 'Bad Gateway'."
    assert (error.status, error.permanent) == (502, False)


def test_an_unknown_outcome_says_why_and_what_to_do():
    """The error that hid the answer is its cause, and the caller is told to look."""
    cause = errors.TransportError("no reply in time", endpoint=PATH, sent=True, timeout=True)
    error = errors.OutcomeUnknown(cause, endpoint=PATH)
    assert error.cause is cause
    assert "no reply in time" in str(error)
    assert "Look whether it acted" in str(error)


def test_a_partial_failure_names_what_failed_and_keeps_the_rest():
    """The failed entries are named and attached, the reply with the good part too."""
    reply = ShareResult(err_list=(REFUSED_APP,))
    error = errors.PartialFailure(reply, [REFUSED_APP], endpoint=PATH)
    assert error.reply is reply
    assert error.failed == (REFUSED_APP,)
    assert "errcode 0, but 1 failed, and all others took effect" in str(error)
    assert "wx1" in str(error)


def test_a_partial_failure_of_many_stays_short():
    """The message quotes a few entries and counts the others, which stand in `failed`."""
    many = [ShareFailure(env="e", appid=f"wx{number}", errmsg="invalid appid") for number in range(500)]
    messages = {size: str(errors.PartialFailure(ShareResult(), many[:size], endpoint=PATH)) for size in (3, 4, 500)}
    assert "wx2" in messages[3]
    assert ["more" in messages[3], "and 1 more" in messages[4], "and 497 more" in messages[500]] == [False, True, True]
    assert len(messages[500]) < 500
    assert errors.PartialFailure(ShareResult(), many, endpoint=PATH).failed == tuple(many)


def test_the_ceiling_says_when_the_next_fetch_is_allowed():
    """It tells the number, the wait, and the usual reason."""
    error = errors.TokenFetchLimit(30, 1234.4)
    assert error.retry_after == 1234.4
    assert "30 component_access_tokens" in str(error)
    assert "1234 s" in str(error)
    assert "share one token_store" in str(error)


def test_an_environment_that_is_not_ready_is_named():
    """The id stands in the message and, with the last status, as an attribute."""
    error = errors.EnvironmentFailed("HALTED: stopped", env="e-1", status="HALTED")
    assert (str(error), error.env, error.status) == ("environment e-1: HALTED: stopped", "e-1", "HALTED")


def test_an_operation_that_is_not_ready_is_named():
    """What was awaited stands in the message and, with the last status, as an attribute."""
    error = errors.OperationFailed("fail: no such file", resource="import job 7", status="fail")
    assert (str(error), error.resource, error.status) == ("import job 7: fail: no such file", "import job 7", "fail")
